"""What the screen knows after a job of its own: the files that it made and changed, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from backchain_tui.screens.browse import BrowseScreen
from tests.core import qemu
from tests.tui.driving import ended_well, figure, label, planned, put_cursor, running, until, words_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_overlay_made_in_another_folder_stays_known(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    paths = figure(lab)
    async with running(lab) as (app, pilot):
        await pilot.press("s")
        app.screen.query_one(Input).value = "../x.qcow2"
        await pilot.pause()
        await pilot.press("enter")
        await planned(app, pilot)
        await pilot.press("enter", "enter")
        await ended_well(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen) and len(app.screen.graph or ()) == 6)
        await put_cursor(app, pilot, "Snap-4")
        assert "overlays x" in words_of(app, "#details")
        await pilot.press("d")
        await until(pilot, lambda: "x" in words_of(app, "#advisor"))
        await pilot.press("escape")
        await put_cursor(app, pilot, "x")
        assert label(app) == "x"
        assert "OUTSIDE" not in words_of(app, "#details"), "whoever made it there means it"
    assert qemu.compare(tmp_path / "x.qcow2", paths["Snap-4"])
