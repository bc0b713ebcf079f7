"""The speed of a job that is watched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain_tui.speed import Speed
from tests.tui.driving import figure, planned, running, text_of, until

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_plus_and_minus_are_told_for_what_they_do(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, lab=True) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("enter", "space")
        assert screen.job_run is not None
        job = screen.job_run.job
        await until(pilot, lambda: "Faster" in text_of(app, "KeyBar"))
        await until(pilot, lambda: text_of(app, "TitleBar").endswith("paused"))
        await until(pilot, lambda: screen.map.view is not None)
        limit = job.bytes_per_second
        await pilot.press("2")
        await until(pilot, lambda: "Zoom in" in text_of(app, "KeyBar"))
        assert "Faster" not in text_of(app, "KeyBar")
        await pilot.press("minus")
        assert job.bytes_per_second == limit
        await pilot.press("0")
        await until(pilot, lambda: "Faster" in text_of(app, "KeyBar"))
        await pilot.press("minus")
        assert job.bytes_per_second is not None
        assert limit is not None
        assert job.bytes_per_second < limit
        await pilot.press("x")
        await until(pilot, lambda: screen.ended)
