"""Real chains by QEMU's tools, and an application whose clock stands still, driven by keys."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from backchain_tui.app import BackchainApp
from backchain_tui.screens.operation import OperationScreen
from tests.core import qemu

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from textual.pilot import Pilot

    from backchain_tui.screens.picture import PictureScreen

MIB = 1 << 20
DEADLINE = 60.0
"""Seconds after which a condition is taken never to come true."""

WRITES = {
    "RootBase": ("write -P 1 0 2M", "write -P 1 3M 1M", "write -z 6M 512k"),
    "Snap-1": ("write -P 2 512k 256k", "write -P 2 5M 256k"),
    "Snap-2": ("write -P 3 1M 128k", "write -P 3 4M 512k"),
    "Snap-3": ("write -P 4 2M 256k", "write -z 3M 128k"),
    "Snap-4": ("write -P 5 7M 256k",),
}


def figure(folder: Path) -> dict[str, Path]:
    """Make RootBase <- Snap-1 <- Snap-2 <- Snap-3 <- Snap-4, the chain of the figures."""
    paths: dict[str, Path] = {}
    backing = None
    for name, writes in WRITES.items():
        paths[name] = folder / f"{name}.qcow2"
        qemu.create(paths[name], 8 * MIB, backing=backing)
        qemu.io(paths[name], *writes)
        backing = paths[name]
    return paths


def branches(folder: Path) -> dict[str, Path]:
    """Make Golden with two overlays, Web and Mail."""
    paths = {name: folder / f"{name}.qcow2" for name in ("Golden", "Web", "Mail")}
    qemu.create(paths["Golden"], MIB)
    qemu.io(paths["Golden"], "write -P 1 0 512k")
    for name in ("Web", "Mail"):
        qemu.create(paths[name], MIB, backing=paths["Golden"])
    qemu.io(paths["Web"], "write -P 2 0 64k")
    return paths


@asynccontextmanager
async def running(
    *paths: Path, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[tuple[BackchainApp, Pilot[None]]]:
    """Run the application on some paths, its forest read and its clock at rest."""
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    app = BackchainApp(list(paths), frames=0, **options)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: picture(app).diagram is not None and picture(app).image() is not None)
        yield app, pilot


def picture(app: BackchainApp) -> PictureScreen:
    """Give the uppermost screen with a diagram."""
    from backchain_tui.screens.picture import PictureScreen

    return next(s for s in reversed(app.screen_stack) if isinstance(s, PictureScreen))


def operation(app: BackchainApp) -> OperationScreen:
    """Give the screen of the operation."""
    screen = picture(app)
    assert isinstance(screen, OperationScreen)
    return screen


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Let the application work until a condition holds; a running job is looked at as its clock would."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await pilot.pause(0.01)
            screen = picture(pilot.app)  # type: ignore[arg-type]
            if isinstance(screen, OperationScreen):
                screen.tick()


async def planned(app: BackchainApp, pilot: Pilot[None]) -> OperationScreen:
    """Wait for the plan of the range that is chosen now."""
    await until(pilot, lambda: isinstance(picture(app), OperationScreen))
    await until(pilot, lambda: operation(app).plan is not None and operation(app).is_mounted)
    await pilot.pause()
    return operation(app)


async def ended_well(app: BackchainApp, pilot: Pilot[None]) -> OperationScreen:
    """Wait for the end of the job, which must be a good one."""
    screen = operation(app)
    await until(pilot, lambda: screen.ended)
    await pilot.pause()
    assert screen.job_run is not None
    assert screen.job_run.job.error is None
    return screen


def label(app: BackchainApp) -> str:
    """Give the name of the image under the cursor."""
    screen = picture(app)
    image = screen.image()
    assert screen.graph is not None
    assert image is not None
    return screen.graph[image].label


async def put_cursor(app: BackchainApp, pilot: Pilot[None], name: str) -> None:
    """Walk the cursor to an image as a click would."""
    screen = picture(app)
    assert screen.graph is not None
    assert screen.diagram is not None
    screen.diagram.cursor = next(i for i in screen.graph if screen.graph[i].label == name)
    await pilot.pause()


def text_of(app: BackchainApp, selector: str) -> str:
    """Give what a widget of the uppermost screen shows, as plain text."""
    widget = app.screen.query_one(selector)
    lines = app.screen._compositor.render_strips()  # the painted cells
    region = widget.region
    return "\n".join(strip.text[region.x : region.right].rstrip() for strip in lines[region.y : region.bottom])


def words_of(app: BackchainApp, selector: str) -> str:
    """Give the text of a widget without its frame and its line breaks."""
    return " ".join(text_of(app, selector).translate({ord("│"): " ", ord("┃"): " "}).split())


async def asked(app: BackchainApp, pilot: Pilot[None]) -> str:
    """Wait for a question and give its words."""
    from backchain_tui.screens.question import Question

    await until(pilot, lambda: isinstance(app.screen, Question) and app.screen.query("#question-rows"))
    await pilot.pause()
    return words_of(app, "#question")


def assert_painted_well(app: BackchainApp, width: int) -> None:
    """Every line of the screen fills the window, and holds nothing that a terminal would obey."""
    for strip in app.screen._compositor.render_strips():
        assert strip.text.isprintable(), repr(strip.text)
        assert cell_len(strip.text) == width == strip.cell_length, repr(strip.text)


async def begin_to_finish(app: BackchainApp, pilot: Pilot[None]) -> None:
    """Have what an interrupted job has left planned and run."""
    await until(pilot, lambda: "Unfinished" in text_of(app, "KeyBar"))
    await pilot.press("exclamation_mark")
    await asked(app, pilot)
    await pilot.press("left", "left", "enter")
    await planned(app, pilot)
    await pilot.press("enter", "y")
