"""The panes below the picture: side by side where the window is wide, else one at a time under a line of tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.app import ComposeResult

_COLUMN_WIDTHS = (100, 165)
"""Window widths from which on there are two and three columns."""


class PaneTabs(Widget):
    """One line with the names of the panes; those that are shown stand out."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane-tabs--shown", "pane-tabs--hidden", "pane-tabs--ground"}

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self.shown: frozenset[int] = frozenset()

    def _labels(self) -> list[str]:
        return [f" {number} {name} " for number, name in enumerate(self._names, 1)]

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - Textual's signature
        """Draw the names."""
        ground = self.get_component_rich_style("pane-tabs--ground")
        segments = [Segment(" ", ground)]
        for number, label in enumerate(self._labels()):
            name = "shown" if number in self.shown else "hidden"
            segments += [Segment(label, self.get_component_rich_style(f"pane-tabs--{name}")), Segment(" ", ground)]
        return Strip(segments).adjust_cell_length(self.size.width, ground)

    def on_click(self, event: events.Click) -> None:
        """Show the pane under the mouse."""
        position = 1
        for number, label in enumerate(self._labels()):
            if position <= event.x < position + len(label):
                self.app.simulate_key(str(number + 1))
            position += len(label) + 1


class Panes(Vertical):
    """Panes in columns; those that find no column of their own take turns in the last one."""

    def __init__(self, names: Sequence[str], panes: Sequence[Widget] = ()) -> None:
        """Put panes side by side.

        Args:
            names: Their names, for the tabs.
            panes: The panes, the most needed first; none when they follow with `fill`.
        """
        super().__init__(id="panes")
        self._panes = list(panes)
        self._count = len(names)
        self._tabs = PaneTabs(names)
        self._active = 0
        self._last = len(names) - 1

    def compose(self) -> ComposeResult:
        """Tabs above, panes below."""
        yield self._tabs
        with Horizontal():
            yield from self._panes

    async def fill(self, panes: Sequence[Widget]) -> None:
        """Put in the panes, which have been left out so far."""
        self._panes = list(panes)
        self._arrange()
        await self.query_one(Horizontal).mount(*panes)

    def on_resize(self) -> None:
        """Show as many panes as the width allows."""
        self._arrange()

    def choose(self, number: int) -> Widget | None:
        """Show pane `number` (from 0) and give it, or None when there is no such pane."""
        if not 0 <= number < len(self._panes):
            return None
        self._active = number
        if number >= self._columns() - 1:
            self._last = number
        self._arrange()
        return self._panes[number]

    def shown(self) -> frozenset[int]:
        """Give the numbers of the panes that are shown."""
        columns = self._columns()
        if columns == 1:
            return frozenset({self._active})
        return frozenset({*range(columns - 1), max(self._last, columns - 1)})

    def _columns(self) -> int:
        width = self.size.width or self.app.size.width
        return min(self._count, 1 + sum(width >= w for w in _COLUMN_WIDTHS))

    def _arrange(self) -> None:
        visible = self.shown()
        for number, pane in enumerate(self._panes):
            pane.display = number in visible
        self._tabs.shown = visible
        self._tabs.display = len(visible) < self._count
        self._tabs.refresh()
        self.set_class(len(visible) == 1, "-single")
