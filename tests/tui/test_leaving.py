"""What ends, and what is brought to its end, when a screen is left."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import backchain.advice
from backchain.errors import JobCancelledError
from backchain.operations import Commit
from backchain.pausing import go_on
from backchain.planning import make_plan
from backchain_tui.screens.browse import BrowseScreen
from tests.tui.driving import figure, put_cursor, running, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.pausing import Pause
    from backchain.plan import Plan


async def test_counting_the_ways_ends_when_nobody_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be comparing disks of a terabyte: its reads are held up until the screen has been left."""
    figure(tmp_path)
    begun, left, ended = threading.Event(), threading.Event(), threading.Event()
    plans: list[type[object]] = []

    def held_up(graph: ChainGraph, operation: Operation, *, pause: Pause = go_on) -> Plan:
        def hold() -> None:
            begun.set()
            assert left.wait(30)
            pause()

        plans.append(type(operation))
        try:
            return make_plan(graph, operation, pause=hold)
        except JobCancelledError:
            ended.set()
            raise

    monkeypatch.setattr(backchain.advice, "make_plan", held_up)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-2")
        await pilot.press("d")
        await until(pilot, begun.is_set)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        left.set()
        await until(pilot, lambda: ended.is_set() or len(plans) > 2)
    assert ended.is_set()
    assert plans == [Commit], "the other ways are not counted any more"
