"""The speed of a job that is watched."""

from __future__ import annotations

from backchain_tui.speed import Speed


def test_levels_go_up_to_no_limit_and_down_again() -> None:
    speed = Speed(1 << 20)
    speed.faster()
    assert speed.limit == 2 << 20
    for _ in range(30):
        speed.faster()
    assert speed.limit is None
    assert speed.text == "full speed"
    speed.slower(rate=10 << 20)
    assert speed.limit == 5 << 20
    for _ in range(30):
        speed.slower(rate=0)
    assert speed.limit is not None
    assert speed.limit > 0
