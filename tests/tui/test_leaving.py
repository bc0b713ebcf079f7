"""What ends, and what is brought to its end, when a screen is left."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

import backchain.advice
import backchain.recovery
from backchain.errors import ImageInUseError, JobCancelledError
from backchain.journal import read_journals
from backchain.operations import Commit
from backchain.pausing import go_on
from backchain.planning import make_plan
from backchain.recovery import Tidied, tidy_up
from backchain_tui.actions import Where, valid_actions
from backchain_tui.screens.advisor import AdvisorScreen
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.question import Question
from tests.core import qemu
from tests.tui.command_line import stopped_amid
from tests.tui.driving import (
    asked,
    begin_to_finish,
    branches,
    ended_well,
    figure,
    planned,
    put_cursor,
    running,
    text_of,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.pausing import Pause
    from backchain.plan import Plan
    from backchain.record import Record


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


async def test_leaving_while_a_recovery_is_closed_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Nothing is left to be cancelled, so nobody is asked."""
    paths = figure(tmp_path)
    stopped_amid("pull", paths["Snap-4"], number=signal.SIGKILL)
    begun, leaving = threading.Event(), threading.Event()

    def held_up(record: Record, *, finished: bool = False) -> Tidied:
        begun.set()
        assert leaving.wait(30)
        return tidy_up(record, finished=finished)

    monkeypatch.setattr(backchain.recovery, "tidy_up", held_up)
    async with running(tmp_path) as (app, pilot):
        await begin_to_finish(app, pilot)
        await until(pilot, begun.is_set)
        await until(pilot, lambda: "Pause" not in text_of(app, "KeyBar"))
        assert "Help" in text_of(app, "KeyBar")
        threading.Timer(0.1, leaving.set).start()
        await pilot.press("ctrl+q")
        await until(pilot, lambda: app.return_code is not None or isinstance(app.screen, Question))
        assert app.return_code == 0
        assert not read_journals([tmp_path])


@pytest.mark.parametrize("key", ["escape", "q", "enter"])
async def test_a_recovery_is_closed_whichever_way_its_last_step_is_left(tmp_path: Path, key: str) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    stopped_amid("pull", paths["Snap-4"], number=signal.SIGKILL)
    assert read_journals([tmp_path])
    async with running(tmp_path) as (app, pilot):
        await begin_to_finish(app, pilot)
        await ended_well(app, pilot)
        await pilot.press(key)
    assert not read_journals([tmp_path])
    assert qemu.view(paths["Snap-4"]) == view
    assert qemu.check(paths["Snap-4"]).clean


async def test_a_recovery_that_could_not_be_closed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    paths = figure(tmp_path)
    stopped_amid("pull", paths["Snap-4"], number=signal.SIGKILL)
    tries: list[bool] = []

    def busy_at_first(record: Record, *, finished: bool = False) -> Tidied:
        tries.append(finished)
        if len(tries) == 1:
            raise ImageInUseError("Snap-4.qcow2 is in use")
        return tidy_up(record, finished=finished)

    monkeypatch.setattr(backchain.recovery, "tidy_up", busy_at_first)
    async with running(tmp_path) as (app, pilot):
        await begin_to_finish(app, pilot)
        screen = await ended_well(app, pilot)
        assert "Snap-4.qcow2 is in use" in await asked(app, pilot)
        assert read_journals([tmp_path])
        await pilot.press("enter", "enter")
        await until(pilot, lambda: Where.NEXT not in screen.where())
    assert tries == [True, True]
    assert not read_journals([tmp_path])


async def test_what_enter_does_after_a_job_is_told_once(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Golden")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, AdvisorScreen) and app.screen.query_one("#ways").display)
        await pilot.press("enter")
        for word in ("Next step", "Back"):
            await planned(app, pilot)
            await pilot.press("enter", "y")
            screen = await ended_well(app, pilot)
            titles = [c.title for c in app.get_system_commands(screen)]
            assert len(titles) == len(set(titles))
            assert [a.text for a in valid_actions(screen.where()) if "enter" in a.keys.split(",")] == [word]
            await pilot.press("enter")
