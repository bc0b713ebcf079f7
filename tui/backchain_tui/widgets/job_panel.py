"""The line of a job: its name, a bar, and the numbers, as many as the width allows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from backchain.jobs import JobProgress

_BAR_SHARE = 0.3
"""Share of the line that the bar takes, at least `_BAR_LEAST` columns."""

_BAR_LEAST = 10
_BETWEEN = " · "
_MOST_LINES = 3
"""Lines of closing words at most."""


class JobPanel(Widget):
    """Bar and numbers; below them what the job is busy with, or how it ended."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "job-panel--name", "job-panel--done", "job-panel--track", "job-panel--number", "job-panel--note",
        "job-panel--good", "job-panel--bad",
    }  # fmt: skip

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        """Make an empty panel."""
        super().__init__(id=id)
        self._ascii = ascii_only
        self._verb = ""
        self._progress: JobProgress | None = None
        self._note = ""
        self._end = ""
        self._shown: tuple[object, ...] = ()
        self._lines: list[str] = []

    def show(self, name: str, progress: JobProgress | None, note: str = "", *, end: str = "") -> None:
        """Show a reading of the job.

        Args:
            name: Name of the operation.
            progress: The reading; None before the first.
            note: What the second line says: phase and speed, or the closing line.
            end: "good" or "bad" once the job is over.
        """
        new = (name, progress, note, end)
        if new != self._shown:
            self._shown = new
            self._verb, self._progress, self._note, self._end = new
            self._fold()
            self.refresh()

    def on_resize(self) -> None:
        """Fold the closing words anew."""
        self._fold()

    def _fold(self) -> None:
        """Give the closing words as many lines as they need, three at most."""
        text = fmt.ascii_text(self._note) if self._ascii else self._note
        width = max((self.size.width or self.app.size.width) - 2, 20)
        more = " ..." if self._ascii else " …"
        self._lines = textwrap.wrap(text, width, max_lines=_MOST_LINES, placeholder=more) if self._end else []
        height = 1 + max(len(self._lines), 1)
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    @property
    def text(self) -> str:
        """The panel's words, all lines."""
        numbers = self._numbers(self._progress) if self._progress is not None else []
        return "  ".join([self._verb, *numbers]) + "\n" + self._note

    def render_line(self, y: int) -> Strip:
        """Draw one of the lines."""
        note = self.get_component_rich_style("job-panel--note")
        width = self.size.width
        if self._progress is None:
            return Strip([Segment(" " * width, note)], width)
        name, bar_width, shown, rest = self._fit(self._progress, width)
        if self._end and y:
            tone = self.get_component_rich_style(f"job-panel--{self._end}")
            text = self._lines[y - 1] if y <= len(self._lines) else ""
            return Strip([Segment(f" {text}"[:width], tone)]).adjust_cell_length(width, note)
        if y:
            text = self._second_line([*filter(None, self._note.split(_BETWEEN)), *rest], width)
            return Strip([Segment(text, note)]).adjust_cell_length(width, note)
        style = self.get_component_rich_style
        done = int(bar_width * self._progress.fraction)
        full, empty = ("#", "-") if self._ascii else ("━", "─")
        segments = [
            Segment(name, style("job-panel--name")),
            Segment(full * done, style(f"job-panel--{'good' if self._end == 'good' else 'done'}")),
            Segment(empty * (bar_width - done), style("job-panel--track")),
            Segment("".join(f"  {number}" for number in shown), style("job-panel--number")),
        ]
        return Strip(segments).adjust_cell_length(width, note)

    def _fit(self, progress: JobProgress, width: int) -> tuple[str, int, list[str], list[str]]:
        """Divide the first line: name, columns of the bar, numbers that fit, and those left for the second line."""
        dot = ("*" if self._ascii else "●") if progress.state != "paused" else "="
        name = f" {dot} {self._verb}  "
        bar_width = max(_BAR_LEAST, int(width * _BAR_SHARE))
        room = width - len(name) - bar_width - 1
        numbers = self._numbers(progress)
        shown: list[str] = []
        for number in numbers:
            room -= len(number) + 2
            if room < 0:
                break
            shown.append(number)
        return name, bar_width, shown, [] if self._end else numbers[len(shown) :]

    def _second_line(self, fields: list[str], width: int) -> str:
        """Join as many fields as fit, each of them whole."""
        between = fmt.ascii_text(_BETWEEN) if self._ascii else _BETWEEN
        text = ""
        for field in fields:
            longer = f"{text}{between if text else ' '}{fmt.ascii_text(field) if self._ascii else field}"
            text = longer if cell_len(longer) <= width else text
        return text

    def _numbers(self, progress: JobProgress) -> list[str]:
        if not progress.total_clusters:  # it copies nothing, so there is nothing to count
            return []
        numbers = [
            fmt.percent(progress.fraction),
            f"{fmt.number(progress.clusters)}/{fmt.number(progress.total_clusters)} clusters",
            f"{fmt.size(progress.bytes)} of {fmt.size(progress.total_bytes)}",
            fmt.rate(progress.rate) if progress.rate or progress.state.ended else "rate –",
        ]
        if not progress.state.ended and progress.state != "paused":
            numbers.append(f"ETA {fmt.eta(progress.eta)}")
        numbers.append("observed" if progress.observed else "estimated")
        return [fmt.ascii_text(n) for n in numbers] if self._ascii else numbers
