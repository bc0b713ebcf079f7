"""Rebase by keyboard: the new backing file is chosen on the diagram or from a list, and QEMU judges the chain."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from backchain.operations import Rebase
from backchain_tui.choice import RebaseChoice
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.picker import Picker
from backchain_tui.screens.preview import PLAN_DELAY
from backchain_tui.screens.question import Question
from tests.core import qemu
from tests.tui.driving import (
    MIB,
    asked,
    ended_well,
    operation,
    picture,
    planned,
    put_cursor,
    running,
    text_of,
    until,
    words_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.pausing import Pause
    from backchain_tui.screens.operation import OperationScreen


def forest(folder: Path) -> dict[str, Path]:
    """Make base <- sn1 <- sn2 <- sn3, and other <- new beside it; new reads as base does, but for one cluster."""
    paths = {name: folder / f"{name}.qcow2" for name in ("base", "sn1", "sn2", "sn3", "other", "new")}
    backing = None
    for name in ("base", "sn1", "sn2", "sn3"):
        qemu.create(paths[name], 4 * MIB, backing=backing)
        backing = paths[name]
    qemu.io(paths["base"], "write -P 1 0 1M")
    qemu.io(paths["sn1"], "write -P 2 64k 64k", "write -P 3 2M 128k")
    qemu.io(paths["sn2"], "write -P 4 512k 64k", "write -z 128k 64k")
    qemu.io(paths["sn3"], "write -P 5 3M 64k")
    qemu.create(paths["other"], 4 * MIB)
    qemu.io(paths["other"], "write -P 1 0 1M")
    qemu.create(paths["new"], 4 * MIB, backing=paths["other"])
    qemu.io(paths["new"], "write -P 9 3M 192k")
    return paths


def onto(screen: OperationScreen) -> str | None:
    """Give the name of the new backing file that is chosen."""
    assert isinstance(screen.choice, RebaseChoice)
    return screen.graph[screen.choice.backing].label if screen.choice.backing is not None else None


async def test_method_2_by_keys_and_its_leftover_removed(tmp_path: Path) -> None:
    paths = forest(tmp_path)
    views = {name: qemu.view(path) for name, path in paths.items()}
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        screen = await planned(app, pilot)
        assert onto(screen) == "sn1", "Method (2): what backs the backing file"
        assert "sn3 → sn1" in text_of(app, "#picture")
        assert "sn2 still reads as before, but nothing needs it" in words_of(app, "#plan")
        assert "qemu-img rebase" in words_of(app, "#commands")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        assert "Verified: whole. D removes it." in words_of(app, "#job")
        await until(pilot, lambda: "Remove leftovers" in text_of(app, "KeyBar"))
        await pilot.press("D")
        await asked(app, pilot)
        assert "Removes sn2" in text_of(app, "#question")
        await pilot.press("enter")
        assert app.screen is screen
        assert paths["sn2"].exists(), "the safe answer has the keyboard"
        await pilot.press("D")
        await asked(app, pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: screen.ended and "removed" in text_of(app, "#job"))
        assert "sn2 is removed" in text_of(app, "#job")
        assert "DELETED" in text_of(app, "#picture")
        assert "Remove leftovers" not in text_of(app, "KeyBar")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        await until(pilot, lambda: picture(app).graph is not None and len(picture(app).graph or ()) == 5)
    assert not paths["sn2"].exists()
    assert qemu.info(paths["sn3"])["backing-filename"] == "sn1.qcow2"
    for name in ("base", "sn1", "sn3"):
        assert qemu.view(paths[name]) == views[name]
        assert qemu.check(paths[name]).clean


async def test_the_arrows_move_the_new_base_along_the_chain(tmp_path: Path) -> None:
    forest(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await planned(app, pilot)
        await pilot.press("left")
        screen = await planned(app, pilot)
        assert onto(screen) == "base"
        await pilot.press("right", "right")
        await until(pilot, lambda: onto(screen) == "sn2")
        await pilot.pause(0.1)
        assert screen.plan is None, "nothing would change"
        assert "is backed by sn2 already" in words_of(app, "#plan")
        assert "Run" not in text_of(app, "KeyBar")
        await pilot.press("right")
        assert onto(screen) == "sn2", "an image is not its own backing file"


async def test_onto_a_foreign_base_from_the_list(tmp_path: Path) -> None:
    paths = forest(tmp_path)
    views = {name: qemu.view(path) for name, path in paths.items()}
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await planned(app, pilot)
        await pilot.press("o")
        assert isinstance(app.screen, Picker)
        listed = text_of(app, "#picker")
        assert "below it now" in listed
        assert "sn3 " not in "".join(line for line in listed.splitlines() if "qcow2" in line)
        await pilot.press(*"on oth", "enter")
        screen = await planned(app, pilot)
        assert onto(screen) == "new"
        shown = text_of(app, "#picture")
        row = next(line for line in shown.splitlines() if "sn3" in line and "sn2" in line and "→" not in line)
        assert row.index("other") < row.index("new") < row.index("base") < row.index("sn3")
        assert screen.plan is not None
        assert [screen.graph[i].label for i in screen.plan.removable] == ["sn2", "sn1", "base"]
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert qemu.info(paths["sn3"])["backing-filename"] == "new.qcow2"
    for name, path in paths.items():
        assert qemu.view(path) == views[name]
        assert qemu.check(path).clean


async def test_the_list_leaves_out_what_cannot_be(tmp_path: Path) -> None:
    forest(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn1")
        await pilot.press("r")
        await until(pilot, lambda: picture(app) is not app.screen_stack[0])
        screen = operation(app)
        assert isinstance(screen.choice, RebaseChoice)
        names = [screen.graph[i].label for i in screen.choice.candidates()]
        assert names == ["base", "new", "other"]
        assert onto(screen) is None
        await pilot.press("o", "escape")
        assert app.screen is screen


async def test_without_a_backing_file_and_with_one_again(tmp_path: Path) -> None:
    paths = forest(tmp_path)
    view = qemu.view(paths["sn3"])
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await planned(app, pilot)
        await pilot.press("n")
        screen = await planned(app, pilot)
        assert onto(screen) is None
        await pilot.press("n")
        screen = await planned(app, pilot)
        assert onto(screen) == "sn1"
        await pilot.press("n")
        await planned(app, pilot)
        assert "stands alone" in words_of(app, "#plan")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert "backing-filename" not in qemu.info(paths["sn3"])
    assert qemu.view(paths["sn3"]) == view
    assert qemu.check(paths["sn3"]).clean


async def test_the_link_alone(tmp_path: Path) -> None:
    paths = forest(tmp_path)
    same = tmp_path / "same.qcow2"
    qemu.run("cp", paths["sn2"], same)
    view, data = qemu.view(paths["sn3"]), qemu.digest(same)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await planned(app, pilot)
        await pilot.press("u")
        screen = await planned(app, pilot)
        assert isinstance(screen.choice.operation(), Rebase)
        assert "rebase -u  sn3 → sn1" in text_of(app, "#picture")
        assert "unsafe-rebase" in words_of(app, "#plan"), "sn1 reads differently"
        await pilot.press("enter")
        assert isinstance(app.screen, Question)
        await pilot.press("enter", "o", *"same", "enter")
        screen = await planned(app, pilot)
        assert onto(screen) == "same"
        assert "only the link changes" in text_of(app, "#picture")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert qemu.info(paths["sn3"])["backing-filename"] == "same.qcow2"
    assert qemu.view(paths["sn3"]) == view
    assert qemu.digest(same) == data


async def test_a_base_gets_a_backing_file(tmp_path: Path) -> None:
    paths = forest(tmp_path)
    view = qemu.view(paths["sn3"])
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "base")
        await pilot.press("r")
        await until(pilot, lambda: picture(app) is not app.screen_stack[0])
        await until(pilot, lambda: "has no backing file; o chooses one" in words_of(app, "#plan"))
        await pilot.press("o", *"other", "enter")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert qemu.info(paths["base"])["backing-filename"] == "other.qcow2"
    assert qemu.view(paths["sn3"]) == view
    assert qemu.check(paths["base"]).clean


async def test_a_slow_plan_says_so_and_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forest(tmp_path)
    begun, release = threading.Event(), threading.Event()
    async with running(tmp_path) as (app, pilot):
        plan = app.session.plan

        def slow(*arguments: object) -> object:
            begun.set()
            release.wait(30)
            return plan(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(app.session, "plan", slow)
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await until(pilot, lambda: begun.is_set() and "Comparing" in words_of(app, "#plan"))
        assert "comparing…" in text_of(app, "#picture"), "the picture of the chain is there already"
        assert "AFTER" in text_of(app, "#picture")
        await pilot.press("enter")
        assert operation(app).job_run is None
        await pilot.press("left")
        await until(pilot, lambda: onto(operation(app)) == "base")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        assert not release.is_set(), "nobody waited for the plan"
    assert not release.is_set(), "nor did the end of the program"
    release.set()


@pytest.mark.parametrize("key", ["escape", "left"])
async def test_a_plan_that_nobody_waits_for_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """It may be reading disks of a terabyte, and the next choice waits for its end."""
    forest(tmp_path)
    begun, ended = threading.Event(), threading.Event()
    async with running(tmp_path) as (app, pilot):
        plan = app.session.plan

        def endless(graph: ChainGraph, wanted: Rebase, pause: Pause) -> object:
            if begun.is_set():
                return plan(graph, wanted, pause)
            begun.set()
            try:
                while True:
                    pause()
                    time.sleep(0.001)
            finally:
                ended.set()

        monkeypatch.setattr(app.session, "plan", endless)
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await until(pilot, begun.is_set)
        assert not ended.is_set()
        await pilot.press(key)
        await until(pilot, ended.is_set)
        if key == "left":
            assert (await planned(app, pilot)).plan is not None


async def test_plans_are_made_one_at_a_time_and_the_latest_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forest(tmp_path)
    begun: list[str] = []
    release = threading.Semaphore(0)
    async with running(tmp_path) as (app, pilot):
        plan = app.session.plan

        def slow(graph: ChainGraph, wanted: Rebase, pause: Pause) -> object:
            begun.append(graph[wanted.backing].label if wanted.backing is not None else "none")
            release.acquire(timeout=30)
            return plan(graph, wanted, pause)

        monkeypatch.setattr(app.session, "plan", slow)
        await put_cursor(app, pilot, "sn3")
        await pilot.press("r")
        await until(pilot, lambda: begun)
        for key in ("left", "n", "n", "right"):
            await pilot.press(key)
            await pilot.pause(2 * PLAN_DELAY)
        last = onto(operation(app))
        assert begun == ["sn1"], "the others wait"
        release.release()
        await until(pilot, lambda: len(begun) == 2)
        assert operation(app).plan is None, "nobody wants to know the first any more"
        release.release()
        screen = await planned(app, pilot)
        assert begun == ["sn1", last]
        assert screen.plan is not None
        assert screen.plan.operation == screen.choice.operation()
        await pilot.press("left")
        await until(pilot, lambda: len(begun) == 3)
        await pilot.press("n")
        await pilot.pause(2 * PLAN_DELAY)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        release.release()
        await pilot.pause(0.3)
        assert len(begun) == 3, "what waited when the screen was left is never begun"
