"""The forest follows its files, whatever other programs do to them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.session import Session
from backchain_tui.watching import Sight
from tests.core import qemu
from tests.tui.driving import branches, figure, picture, put_cursor, running, text_of, until, words_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp


def forest(app: BackchainApp) -> BrowseScreen:
    """Give the screen of the forest."""
    screen = picture(app)
    assert isinstance(screen, BrowseScreen)
    return screen


def labels(app: BackchainApp) -> set[str]:
    """Give the names that the forest shows."""
    graph = forest(app).graph
    assert graph is not None
    return {graph[i].label for i in graph}


async def looked(app: BackchainApp, pilot: Pilot[None]) -> None:
    """Have the screen look, whenever it may, until it has."""
    screen = forest(app)
    screen._rest_until = 0.0
    screen.look()
    await until(pilot, lambda: not screen._looking)
    await pilot.pause()


def sight(session: Session) -> Sight:
    """Read a forest and take down what its files look like."""
    begun = time.time_ns()
    graph = session.read()
    return Sight(graph, session.known, begun, session.in_use)


async def test_what_other_programs_do_is_shown(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-3")
        qemu.create(tmp_path / "New.qcow2", None, backing=paths["Snap-4"])
        await looked(app, pilot)
        assert "New" in labels(app)
        assert "Snap-4 and New would break" in words_of(app, "#details"), "the cursor stayed"
        qemu.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "Snap-2.qcow2", "-F", "qcow2", paths["Snap-4"])
        await looked(app, pilot)
        assert "nothing else breaks" in words_of(app, "#details")
        (tmp_path / "New.qcow2").unlink()
        await looked(app, pilot)
        assert "New" not in labels(app)


async def test_a_machine_that_starts_and_stops_is_seen(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Web")
        with qemu.held_open(paths["Web"]):
            await looked(app, pilot)
            assert "in use another process has it open" in words_of(app, "#details")
        await looked(app, pilot)
        assert "in use" not in text_of(app, "#details")


async def test_nothing_is_read_where_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branches(tmp_path)
    await asyncio.sleep(0.1)  # the folder has settled
    async with running(tmp_path) as (app, pilot):
        monkeypatch.setattr(Session, "read", lambda _: 1 / 0)
        await looked(app, pilot)
        assert not app._notifications


async def test_a_dialog_keeps_the_forest_that_it_speaks_of(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("question_mark")
        qemu.create(tmp_path / "New.qcow2", None, backing=paths["Snap-4"])
        await looked(app, pilot)
        assert "New" not in labels(app)


async def test_a_folder_that_goes_is_told_of_once(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    branches(folder)
    async with running(folder) as (app, pilot):
        folder.rename(tmp_path / "elsewhere")
        await looked(app, pilot)
        await looked(app, pilot)
        assert len(app._notifications) == 1


def test_a_sight_holds_until_something_changes(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    old = time.time_ns() - 10**9
    os.utime(tmp_path, ns=(old, old))
    session = Session((tmp_path,))
    seen = sight(session)
    assert seen.holds()
    qemu.io(paths["Web"], "write -P 9 0 64k")
    assert not seen.holds()
    seen = sight(session)
    (tmp_path / "note.txt").write_text("a new file may be an image")
    assert not seen.holds()


def test_a_folder_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    branches(tmp_path)
    os.utime(tmp_path)
    assert not sight(Session((tmp_path,))).holds()
