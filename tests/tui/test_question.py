"""A question's keys: they go from button to button, and scroll its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Button, Input

from backchain.plan import Hazard, Severity
from backchain_tui.describe import Row
from backchain_tui.screens.consent import agreement, confirmation
from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.question import Answer, Question
from backchain_tui.widgets.answer import AnswerButton
from backchain_tui.widgets.rows import RowsPanel
from tests.tui import builders
from tests.tui.driving import asked, branches, picture, running, text_of, words_of

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS = [Answer("one", "One"), Answer("two", "Two"), Answer("three", "Three")]
LONG = [Row("", f"line {n}") for n in range(60)]


def lit(question: Question) -> str:
    """Give what is written on the button that has the keyboard; empty when none has it."""
    if not isinstance(question.focused, AnswerButton):
        return ""
    return question.focused.words.split("  ")[0]


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
            assert (panel is None) is isinstance(dialog, NamingScreen)
            assert panel is None or panel.max_scroll_y > 0, "the text is scrolled as far as it goes"
            await pilot.press("escape")


WARNINGS = [
    Hazard("base-grows", Severity.WARN, (), "word " * 80),
    Hazard("bitmaps", Severity.WARN, (), "the bitmaps of Snap-2 are lost"),
]


@pytest.mark.parametrize(("key", "name"), [("y", "one"), ("n", "three"), ("escape", ""), ("enter", "three")])
async def test_keys_give_the_first_and_the_safe_answer(tmp_path: Path, key: str, name: str) -> None:
    branches(tmp_path)
    given: list[str | None] = []
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        app.push_screen(Question("Which?", [Row("", "short")], ANSWERS), given.append)
        words = await asked(app, pilot)
        assert "One y" in words
        assert "Three n" in words
        assert "Two y" not in words
        await pilot.press(key)
        await pilot.pause()
        assert given == [name]


async def test_a_lone_answer_and_one_that_is_typed_for_have_no_keys(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        for question in (Question("No", LONG, [Answer("ok", "Back")]), Question("Sure?", LONG, ANSWERS[:2], code="y")):
            app.push_screen(question)
            await asked(app, pilot)
            await pilot.press("n", "y")
            assert app.screen is question
            assert {b.words for b in question.query(AnswerButton)} <= {"Back", "One", "Two"}
            await pilot.press("escape")


@pytest.mark.parametrize("ascii_only", [False, True])
async def test_a_sign_tells_which_button_has_the_keyboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ascii_only: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    branches(tmp_path)
    sign = ">" if ascii_only else "▸"
    async with running(tmp_path, size=(80, 24), ascii_only=ascii_only) as (app, pilot):
        app.push_screen(Question("Which?", [Row("", "short")], ANSWERS))
        await asked(app, pilot)
        for key, name in (("right", "Three  n"), ("left", "Two"), ("left", "One  y")):
            await pilot.press(key)
            text = text_of(app, "#answers")
            assert f"{sign} {name}" in text
            assert text.count(sign) == 1


def test_a_plan_that_harms_is_not_run_by_enter_alone() -> None:
    graph = builders.five()
    harmless, pull = builders.commit(graph, "RootBase", "Snap-2"), builders.pull(graph, "Snap-3", "Snap-1")
    harmful = [
        builders.commit(graph, "Snap-3", "Snap-4", hazards=WARNINGS),
        builders.delete(graph, "Snap-4"),
    ]
    ready = [agreement(plan, ascii_only=False)._ready for plan in (harmless, pull, *harmful)]
    assert ready == ["run", "run", "stay", "stay"]


def test_a_code_is_confirmed_for_every_hazard_that_has_it() -> None:
    hazards = [Hazard("untrusted-link", Severity.CONFIRM, (), f"{name} lies elsewhere") for name in ("one", "two")]
    plan = builders.commit(builders.five(), "Snap-3", "Snap-4", hazards=hazards)
    rows = confirmation(plan, hazards[0], ascii_only=False)._rows
    assert [row.text for row in rows] == ["one lies elsewhere", "two lies elsewhere"]


async def test_a_question_repeats_the_warnings(tmp_path: Path) -> None:
    branches(tmp_path)
    block = Hazard("internal-snapshots", Severity.CONFIRM, (), "they are lost")
    plan = builders.commit(builders.five(), "Snap-3", "Snap-4", hazards=[*WARNINGS, block])
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        for question in (agreement(plan, ascii_only=False), confirmation(plan, block, ascii_only=False)):
            app.push_screen(question)
            words = await asked(app, pilot)
            assert "▲ base-grows: word word" in words
            assert words.count("word") == 22, "two lines of it"
            assert "▲ bitmaps: the bitmaps of Snap-2 are lost" in words_of(app, "#question")
            await pilot.press("escape")
