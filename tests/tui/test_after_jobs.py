"""What the screen knows after a job of its own: the files that it made and changed, as they are now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from backchain_tui.app import BackchainApp
from backchain_tui.screens.browse import BrowseScreen
from tests.core import qemu
from tests.tui.driving import (
    MIB,
    ended_well,
    figure,
    label,
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
        await pilot.press("enter", "y")
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


def growing(folder: Path) -> dict[str, Path]:
    """Make a small base of tiny clusters, whose L1 table a commit of its large overlay has to grow."""
    paths = {name: folder / f"{name}.qcow2" for name in ("base", "top")}
    qemu.create(paths["base"], 3 * MIB, cluster_size=512)
    qemu.create(paths["top"], 40 * MIB, backing=paths["base"], cluster_size=512)
    qemu.io(paths["base"], "write -P 1 0 64k")
    qemu.io(paths["top"], "write -P 2 39M 64k")
    return paths


async def test_the_map_of_an_image_that_a_job_has_grown(tmp_path: Path) -> None:
    growing(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        screen = await ended_well(app, pilot)
        await until(pilot, lambda: screen.map.view is not None)
        for _ in range(2):
            shown = screen.map.view
            await pilot.press("m")
            await until(pilot, lambda shown=shown: screen.map.view is not shown)
            assert "No map" not in text_of(app, "#map")


async def test_the_map_of_an_image_that_grows_while_a_job_is_paused(tmp_path: Path) -> None:
    growing(tmp_path)
    async with running(tmp_path, lab=True) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("enter", "space")
        await until(pilot, lambda: screen.job_run is not None and screen.job_run.job.state == "paused")
        await until(pilot, lambda: screen.job_run is not None and screen.job_run.job.progress().clusters)
        for _ in range(2):
            shown = screen.map.view
            await pilot.press("m")
            await until(pilot, lambda shown=shown: screen.map.view is not shown)
            assert "No map" not in text_of(app, "#map")
        await pilot.press("x")
        await until(pilot, lambda: screen.ended)


async def test_the_map_of_a_chain_that_a_job_has_shortened(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("p", "n")
        screen = await planned(app, pilot)
        await until(pilot, lambda: screen.map.view is not None)
        await pilot.press("2", "m")
        await until(pilot, lambda: "Chain of Snap-4" in text_of(app, "#map"))
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        await until(pilot, lambda: "Chain of" not in text_of(app, "#map"))
        assert "RootBase" not in text_of(app, "#map")


async def test_no_map_of_what_was_removed(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("d")
        screen = await planned(app, pilot)
        await pilot.press("enter", "left", "enter")
        await ended_well(app, pilot)
        await until(pilot, lambda: len(screen.graph) == 4)
        await pilot.press("m")
        assert "No map: the image is gone." in words_of(app, "#map")


async def test_the_map_keeps_its_zoom_when_a_job_is_over(tmp_path: Path) -> None:
    growing(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("2")
        await until(pilot, lambda: screen.map.view is not None)
        before = screen.map.view
        await pilot.press("plus", "plus", "right")
        assert before is not None
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        await until(pilot, lambda: screen.map.view is not before)
        after = screen.map.view
        assert after is not None
        assert after.clusters_per_cell == before.clusters_per_cell < 67
        assert after.cursor == before.cursor > 0


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_note_does_not_hide_the_last_words_on_a_job(tmp_path: Path, size: tuple[int, int]) -> None:
    figure(tmp_path)
    app = BackchainApp([tmp_path], frames=0)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: picture(app).image() is not None)
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        screen = await ended_well(app, pilot)
        screen.notify("All of it is done.", title="rebasing the overlays of sn2")
        async with asyncio.timeout(5):
            while not any("All of it is done." in strip.text for strip in app.screen._compositor.render_strips()):
                await pilot.pause(0.05)
        assert "D removes them." in words_of(app, "#job")
        assert "Snap-1, Snap-2 and Snap-3 are invalid now; nothing needs them." in words_of(app, "#job")
