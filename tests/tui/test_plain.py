"""Dialogs, scroll bars and notes where only ASCII can be drawn: nothing else is painted, and nothing is lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from textual.scrollbar import ScrollBar

from backchain.lab import make_lab
from backchain_tui.recovery_words import headline
from backchain_tui.screens.advisor import AdvisorScreen, WayCard
from backchain_tui.screens.help import HelpScreen
from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.picker import Picker
from backchain_tui.screens.question import Question
from tests.tui.command_line import stopped_amid
from tests.tui.driving import figure, picture, planned, put_cursor, running, text_of, until

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp

SMALL = (80, 24)


async def painted(app: BackchainApp, pilot: Pilot[None]) -> str:
    """Give the whole window as text, once nothing is read any more."""
    await until(pilot, lambda: not any(w.is_running for w in app.workers))
    await pilot.pause(0.1)
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


@pytest.mark.parametrize(
    ("image", "keys", "screen", "word"),
    [
        ("Snap-4", "s", NamingScreen, "Preview"),
        ("Snap-4", "ro", Picker, "below it now"),
        ("Snap-3", "d", AdvisorScreen, "* Up"),
        ("Snap-4", "r?", HelpScreen, "<->"),
    ],
)
async def test_dialogs_in_ascii(tmp_path: Path, image: str, keys: str, screen: type, word: str) -> None:
    make_lab(tmp_path)
    async with running(tmp_path, size=SMALL, lab=True, ascii_only=True) as (app, pilot):
        await put_cursor(app, pilot, image)
        for key in keys:
            await pilot.press(key)
            await painted(app, pilot)
        assert isinstance(app.screen, screen)
        shown = await painted(app, pilot)
        assert word in shown
        assert shown.isascii(), shown


async def test_the_help_in_ascii(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=(120, 80), ascii_only=True) as (app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        shown = await painted(app, pilot)
        assert "shift arrows" in shown
        assert shown.isascii(), shown


async def test_a_click_on_a_key_in_ascii_is_that_key(tmp_path: Path) -> None:
    """Some keys have longer names there."""
    figure(tmp_path)
    async with running(tmp_path, size=(100, 30), ascii_only=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-3")
        await pilot.press("r")
        await planned(app, pilot)
        before, chip, _ = text_of(app, "KeyBar").partition(" u Link only ")
        assert "<->" in before
        await pilot.click("KeyBar", offset=(len(before + chip) - 1, 0))
        await until(pilot, lambda: "rebase -u" in text_of(app, "TitleBar"))


async def test_a_question_in_ascii_shows_what_has_the_keyboard(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=SMALL, ascii_only=True) as (app, pilot):
        await pilot.press("d")
        await planned(app, pilot)
        await pilot.press("enter")
        assert isinstance(app.screen, Question)
        shown = await painted(app, pilot)
        assert "Remove" in shown
        assert "Cancel" in shown
        assert shown.isascii(), shown


async def test_the_way_with_the_keyboard_is_marked_without_colour(tmp_path: Path) -> None:
    make_lab(tmp_path)
    async with running(tmp_path, lab=True, ascii_only=True) as (app, pilot):
        await put_cursor(app, pilot, "Snap-3")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, AdvisorScreen) and app.screen.query_one("#ways").display)
        await pilot.press("right")
        marked = [card.id for card in app.screen.query(WayCard) if card.styles.border_title_style.reverse]
        assert marked == ["way-2"]


async def test_a_low_window_keeps_its_lines_in_ascii(tmp_path: Path) -> None:
    figure(tmp_path)
    heights = {}
    for ascii_only in (False, True):
        async with running(tmp_path, size=SMALL, ascii_only=ascii_only) as (app, pilot):
            await painted(app, pilot)
            details = app.screen.query_one("#details")
            heights[ascii_only] = details.content_size.height
            bar = details.vertical_scrollbar
            assert details.show_vertical_scrollbar, "there is more than fits"
            assert (bar.renderer is ScrollBar.renderer) is not ascii_only
    assert heights[True] == heights[False]


async def test_an_interrupted_job_is_told_in_ascii_and_with_the_time(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    stopped_amid("commit", "-b", paths["RootBase"], paths["Snap-3"], number=signal.SIGKILL)
    async with running(tmp_path, size=SMALL, lab=True, ascii_only=True) as (app, pilot):
        await until(pilot, lambda: "1 interrupted job" in text_of(app, "TitleBar"))
        assert "1 interrupted job | lab" in text_of(app, "TitleBar")
        graph = picture(app).graph
        assert graph is not None
        started = graph.interrupted[0].started
        day, clock = started[:10], started[11:19]
        assert headline(graph.interrupted[0]).endswith(f"begun {day} {clock} UTC")
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: isinstance(app.screen, Question) and app.screen.query("#question-rows"))
        shown = await painted(app, pilot)
        assert f"begun {day} {clock} UTC." in shown
        assert shown.isascii(), shown
