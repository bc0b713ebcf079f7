"""Snapshot, delete, the advisor and the removal of leftovers by keyboard, judged by QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from backchain.image import ImageState
from backchain_tui.formatting import short_size
from backchain_tui.screens.advisor import AdvisorScreen, WayCard
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.question import Question
from tests.core import qemu
from tests.tui.driving import (
    MIB,
    asked,
    branches,
    ended_well,
    figure,
    label,
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

    import pytest
    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp


async def back(app: BackchainApp, pilot: Pilot[None], images: int) -> None:
    """Go back to the forest and wait until it is read anew."""
    await pilot.press("escape")
    await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
    await until(pilot, lambda: len(picture(app).graph or ()) == images)


async def advised(app: BackchainApp, pilot: Pilot[None]) -> AdvisorScreen:
    await until(pilot, lambda: isinstance(app.screen, AdvisorScreen) and app.screen.query_one("#ways").display)
    await pilot.pause()
    assert isinstance(app.screen, AdvisorScreen)
    return app.screen


# --- snapshot -----------------------------------------------------------------------------------------------------


async def test_a_snapshot_with_the_proposed_name(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    before = {name: qemu.digest(path) for name, path in paths.items()}
    async with running(tmp_path) as (app, pilot):
        await pilot.press("s")
        assert isinstance(app.screen, NamingScreen)
        assert app.screen.query_one(Input).value == "Snap-5.qcow2"
        await pilot.press("enter")
        await planned(app, pilot)
        shown = text_of(app, "#picture")
        assert shown.count("Snap-5") == 2, "in the title and on the lower row alone"
        assert "new and empty" in shown
        assert "≤" in shown
        assert "the machine must use Snap-5 from then on" in words_of(app, "#plan")
        assert "qemu-img create" in words_of(app, "#commands")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        assert "Snap-5 is backed by Snap-4" in text_of(app, "#job")
        assert "clusters" not in text_of(app, "#job"), "there was nothing to count"
        size = short_size(qemu.info(tmp_path / "Snap-5.qcow2")["actual-size"])
        assert f" {size} " in text_of(app, "#picture"), "what is there is no bound"
        assert "≤" not in text_of(app, "#picture")
        await back(app, pilot, 6)
    made = tmp_path / "Snap-5.qcow2"
    assert qemu.info(made)["backing-filename"] == "Snap-4.qcow2"
    assert qemu.info(made)["backing-filename-format"] == "qcow2"
    assert qemu.compare(made, paths["Snap-4"])
    assert qemu.check(made).clean
    assert before == {name: qemu.digest(path) for name, path in paths.items()}


async def test_a_name_is_judged_as_it_is_typed(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Golden")
        await pilot.press("s")
        field = app.screen.query_one(Input)
        assert field.value == "Golden-1.qcow2"
        for typed, problem in (
            ("Web.qcow2", "Web.qcow2 exists already."),
            ("", "Give the new overlay a name."),
            ("nowhere/x.qcow2", "is not a folder."),
            ("x" * 300, "longer than 255 bytes."),
        ):
            field.value = typed
            await pilot.pause()
            assert problem in words_of(app, "#naming-problem")
            await pilot.press("enter")
            assert isinstance(app.screen, NamingScreen)
        field.value = "Golden-test.qcow2"
        await pilot.pause()
        assert not text_of(app, "#naming-problem").strip("│ ")
        await pilot.press("enter")
        await planned(app, pilot)
        assert "Mail" in text_of(app, "#picture"), "the overlays that it has already are shown"
        await pilot.press("o")
        assert app.screen.query_one(Input).value == "Golden-test.qcow2"
        app.screen.query_one(Input).value = "Golden-2.qcow2"
        await pilot.press("enter")
        await until(pilot, lambda: "Golden-2" in text_of(app, "#picture"))
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert qemu.compare(tmp_path / "Golden-2.qcow2", paths["Golden"])
    assert not (tmp_path / "Golden-test.qcow2").exists()


async def test_a_file_that_comes_in_between_is_not_overwritten(tmp_path: Path) -> None:
    figure(tmp_path)
    rival = tmp_path / "Snap-5.qcow2"
    async with running(tmp_path) as (app, pilot):
        await pilot.press("s", "enter")
        await planned(app, pilot)
        rival.write_bytes(b"mine")
        await pilot.press("enter", "y")
        await asked(app, pilot)
        assert "exists already" in text_of(app, "#question")
    assert rival.read_bytes() == b"mine"


# --- delete -------------------------------------------------------------------------------------------------------


async def test_what_nothing_needs_is_deleted_after_a_question(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path, lab=True) as (app, pilot):
        await pilot.press("d")
        await planned(app, pilot)
        assert "DELETED" in text_of(app, "#picture")
        assert "frees" in text_of(app, "#plan")
        await pilot.press("enter")
        assert isinstance(app.screen, Question), "even a lab asks before a file is removed"
        await pilot.press("enter")
        assert paths["Snap-4"].exists()
        await pilot.press("enter", "left", "enter")
        await ended_well(app, pilot)
        assert "Snap-4 is removed" in text_of(app, "#job")
        assert "Remove leftovers" not in text_of(app, "KeyBar")
        await back(app, pilot, 4)
        assert label(app) == "Snap-3"
    assert not paths["Snap-4"].exists()
    assert all(p.exists() for n, p in paths.items() if n != "Snap-4")


async def test_an_image_in_use_is_not_deleted(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    with qemu.held_open(paths["Snap-4"]):
        async with running(tmp_path) as (app, pilot):
            await pilot.press("d")
            await planned(app, pilot)
            assert "in-use" in text_of(app, "#plan")
            await pilot.press("enter")
            assert "This cannot run" in text_of(app, "#question")
    assert paths["Snap-4"].exists()


async def test_method_1_as_one_action(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view, committed = qemu.view(paths["Snap-4"]), qemu.view(paths["Snap-3"])
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        screen = await ended_well(app, pilot)
        assert "D removes them." in words_of(app, "#job")
        await pilot.press("D")
        await asked(app, pilot)
        assert "Snap-1, Snap-2 and Snap-3" in words_of(app, "#question")
        await pilot.press("left", "enter")
        await until(pilot, lambda: screen.ended and "removed" in text_of(app, "#job"))
        await back(app, pilot, 2)
    assert not any(paths[f"Snap-{n}"].exists() for n in (1, 2, 3))
    assert qemu.view(paths["Snap-4"]) == view
    assert qemu.view(paths["RootBase"]) == committed
    assert not list(tmp_path.glob(".backchain*")), "no journal remembers what is gone"


async def test_what_a_pull_leaves_is_kept_in_mind_and_can_go_later(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("p")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        await back(app, pilot, 5)
        graph = picture(app).graph
        assert graph is not None
        states = {i.label: i.state for i in graph.images.values()}
        assert [n for n, s in states.items() if s is ImageState.UNNEEDED] == ["Snap-1", "Snap-2", "Snap-3"]
        await put_cursor(app, pilot, "Snap-3")
        await pilot.press("d")
        await planned(app, pilot)
        await pilot.press("enter", "left", "enter")
        await ended_well(app, pilot)
    assert not paths["Snap-3"].exists()


async def test_leftovers_that_something_needs_by_now_stay(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("p")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        screen = await ended_well(app, pilot)
        qemu.create(tmp_path / "Late.qcow2", None, backing=paths["Snap-2"])
        await pilot.press("D")
        await asked(app, pilot)
        assert "needed-file" in text_of(app, "#question")
        await pilot.press("enter")
        assert app.screen is screen
    assert paths["Snap-2"].exists()


async def test_no_removal_is_offered_after_a_cancelled_job(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, lab=True) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("enter", "space")
        await pilot.press("x")
        await until(pilot, lambda: screen.ended)
        await pilot.pause()
        assert "Remove leftovers" not in text_of(app, "KeyBar")
        await pilot.press("D")
        assert app.screen is screen


# --- the advisor --------------------------------------------------------------------------------------------------


async def test_the_advisor_compares_the_ways_and_recommends_the_cheapest(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-2")
        await pilot.press("d")
        screen = await advised(app, pilot)
        down, up, flatten = (words_of(app, f"#way-{n}") for n in range(3))
        assert "Commit Snap-2 into Snap-1." in down
        assert "invalid Snap-2" in down
        assert "Rebase Snap-3 onto Snap-1." in up
        assert "invalid nothing" in up
        assert "recommended" in up
        assert "Pull everything into Snap-3, which then stands alone." in flatten
        assert isinstance(screen.focused, WayCard)
        assert screen.focused.id == "way-1"
        await pilot.press("enter")
        await planned(app, pilot)
        assert "rebase  Snap-3 → Snap-1" in text_of(app, "#picture")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        await pilot.press("D")
        await asked(app, pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: "removed" in text_of(app, "#job"))
    assert not paths["Snap-2"].exists()
    assert qemu.info(paths["Snap-3"])["backing-filename"] == "Snap-1.qcow2"
    assert qemu.view(paths["Snap-4"]) == view


async def test_the_advisor_chooses_by_arrow(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-2")
        await pilot.press("d")
        await advised(app, pilot)
        await pilot.press("left", "enter")
        await planned(app, pilot)
        assert "block-commit  Snap-2 → Snap-1" in text_of(app, "#picture")
        await pilot.press("escape", "d")
        await advised(app, pilot)
        await pilot.press("right", "enter")
        await planned(app, pilot)
        assert "block-stream (pull)" in text_of(app, "#picture")
        await pilot.press("escape", "d")
        await advised(app, pilot)
        await pilot.press("escape")
        assert isinstance(app.screen, BrowseScreen)


async def test_down_is_refused_where_siblings_stand_and_up_is_offered(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    qemu.create(tmp_path / "Web-2.qcow2", MIB, backing=paths["Web"])
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Web")
        await pilot.press("d")
        await advised(app, pilot)
        assert "sibling-corruption" in words_of(app, "#way-0")
        assert "recommended" in words_of(app, "#way-1")


async def test_a_base_with_two_overlays_goes_step_by_step(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    views = {name: qemu.view(paths[name]) for name in ("Web", "Mail")}
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Golden")
        await pilot.press("d")
        screen = await advised(app, pilot)
        assert "Not possible" in words_of(app, "#way-0")
        assert "Not possible" in words_of(app, "#way-1")
        assert "Pull everything into Mail and Web, which then stand alone." in words_of(app, "#way-2")
        assert "steps 2, one per overlay" in words_of(app, "#way-2")
        assert screen.focused is screen.query_one("#way-2")
        await pilot.press("enter")
        await planned(app, pilot)
        assert "step 1 of 2" in text_of(app, "TitleBar")
        await pilot.press("enter", "y")
        screen = await ended_well(app, pilot)
        assert "Enter goes on." in words_of(app, "#job")
        await until(pilot, lambda: "Next step" in text_of(app, "KeyBar"))
        await pilot.press("enter")
        await until(pilot, lambda: not operation(app).ended)
        await planned(app, pilot)
        assert "step 2 of 2" in text_of(app, "TitleBar")
        assert [n.message for n in app._notifications] == [], "no arrow was pressed that could be refused"
        assert "Web" in text_of(app, "#picture")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        assert "Next step" not in text_of(app, "KeyBar")
        assert "D removes it." in words_of(app, "#job")
        await pilot.press("D")
        await asked(app, pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: "Golden is removed" in text_of(app, "#job"))
        await back(app, pilot, 2)
    assert not paths["Golden"].exists()
    for name, view in views.items():
        assert "backing-filename" not in qemu.info(paths[name])
        assert qemu.view(paths[name]) == view


async def test_counting_the_ways_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    import backchain.advice

    figure(tmp_path)
    release = threading.Event()
    monkeypatch.setattr(backchain.advice, "advise", lambda *_: release.wait(30))
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-2")
        await pilot.press("d")
        await until(pilot, lambda: "Counting what each way costs" in text_of(app, "#advisor"))
        await pilot.press("enter")
        assert isinstance(app.screen, AdvisorScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, BrowseScreen)
    assert not release.is_set()
    release.set()
