"""Panels of labelled rows: their columns are in line, and no label takes the room of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.core import qemu
from tests.tui.driving import MIB, branches, planned, put_cursor, running, text_of, words_of

if TYPE_CHECKING:
    from pathlib import Path


def column(panel: str, words: str) -> int:
    """Give the column at which words stand in the text of a panel."""
    return next(line.index(words) for line in panel.splitlines() if words in line)


async def test_the_code_of_a_hazard_takes_no_column_of_its_own(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Web")
        await pilot.press("c")
        await planned(app, pilot)
        plan = text_of(app, "#plan").replace("│", " ")
        assert "✖ sibling-corruption: Mail.qcow2 reads" in words_of(app, "#plan")
        first, second = plan.splitlines()[2:4]
        assert first.index("sibling-corruption") == len(second) - len(second.lstrip())
        assert column(plan, "1 cluster · ") == column(plan, "copies") + len("invalid  ")


async def test_the_columns_stay_in_line_around_a_row_without_label(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    qemu.create(base, MIB)
    qemu.create(overlay, MIB, backing=base)
    base.unlink()
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "overlay")
        details = text_of(app, "#details")
        assert "base is missing: the file does not exist" in details
        assert column(details, "qcow2 v3") == column(details, "nothing else breaks")


async def test_below_an_empty_row_the_columns_are_others(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(120, 80)) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        shown = text_of(app, "#help")
        assert column(shown, "Commit: ") == column(shown, "Scroll the diagram") < column(shown, "It backs nothing")
