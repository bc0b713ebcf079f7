"""A question's keys: they go from button to button, and scroll its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Button, Input

from backchain_tui.describe import Row
from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.question import Answer, Question
from backchain_tui.widgets.rows import RowsPanel
from tests.tui.driving import branches, picture, running

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS = [Answer("one", "One"), Answer("two", "Two"), Answer("three", "Three")]
LONG = [Row("", f"line {n}") for n in range(60)]


def lit(question: Question) -> str:
    """Give what is written on the button that has the keyboard; empty when none has it."""
    return str(question.focused.label) if isinstance(question.focused, Button) else ""


@pytest.mark.parametrize("rows", [[Row("", "short")], LONG])
async def test_the_keyboard_is_always_on_a_button(tmp_path: Path, rows: list[Row]) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        question = Question("Which?", rows, ANSWERS)
        app.push_screen(question)
        await pilot.pause()
        assert lit(question) == "Three"
        for key, there in (
            ("right", "Three"), ("left", "Two"), ("left", "One"), ("left", "One"), ("right", "Two"),
            ("tab", "Three"), ("tab", "One"), ("shift+tab", "Three"), ("up", "Three"), ("down", "Three"),
        ):  # fmt: skip
            await pilot.press(key)
            assert lit(question) == there, key
        await pilot.click(RowsPanel)
        assert lit(question) == "Three"


async def test_a_long_text_is_scrolled(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        question = Question("Which?", LONG, ANSWERS)
        app.push_screen(question)
        await pilot.pause()
        panel = question.query_one(RowsPanel)
        places = [panel.scroll_target_y]
        for key in ("down", "pagedown", "pageup", "up", "end", "home"):
            await pilot.press(key)
            places.append(panel.scroll_target_y)
        assert places[0] == 0 < places[1] < places[2]
        assert places[1] == places[3]
        assert places[4] == 0
        assert places[5] == panel.max_scroll_y > places[2]
        assert places[6] == 0


async def test_a_code_is_typed_before_the_answers(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        question = Question("Sure?", LONG, ANSWERS[:2], code="yes")
        app.push_screen(question)
        await pilot.pause()
        await pilot.press("down")
        assert question.query_one(RowsPanel).scroll_target_y > 0
        await pilot.press("tab")
        assert lit(question) == "Two"
        await pilot.press("left")
        assert lit(question) == "Two", "the first cannot be given yet"
        await pilot.press("tab")
        assert isinstance(question.focused, Input)
        await pilot.press(*"yes", "tab", "right")
        assert lit(question) == "Two"


@pytest.mark.parametrize("code", ["", "needed-file"])
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 60)])
async def test_a_long_text_leaves_the_answers_whole(tmp_path: Path, size: tuple[int, int], code: str) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=size) as (app, pilot):
        question = Question("Which?", LONG, ANSWERS, code=code)
        app.push_screen(question)
        await pilot.pause()
        box = question.query_one("#question").content_region
        for part in (*question.query(Button), *question.query(Input)):
            assert part.region.height == 3
            assert box.contains_region(part.region), part


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("size", [(40, 12), (60, 15)])
async def test_a_tiny_window_shows_the_answers(tmp_path: Path, size: tuple[int, int], *, ascii_only: bool) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(120, 40), ascii_only=ascii_only) as (app, pilot):
        graph = picture(app).graph
        assert graph is not None
        for dialog in (
            Question("Which?", LONG, ANSWERS),
            Question("Which?", LONG, ANSWERS, code="needed-file"),
            NamingScreen(graph[graph.leaves()[0]]),
        ):
            await pilot.resize_terminal(120, 40)
            app.push_screen(dialog)
            await pilot.resize_terminal(*size)
            await pilot.pause()
            box = dialog.query_one("#question").content_region
            for part in (*dialog.query(Button), *dialog.query(Input)):
                assert part.region.height == 1
                assert box.contains_region(part.region), part
                assert app.screen.region.contains_region(part.region), part
            panel = next(iter(dialog.query(RowsPanel)), None)
            assert panel is None or panel.max_scroll_y > 0, "the text is scrolled as far as it goes"
            await pilot.press("escape")
