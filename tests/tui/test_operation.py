"""Commit and pull by keyboard, from the diagram to the finished chain on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.image import ImageState
from backchain.jobs import JobState
from backchain.operations import Commit, Pull
from backchain_tui.choice import RangeChoice
from backchain_tui.formatting import short_size
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.operation import OperationScreen
from backchain_tui.screens.question import Question
from backchain_tui.widgets.job_panel import JobPanel
from tests.core import qemu
from tests.tui.driving import (
    MIB,
    asked,
    branches,
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

    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp


def chosen(screen: OperationScreen) -> tuple[str, str | None]:
    """Give the names of top (or image) and base."""
    assert isinstance(screen.choice, RangeChoice)
    base = screen.choice.base
    return screen.graph[screen.choice.top].label, screen.graph[base].label if base is not None else None


async def finish(app: BackchainApp, pilot: Pilot[None]) -> OperationScreen:
    screen = operation(app)
    await until(pilot, lambda: screen.ended)
    await pilot.pause()
    return screen


async def test_commit_of_the_figure_end_to_end(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    committed = qemu.view(paths["Snap-3"])
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-3", "RootBase")
        assert "Snap-1 … Snap-3 → RootBase" in text_of(app, "#picture")
        assert "AFTER" in text_of(app, "#picture")
        assert "Snap-1, Snap-2 and Snap-3 are invalid afterwards" in " ".join(text_of(app, "#plan").split())
        assert "qemu-img commit" in " ".join(text_of(app, "#commands").split())
        await pilot.press("enter")
        assert isinstance(app.screen, Question)
        await pilot.press("y")
        screen = await finish(app, pilot)
        assert screen.job_run is not None
        assert screen.job_run.job.state is JobState.DONE
        assert "Snap-1, Snap-2 and Snap-3 are invalid now; nothing needs them." in text_of(app, "#job")
        size = short_size(qemu.info(paths["RootBase"])["actual-size"])
        assert f" {size} " in "".join(text_of(app, "#picture").partition("AFTER")[0].splitlines()[-6:])
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        await until(pilot, lambda: marked(app) == {"Snap-1", "Snap-2", "Snap-3"})
        await put_cursor(app, pilot, "Snap-4")
        await pilot.press("c")
        screen = await planned(app, pilot)
        assert screen.plan is not None
        assert screen.plan.stopping() == (), "what was left invalid blocks nothing"
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "RootBase.qcow2"
    assert qemu.view(paths["Snap-4"]) == view
    assert qemu.view(paths["RootBase"]) == committed
    for name in ("RootBase", "Snap-4"):
        assert qemu.check(paths[name]).clean


async def test_an_invalid_image_that_is_written_anew_is_valid_again(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await finish(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "Snap-1" in marked(app))
        qemu.io(paths["Snap-1"], "write -P 7 0 64k")
        await pilot.press("f5")
        await until(pilot, lambda: "Snap-1" not in marked(app))
        assert "Snap-2" in marked(app)


def marked(app: BackchainApp) -> set[str]:
    """Give the names of the images that are shown as invalid."""
    graph = picture(app).graph
    return {i.label for i in graph.images.values() if i.state is ImageState.INVALID} if graph is not None else set()


async def test_the_active_layer_is_committed_as_the_help_says(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("question_mark")
        told = "On the active layer of a longer chain the range begins below it; tab and an arrow take it in, too."
        assert told in words_of(app, "#help")
        await pilot.press("escape", "c")
        assert chosen(await planned(app, pilot)) == ("Snap-3", "RootBase")
        await pilot.press("tab", "right")
        assert chosen(await planned(app, pilot)) == ("Snap-4", "RootBase")


async def test_nothing_is_run_before_its_plan_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure(tmp_path)
    monkeypatch.setattr(OperationScreen, "_start_plan", lambda *_: None)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c", "enter")
        assert [n.message for n in app._notifications] == ["The plan is not there yet; once it is, Enter runs it."]
        assert operation(app).job_run is None


async def test_pull_of_the_figure_end_to_end(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    views = {name: qemu.view(path) for name, path in paths.items()}
    async with running(tmp_path) as (app, pilot):
        await pilot.press("p")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-4", "RootBase")
        assert "invalid" not in text_of(app, "#plan")
        await pilot.press("enter", "y")
        await finish(app, pilot)
        assert "Nothing needs Snap-1, Snap-2 and Snap-3 any more." in text_of(app, "#job")
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "RootBase.qcow2"
    for name, path in paths.items():
        assert qemu.view(path) == views[name]
        assert qemu.check(path).clean


async def test_pull_without_base_stands_alone(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    async with running(tmp_path) as (app, pilot):
        await pilot.press("p")
        await planned(app, pilot)
        await pilot.press("n")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-4", None)
        assert "stands alone" in " ".join(text_of(app, "#plan").split())
        await pilot.press("enter", "y")
        await finish(app, pilot)
    assert "backing-filename" not in qemu.info(paths["Snap-4"])
    assert qemu.view(paths["Snap-4"]) == view


async def test_the_range_follows_the_cursor(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("right")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-3", "Snap-1")
        assert isinstance(screen.choice.operation(), Commit)
        assert "Snap-2, Snap-3 → Snap-1" in text_of(app, "#picture")
        await pilot.press("tab")
        assert label(app) == "Snap-3"
        await pilot.press("left")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-2", "Snap-1")
        await put_cursor(app, pilot, "RootBase")
        assert chosen(screen) == ("Snap-2", "Snap-1")
        await pilot.press("b")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-2", "RootBase")
        await put_cursor(app, pilot, "Snap-3")
        await pilot.press("t")
        screen = await planned(app, pilot)
        assert chosen(screen) == ("Snap-3", "RootBase")
        await pilot.press("escape")
        assert isinstance(app.screen, BrowseScreen)


async def test_a_blocking_hazard_is_explained(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    before = {name: qemu.digest(path) for name, path in paths.items()}
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Web")
        await pilot.press("c")
        await planned(app, pilot)
        plan = " ".join(text_of(app, "#plan").split())
        assert "Cannot run" in plan
        assert "sibling-corruption" in plan
        await pilot.press("y")
        assert not app.clipboard, "other tools would do the harm that is refused here"
        assert "Copy commands" not in {b.binding.description for b in app.screen.active_bindings.values() if b.enabled}
        await pilot.press("enter")
        assert isinstance(app.screen, Question)
        assert "sibling-corruption" in text_of(app, "#question")
        await pilot.press("enter")
        assert operation(app).job_run is None
    assert before == {name: qemu.digest(path) for name, path in paths.items()}


async def test_a_hazard_to_confirm_wants_its_code(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    qemu.run("qemu-img", "snapshot", "-c", "s1", paths["Snap-3"])
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        assert screen.plan is not None
        assert [h.code for h in screen.plan.stopping()] == ["internal-snapshots"]
        await pilot.press("enter")
        await pilot.press(*"internal-snap", "enter")
        assert isinstance(app.screen, Question)
        assert screen.job_run is None
        await pilot.press(*"shots", "enter")
        await finish(app, pilot)
        assert screen.job_run is not None
        assert screen.job_run.job.state is JobState.DONE
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "RootBase.qcow2"


async def start_slowly(app: BackchainApp, pilot: Pilot[None]) -> OperationScreen:
    """Begin the commit of the figure in a lab, paused before it has done much."""
    await pilot.press("c")
    screen = await planned(app, pilot)
    await pilot.press("enter", "space")
    assert screen.job_run is not None
    await until(pilot, lambda: screen.job_run is not None and screen.job_run.job.state is JobState.PAUSED)
    return screen


async def test_pause_step_resume(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path, lab=True) as (app, pilot):
        screen = await start_slowly(app, pilot)
        assert screen.job_run is not None
        job = screen.job_run.job
        await until(pilot, lambda: "Resume" in text_of(app, "KeyBar"))
        await until(pilot, lambda: "paused" in text_of(app, "#job"))
        for _ in range(3):
            before = job.progress().clusters
            await pilot.press("full_stop")
            await until(pilot, lambda before=before: job.progress().clusters == before + 1)
        limit = job.bytes_per_second
        assert limit is not None
        await pilot.press("minus")
        assert job.bytes_per_second == limit / 2
        while job.bytes_per_second is not None:
            await pilot.press("plus")
        await pilot.press("space")
        await finish(app, pilot)
        assert job.state is JobState.DONE
    assert qemu.check(paths["RootBase"]).clean


async def test_cancel_leaves_the_chain_as_it_reads(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    async with running(tmp_path, lab=True) as (app, pilot):
        screen = await start_slowly(app, pilot)
        await pilot.press("full_stop")
        await pilot.press("x")
        await finish(app, pilot)
        assert "the chain reads the same as before" in text_of(app, "#job")
        assert "RootBase holds a part: see ! in the forest." in text_of(app, "#job")
        assert "The plan that did not come to its end:" in text_of(app, "#plan")
        assert "cancelled: the lower row was not reached" in text_of(app, "#picture")
        assert screen.job_run is not None
        assert screen.job_run.job.state is JobState.CANCELLED
    assert qemu.view(paths["Snap-4"]) == view
    assert qemu.check(paths["RootBase"]).clean


async def test_the_keys_of_a_job_fit_on_a_small_terminal(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, lab=True, size=(80, 24)) as (app, pilot):
        screen = await start_slowly(app, pilot)
        await pilot.pause()
        assert app.screen.query_one("KeyBar").region.bottom == 24
        await until(pilot, lambda: "Resume" in text_of(app, "KeyBar"))
        assert "cluster 0" in text_of(app, "#map")
        assert not screen.show_vertical_scrollbar
        await pilot.press("x")
        await finish(app, pilot)


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_leaving_during_a_job_asks_first(tmp_path: Path, key: str) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    async with running(tmp_path, lab=True) as (app, pilot):
        screen = await start_slowly(app, pilot)
        await pilot.press(key)
        await asked(app, pilot)
        told = words_of(app, "#question-rows")
        assert told.startswith("A job is under way. Leaving cancels it. The machine then reads the same as before;")
        assert "may hold a part of the data" in told
        await pilot.press("enter")
        assert app.screen is screen
        assert screen.running
        await pilot.press(key, "left", "enter")
        await pilot.pause()
        assert screen.job_run is not None
        assert screen.job_run.job.state is JobState.CANCELLED
        assert app.return_code == 0
    assert qemu.view(paths["Snap-4"]) == view


async def test_a_failure_is_a_dialog_with_a_hint(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        with qemu.held_open(paths["RootBase"]):
            await pilot.press("enter", "y")
            await finish(app, pilot)
        assert isinstance(app.screen, Question)
        assert "Image is in use" in text_of(app, "#question")
        await pilot.press("enter")
        assert app.screen is screen
        assert "Image is in use" in app.screen.query_one(JobPanel).text
        assert "Remove leftovers" not in text_of(app, "KeyBar")


async def test_a_chain_that_has_changed_is_planned_again(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        old = screen.plan
        assert old is not None
        qemu.io(paths["Snap-2"], "write -P 9 6M 256k")
        view = qemu.view(paths["Snap-4"])
        await pilot.press("enter", "y")
        await asked(app, pilot)
        assert "The chain has changed" in text_of(app, "#question")
        assert "planned again" in words_of(app, "#question")
        assert qemu.info(paths["Snap-4"])["backing-filename"] == "Snap-3.qcow2"
        await pilot.press("enter")
        screen = await planned(app, pilot)
        assert screen.plan is not None
        assert screen.plan.clusters == old.clusters + 4
        assert chosen(screen) == ("Snap-3", "RootBase")
        assert not screen.query_one(JobPanel).display
        await pilot.press("enter", "y")
        await finish(app, pilot)
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "RootBase.qcow2"
    assert qemu.view(paths["Snap-4"]) == view


async def test_a_chain_that_has_gone_says_so(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        paths["Snap-3"].unlink()
        await pilot.press("enter", "y")
        await asked(app, pilot)
        await until(pilot, lambda: len(app.screen_stack) == 4)
        assert "choose anew in the forest" in words_of(app, "#question")
        await pilot.press("enter", "enter", "escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))


async def test_names_with_markup_stay_as_they_are(tmp_path: Path) -> None:
    base, top = tmp_path / "[red]b[bold].qcow2", tmp_path / "[@click=app.quit]t.qcow2"
    qemu.create(base, MIB)
    qemu.create(top, MIB, backing=base)
    qemu.io(top, "write -P 1 0 64k")
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        title = text_of(app, "#picture").splitlines()[0]
        assert "[@click=app.quit]t → [red]b[bold]" in title
        assert "[red]b[bold]" in text_of(app, "#plan")


async def test_commands_are_copied(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("y")
        assert "qemu-img commit" in app.clipboard
        assert "block-commit" in app.clipboard


async def test_on_a_small_terminal(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        await pilot.press("p")
        screen = await planned(app, pilot)
        assert isinstance(screen.choice.operation(), Pull)
        shown = text_of(app, "#picture")
        assert "BEFORE" in shown
        assert "AFTER" in shown
        await until(pilot, lambda: "Run" in text_of(app, "KeyBar"))
        await pilot.press("3")
        assert "qemu-img rebase" in text_of(app, "#commands")
