"""A plan as plain text: what happens, what it costs, what could go wrong, and the same in other tools' commands."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.operations import Commit, Delete
from backchain.plan import gravest_first
from backchain_tui import formatting, plan_words
from backchain_tui.session import free_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backchain.plan import Plan

_WIDTH = 100
_INDENT = "  "
_MOST_FOLDERS = 3


def plan_text(plan: Plan) -> str:
    """Give the whole plan as lines of text, ending in a newline."""
    parts = (*_what(plan), "", *_numbers(plan), *_hazards(plan), *_commands(plan))
    return "\n".join([plan_words.title(plan), "", *parts, ""])


def _what(plan: Plan) -> Iterator[str]:
    for sentence in plan_words.plan_sentences(plan):
        yield from _wrapped(sentence, _INDENT)


def _numbers(plan: Plan) -> Iterator[str]:
    for copy in plan.copies if plan_words.counted(plan) else ():
        what = f"{formatting.counted(copy.clusters, 'cluster')} · {formatting.size(copy.bytes)}"
        yield f"{_INDENT}{'from':<10}{plan.before[copy.source].name}: {what}"
    for row in plan_words.plan_rows(plan, free_space(plan.info(plan.target).path)):
        yield f"{_INDENT}{row.label:<10}{row.text}"
    if isinstance(plan.operation, Commit | Delete):  # what may harm an overlay that nobody knows of
        folders = [printable(str(f)) for f in plan_words.searched(plan)]
        more = f" and {len(folders) - _MOST_FOLDERS} more" if len(folders) > _MOST_FOLDERS else ""
        where = f"{', '.join(folders[:_MOST_FOLDERS])}{more}; overlays elsewhere are not known (--scan)"
        yield f"{_INDENT}{'searched':<10}{where}"


def _hazards(plan: Plan) -> Iterator[str]:
    if not plan.hazards:
        return
    yield ""
    yield "Hazards"
    for hazard in gravest_first(plan.hazards):
        yield from _wrapped(f"{hazard.severity}: {hazard.code}: {hazard.message}", _INDENT)


def _commands(plan: Plan) -> Iterator[str]:
    if not plan.commands:
        return
    yield ""
    yield "The same with other tools"
    commands = plan_words.commands_elsewhere(plan)
    if not commands:
        yield f"{_INDENT}{plan_words.NO_COMMANDS}"
    for tool, command in commands:
        for n, line in enumerate(command.splitlines()):
            yield f"{_INDENT}{tool if n == 0 else '':<10}{line}"
    if commands and (note := plan_words.commands_note(plan)):
        yield from _wrapped(note, _INDENT)


def _wrapped(text: str, indent: str) -> Iterable[str]:
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=indent, subsequent_indent=indent * 2)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)
