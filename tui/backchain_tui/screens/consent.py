"""The questions before a plan is run: a hazard is confirmed by its code, and the rest is agreed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.operations import Delete
from backchain.plan import Severity
from backchain_tui import plan_words
from backchain_tui.describe import Row
from backchain_tui.screens.question import Answer, Question

if TYPE_CHECKING:
    from backchain.plan import Hazard, Plan

_LONGEST = 125
"""Letters of a warning, its code included: two lines of a dialog."""


def confirmation(plan: Plan, hazard: Hazard, *, ascii_only: bool) -> Question:
    """Ask for the code of a hazard, of which all that have it are shown; the answer "run" goes on.

    Args:
        plan: What is to be run.
        hazard: One of its hazards that stop it until they are confirmed.
        ascii_only: Keep to ASCII.
    """
    alike = [h for h in plan.stopping() if h.code == hazard.code]
    rows = [plan_words.hazard_row(h, ascii_only=ascii_only) for h in alike]
    rows += warning_rows(plan, ascii_only=ascii_only)
    return Question("Confirm", rows, [Answer("run", "Go on", "warning"), Answer("stay", "Cancel")], code=hazard.code)


def agreement(plan: Plan, *, ascii_only: bool) -> Question:
    """Ask whether a plan is to be run; "run" does it.

    Enter is "no" where files are removed, or there is a warning.
    """
    rows = [Row("", " ".join(plan_words.plan_sentences(plan)))]
    warnings = warning_rows(plan, ascii_only=ascii_only)
    if isinstance(plan.operation, Delete):
        answers = [Answer("run", "Remove", "warning"), Answer("stay", "Cancel")]
        return Question("Remove for good?", [*rows, *plan_words.plan_rows(plan, None), *warnings], answers)
    answers = [Answer("run", "Run", "warning" if warnings else "primary"), Answer("stay", "Cancel")]
    title = f"Run this {plan.operation.name}?"
    return Question(title, [*rows, *warnings], answers, ready="stay" if warnings else "run")


def warning_rows(plan: Plan, *, ascii_only: bool) -> list[Row]:
    """Repeat the warnings of a plan, each in two lines at most, below an empty row."""
    warnings = [h for h in plan.hazards if h.severity is Severity.WARN]
    rows = [_shortened(plan_words.hazard_row(h, ascii_only=ascii_only)) for h in warnings]
    return [Row("", ""), *rows] if rows else []


def _shortened(row: Row) -> Row:
    room = _LONGEST - len(row.label)
    return row if len(row.text) <= room else row._replace(text=row.text[: room - 1].rstrip() + "…")
