"""Writes the pictures of the README from the real program, on a fresh lab: ``make screenshots``.

The jobs of the two figures are real; they are paused half-way, and the lab is thrown away afterwards.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["TEXTUAL_ANIMATIONS"] = "none"
os.environ.pop("NO_COLOR", None)

from backchain.lab import make_lab
from backchain_tui.screens.advisor import AdvisorScreen
from tests.tui.driving import operation, picture, planned, put_cursor, running, until

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp

HERE = Path(__file__).resolve().parent.parent / "screenshots"
SIZE = (120, 40)
PHASE = 2.4
"""Seconds into the animation at which the pictures are taken."""


async def settled(app: BackchainApp, pilot: Pilot[None]) -> None:
    """Wait until nothing is read any more."""
    await until(pilot, lambda: not any(w.is_running for w in app.workers))
    await pilot.pause(0.5)


def save(app: BackchainApp, name: str) -> None:
    """Write what the screen shows now."""
    (HERE / name).write_text(app.export_screenshot(title="backchain"), encoding="utf-8")
    print(f"screenshots/{name}")


async def forest(lab: Path) -> None:
    """The forest, the chain of the cursor lit."""
    async with running(lab, size=SIZE, lab=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        await settled(app, pilot)
        save(app, "forest.svg")


async def cluster_map(lab: Path) -> None:
    """The cluster map on a small terminal, where it has a tab of its own."""
    async with running(lab, size=(80, 24), lab=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        await pilot.press("2")
        await settled(app, pilot)
        await pilot.press(*["right"] * 12, *["down"] * 3)
        await settled(app, pilot)
        save(app, "map.svg")


async def chosen(lab: Path, image: str, keys: str, name: str) -> None:
    """An operation that is chosen and not run."""
    async with running(lab, size=SIZE, lab=True) as (app, pilot):
        await put_cursor(app, pilot, image)
        for key in keys:
            await pilot.press(key)
            await planned(app, pilot)
        await settled(app, pilot)
        screen = operation(app)
        assert screen.diagram is not None
        screen.diagram.advance(PHASE)
        await pilot.pause()
        save(app, name)


async def advisor(lab: Path) -> None:
    """The ways to get rid of an image that another one needs."""
    async with running(lab, size=SIZE, lab=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-3")
        await settled(app, pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, AdvisorScreen) and app.screen.query_one("#ways").display)
        await settled(app, pilot)
        save(app, "advisor.svg")


async def half_way(lab: Path, key: str, name: str) -> None:
    """A job that is half done."""
    async with running(lab, size=SIZE, lab=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        await pilot.press(key)
        await planned(app, pilot)
        await settled(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: operation(app).job_run is not None)
        run = operation(app).job_run
        assert run is not None
        await until(pilot, lambda: run.job.progress().fraction >= 0.5)
        await settled(app, pilot)
        screen = picture(app)
        assert screen.diagram is not None
        operation(app).tick()
        screen.diagram.advance(PHASE)
        await pilot.pause()
        save(app, name)
        run.leave()


async def main() -> None:
    """Make every picture."""
    for make in (
        forest,
        cluster_map,
        lambda lab: chosen(lab, "Snap-3", "cb", "preview.svg"),
        lambda lab: chosen(lab, "Db-2", "r", "rebase.svg"),
        advisor,
        lambda lab: half_way(lab, "c", "figure-4.svg"),
        lambda lab: half_way(lab, "p", "figure-5.svg"),
    ):
        with tempfile.TemporaryDirectory(prefix="") as folder:
            lab = Path(folder) / "lab"
            lab.mkdir()
            make_lab(lab)
            os.chdir(lab.parent)
            await make(Path("lab"))
            os.chdir(HERE)


if __name__ == "__main__":
    asyncio.run(main())
