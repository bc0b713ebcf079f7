"""What is said on one line keeps to it, and what leads out of a place stays in sight in the smallest window."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.app import App

from backchain.jobs import JobProgress, JobState, Phase
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.widgets.job_panel import JobPanel
from tests.tui.driving import figure, picture, planned, running, text_of, until
from tests.tui.test_operation import start_slowly

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult

SIZES = [(80, 24), (60, 20), (40, 12)]
READING = JobProgress(JobState.RUNNING, Phase.COPYING, 1234, 34567, 80 << 20, 2 << 30, 1.5e6, 1390.0, 53.0, True)
FIELDS = {
    "copying", "limit 12.5 MiB/s", "3.6%", "1,234/34,567 clusters", "80 MiB of 2 GiB", "1.4 MiB/s", "ETA 23:10",
    "observed", "rate –", "paused",
}  # fmt: skip


class PanelApp(App[None]):
    """The line of a job, alone."""

    def compose(self) -> ComposeResult:
        yield JobPanel(id="job")


async def second_line(width: int, progress: JobProgress, note: str) -> tuple[str, list[str]]:
    """Give the first line of a panel, and the fields of the second."""
    app = PanelApp()
    async with app.run_test(size=(width, 6)) as pilot:
        app.query_one(JobPanel).show("commit", progress, note)
        await pilot.pause()
        first, second = text_of(app, "#job").splitlines()[:2]  # type: ignore[arg-type]
        return first, second.strip().split(" · ")


@pytest.mark.parametrize("width", [*range(40, 64), 80, 100])
async def test_the_line_of_a_job_has_whole_fields_only(width: int) -> None:
    _, fields = await second_line(width, READING, "copying · limit 12.5 MiB/s")
    assert set(fields) <= FIELDS
    assert fields[0] == "copying"


async def test_a_paused_job_has_no_rate(tmp_path: Path) -> None:
    paused = replace(READING, state=JobState.PAUSED, rate=0.0, eta=None)
    first, fields = await second_line(80, paused, "paused · limit 12.5 MiB/s")
    words = " ".join([first, *fields])
    assert "rate –" in words
    assert "ETA" not in words
    figure(tmp_path)
    async with running(tmp_path, lab=True, size=(120, 40)) as (app, pilot):
        screen = await start_slowly(app, pilot)
        await pilot.press("full_stop", "full_stop")
        assert screen.job_run is not None
        job = screen.job_run.job
        await until(pilot, lambda: job.progress().clusters >= 2 and "rate –" in text_of(app, "#job"))
        assert "ETA" not in text_of(app, "#job")
        await pilot.press("x")
        await until(pilot, lambda: screen.ended)


@pytest.mark.parametrize("size", SIZES)
async def test_help_and_quit_stay_in_the_footer(tmp_path: Path, size: tuple[int, int]) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=size) as (app, pilot):
        await until(pilot, lambda: "? Help  q Quit" in text_of(app, "KeyBar"))
        await pilot.press("c")
        await planned(app, pilot)
        await until(pilot, lambda: "? Help  q Quit" in text_of(app, "KeyBar"))


@pytest.mark.parametrize("pane", ["1", "2"])
@pytest.mark.parametrize("size", SIZES)
async def test_esc_leads_from_a_pane_to_the_diagram(tmp_path: Path, size: tuple[int, int], pane: str) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=size) as (app, pilot):
        await pilot.press(pane)
        await until(pilot, lambda: "esc Diagram" in text_of(app, "KeyBar"))
        before = picture(app).image()
        await pilot.press("left")
        assert picture(app).image() == before
        await pilot.press("escape")
        await until(pilot, lambda: "esc" not in text_of(app, "KeyBar"))
        await pilot.press("left")
        assert picture(app).image() != before


async def test_esc_leaves_an_operation_from_the_diagram_alone(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("2", "escape")
        await pilot.pause()
        assert app.screen is screen
        assert screen.diagram is not None
        assert screen.diagram.has_focus
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))


async def test_esc_leads_back_from_the_map_while_a_job_runs(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, lab=True, size=(80, 24)) as (app, pilot):
        screen = await start_slowly(app, pilot)
        await pilot.press("2", "escape")
        assert screen.diagram is not None
        assert screen.diagram.has_focus
        await pilot.press("x")
        await until(pilot, lambda: screen.ended)
