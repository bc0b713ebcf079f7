"""Chains that are longer than the window is wide: the arrows go along the chain, and what was folded opens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from backchain.jobs import JobState
from backchain_tui.choice import RangeChoice
from backchain_tui.diagram.layout import Zoom
from tests.core import qemu
from tests.tui.driving import (
    MIB,
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
)

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp

LAYERS = 25


def layers(folder: Path) -> None:
    """Make layer00 <- layer01 <- ... <- layer24, each with a cluster of its own."""
    backing = None
    for number in range(LAYERS):
        path = folder / f"layer{number:02}.qcow2"
        qemu.create(path, 2 * MIB, backing=backing)
        qemu.io(path, f"write -P {number + 1} {number * 64}k 64k")
        backing = path


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the long chain; nothing is run on it."""
    folder = tmp_path_factory.mktemp("layers")
    layers(folder)
    return folder


async def ends(app: BackchainApp, pilot: Pilot[None]) -> tuple[str, str]:
    """Give the names of top and base, when they are planned, the image under the cursor being in sight."""
    screen = await planned(app, pilot)
    choice = screen.choice
    assert isinstance(choice, RangeChoice)
    assert screen.plan is not None
    assert screen.plan.operation == choice.operation()
    assert label(app) in text_of(app, "ChainDiagram")
    return choice.label(choice.top), choice.label(choice.base)


@pytest.mark.parametrize("size", [(120, 40), (200, 60), (80, 24)])
@pytest.mark.parametrize("zoom", [Zoom.AUTO, Zoom.CARD, Zoom.PILL])
async def test_every_base_can_be_chosen(chain: Path, size: tuple[int, int], zoom: Zoom) -> None:
    async with running(chain, size=size) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("c")
        assert await ends(app, pilot) == ("layer23", "layer00")
        diagram = operation(app).diagram
        assert diagram is not None
        diagram.zoom = zoom
        assert re.search(r"\d+ more", text_of(app, "ChainDiagram")), "the middle of the chain is folded"
        for base in ("layer01", "layer02", "layer03"):
            await pilot.press("right")
            assert await ends(app, pilot) == ("layer23", base)
        await pilot.press("left")
        assert await ends(app, pilot) == ("layer23", "layer02")
        await pilot.press("home")
        assert await ends(app, pilot) == ("layer23", "layer00")


async def test_arrows_that_are_faster_than_the_plan(chain: Path) -> None:
    async with running(chain) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press(*["right"] * 7)
        assert await ends(app, pilot) == ("layer23", "layer07")


async def test_every_top_can_be_chosen(chain: Path) -> None:
    async with running(chain) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("tab", "left")
        assert await ends(app, pilot) == ("layer22", "layer00")
        await pilot.press("left")
        assert await ends(app, pilot) == ("layer21", "layer00")
        await pilot.press("right")
        assert await ends(app, pilot) == ("layer22", "layer00")


async def test_every_base_of_a_pull_can_be_chosen(chain: Path) -> None:
    async with running(chain) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("p")
        assert await ends(app, pilot) == ("layer24", "layer00")
        await pilot.press("right", "right")
        assert await ends(app, pilot) == ("layer24", "layer02")


async def test_every_new_base_of_a_rebase_can_be_chosen(chain: Path) -> None:
    async with running(chain) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("r")
        for name in ("layer22", "layer21", "layer20"):
            screen = await planned(app, pilot)
            assert label(app) == name
            assert screen.plan is not None
            assert screen.plan.operation.base == screen.image()
            assert name in text_of(app, "ChainDiagram")
            await pilot.press("left")


async def test_the_forest_is_walked_as_before(chain: Path) -> None:
    async with running(chain) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("left", "left")
        assert label(app) == "layer22"
        await pilot.press("home", "right")
        assert label(app) == "layer01"
        await pilot.press("end")
        assert label(app) == "layer24"


async def test_a_sibling_that_was_left_out_opens_under_the_cursor(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    for number in range(9):
        qemu.create(tmp_path / f"side{number}.qcow2", 8 * MIB, backing=paths["Snap-1"])
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        await pilot.press("p")
        await planned(app, pilot)
        assert "side7" not in text_of(app, "ChainDiagram")
        await put_cursor(app, pilot, "side7")
        assert "side7" in text_of(app, "ChainDiagram")
        assert picture(app) is operation(app)


async def test_the_arrows_go_along_the_chain_while_a_job_runs_and_when_it_is_done(tmp_path: Path) -> None:
    layers(tmp_path)
    view = qemu.view(tmp_path / "layer24.qcow2")
    async with running(tmp_path, lab=True) as (app, pilot):
        await put_cursor(app, pilot, "layer24")
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("enter", "space", "right")
        await until(pilot, lambda: screen.job_run is not None and screen.job_run.job.state is JobState.PAUSED)
        assert label(app) == "layer01"
        await pilot.press("right")
        assert "layer02" in text_of(app, "ChainDiagram")
        await pilot.press("space")
        await ended_well(app, pilot)
        await pilot.press("right")
        assert label(app) == "layer03"
        shown = text_of(app, "ChainDiagram")
        assert "layer03" in shown
        assert "committed" in shown
    assert qemu.info(tmp_path / "layer24.qcow2")["backing-filename"] == "layer00.qcow2"
    assert qemu.view(tmp_path / "layer24.qcow2") == view
