"""A panel of labelled rows: details of an image, a plan, its hazards, its commands."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.console import Group
from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backchain_tui.describe import Row, Tone
from backchain_tui.formatting import ascii_text
from backchain_tui.theme import Depth, depth_of
from backchain_tui.widgets.scrollbars import keep_to_ascii

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType
    from textual.app import ComposeResult


class RowsPanel(VerticalScroll):
    """Shows `Row`s: labels in a narrow column, long texts folded, a row without a label over the whole width.

    The columns are in line down to the next empty row, also where a row without a label parts them; a hazard has only
    its glyph in the first one.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--label", *(f"rows--{tone}" for tone in Tone)}

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002 - Textual's name
        """Make an empty panel with a title."""
        super().__init__(id=id)
        self.border_title = Content(title)
        self._rows: list[Row] = []

    def compose(self) -> ComposeResult:
        """The text inside of the scrolled window."""
        yield Static(markup=False)

    def show(self, rows: Iterable[Row]) -> None:
        """Show these rows in place of the ones before."""
        new = list(rows)
        if new != self._rows:
            self._rows = new
            self._draw()

    def _draw(self) -> None:
        for static in self.query(Static):
            static.update(self._renderable())

    def on_mount(self) -> None:
        """Follow the application's theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self._draw))
        self._draw()
        self.call_after_refresh(keep_to_ascii, self)

    def _style(self, name: str) -> Style:
        """Give a style of the rows; a colour that is see-through is mixed with the ground, as rich cannot do it."""
        style = self.get_component_rich_style(f"rows--{name}", partial=True)
        color = self.get_component_styles(f"rows--{name}").color
        if color.a == 1 or depth_of(self.app) is not Depth.RGB:
            return style
        return style + Style(color=self.background_colors[1].blend(color, color.a, alpha=1).rich_color)

    def _renderable(self) -> RenderableType:
        parts: list[RenderableType] = []
        table: Table | None = None
        hazards = False
        label_style = self._style("label")
        plain = self.app.has_class("-ascii")
        rows = [Row(ascii_text(r.label), ascii_text(r.text), r.tone) for r in self._rows] if plain else self._rows
        width = _label_width(rows)
        for number, row in enumerate(rows):
            text = Text(row.text, style=self._style(row.tone))
            if not row.label:
                width = width if row.text else _label_width(rows[number + 1 :])
                parts.append(text)
                table = None
                continue
            sign = _sign(row)
            if table is None or hazards != bool(sign):
                hazards = bool(sign)
                table = _grid(0 if hazards else width, gap=1 if hazards else 2)
                parts.append(table)
            if sign:  # the code leads the text: as a column it would leave that no room
                table.add_row(Text(sign, style=text.style), Text(f"{row.label[2:]}: {row.text}", style=text.style))
                continue
            style = label_style if row.tone not in {Tone.BAD, Tone.WARN} else text.style
            table.add_row(Text(row.label, style=style), text)
        return Group(*parts)


def _sign(row: Row) -> str:
    """Give the glyph that stands before the code of a hazard; empty where a row is none."""
    sign, space, code = row.label.partition(" ")
    return sign if space and code and len(sign) == 1 and row.tone in {Tone.BAD, Tone.WARN} else ""


def _label_width(rows: Sequence[Row]) -> int:
    """Give the width of the widest label down to the next empty row."""
    block = takewhile(lambda row: row.label or row.text, rows)
    return max((cell_len(row.label) for row in block if not _sign(row)), default=0)


def _grid(width: int, *, gap: int) -> Table:
    """Make a table of labels, which are `width` cells wide at least, and texts."""
    table = Table.grid(padding=(0, gap, 0, 0))
    table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    return table
