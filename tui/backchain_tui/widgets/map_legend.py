"""The legend of the cluster map: one line that names what is seen, as much of it as fits.

States come first, then layers in the order of the chain. Where not all layers fit, those stay that provide most of what
is on the screen, and the base; a number says how many more there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len

from backchain_tui.widgets.map_words import kind_name, shorten_middle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain_tui.mapview import MapView

_SHORT_NAMES = (8, 11, 15, 21, 30, 42)
"""Columns to which the names of layers are shortened: the first at which they still differ."""
_SHORT_STATE = 5
_SWATCH = 2
"""Columns of the glyph before a name."""


class Entry(NamedTuple):
    """A part of the legend: a look (see `backchain_tui.mapview`; None for words without a glyph) and its name."""

    look: int | None
    name: str

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return cell_len(self.name) + (_SWATCH if self.look is not None else 0)


class Legend(NamedTuple):
    """A line of entries, and the columns between two of them."""

    entries: tuple[Entry, ...]
    gap: int

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return sum(e.width for e in self.entries) + self.gap * (len(self.entries) - 1)


def legend(view: MapView, names: Sequence[str], width: int, *, ascii_only: bool) -> Legend:
    """Name what a map shows.

    Args:
        view: The map.
        names: The names of the layers, top first.
        width: Columns of the line.
        ascii_only: Use ASCII characters alone.
    """
    states, layers = _states(view), _layers(view, names)
    short = [Entry(e.look, shorten_middle(e.name, _SHORT_STATE, ascii_only=ascii_only)) for e in states]
    writer = _Layers(layers, _ranked(view, layers), width, ascii_only=ascii_only)
    for least in (2, 1):
        for some, gap, more in ((states, 2, " more"), (states, 1, " more"), (states, 1, ""), (short, 1, "")):
            found = writer.beside(some, gap, more, least)
            if found is not None:
                return found
    return Legend((*layers[-1:], *short), 1)


def _states(view: MapView) -> list[Entry]:
    """Give what is no layer: a job's work that is on the screen, then kinds."""
    from backchain_tui.mapgrid import Kind
    from backchain_tui.mapview import SHARES, WORK_LOOKS

    works = [Entry(WORK_LOOKS + work * SHARES, work.name.lower()) for work in view.works()]
    own = view.disk.own
    kinds = [k for k in view.present() if own or k < Kind.LAYER]
    return works + [
        Entry(k * SHARES + (SHARES - 1 if k != Kind.NOTHING else 0), kind_name(k, (), own=own)) for k in kinds
    ]


def _layers(view: MapView, names: Sequence[str]) -> list[Entry]:
    """Give the layers that provide something, top first."""
    from backchain_tui.mapgrid import Kind
    from backchain_tui.mapview import SHARES

    kinds = [k for k in view.present() if not view.disk.own and k >= Kind.LAYER]
    return [Entry(k * SHARES + SHARES - 1, kind_name(k, names, own=False)) for k in kinds]


def _ranked(view: MapView, layers: Sequence[Entry]) -> list[Entry]:
    """Sort layers by what they provide of what is on the screen, the base before all."""
    from backchain_tui.mapview import SHARES

    shown, total = view.weights(), view.disk.totals()

    def provides(entry: Entry) -> tuple[int, int]:
        kind = (entry.look or 0) // SHARES
        return int(shown[kind]), int(total[kind])

    return [*layers[-1:], *sorted(layers[:-1], key=provides, reverse=True)]


class _Layers:
    """Writes as many layers into the line as fit beside the states."""

    def __init__(self, layers: Sequence[Entry], ranked: Sequence[Entry], width: int, *, ascii_only: bool) -> None:
        self._layers, self._ranked, self._width, self._ascii = layers, ranked, width, ascii_only
        self._longest = max((cell_len(e.name) for e in layers), default=0)
        self._least = self._shortest()

    def beside(self, states: Sequence[Entry], gap: int, more: str, least: int) -> Legend | None:
        """Give the line with the most layers, or None when not even `least` of them fit (or all, if there are fewer).

        Args:
            states: What comes before them.
            gap: Columns between two entries.
            more: What follows the number of layers that are left out.
            least: How many layers there must be.
        """
        every = len(self._layers)
        if self._fits(self._line(states, gap, more, every, self._least)):
            return self._widened(states, gap, more, every)
        count = min(least, every)
        while count < every and self._fits(self._line(states, gap, more, count, self._least)):
            count += 1
        return self._widened(states, gap, more, count - 1) if count > least else None

    def _widened(self, states: Sequence[Entry], gap: int, more: str, count: int) -> Legend:
        """Give the line in which names have all the room that is left."""
        lines = (self._line(states, gap, more, count, c) for c in range(self._longest, self._least, -1))
        return next(filter(self._fits, lines), self._line(states, gap, more, count, self._least))

    def _fits(self, line: Legend) -> bool:
        return line.width <= self._width

    def _line(self, states: Sequence[Entry], gap: int, more: str, count: int, columns: int) -> Legend:
        chosen, left = set(self._ranked[:count]), len(self._layers) - count
        layers = (Entry(e.look, self._short(e.name, columns)) for e in self._layers if e in chosen)
        rest = (Entry(None, f"+{left}{more}"),) if left else ()
        return Legend((*states, *layers, *rest), gap)

    def _short(self, name: str, columns: int) -> str:
        return shorten_middle(name, columns, ascii_only=self._ascii)

    def _shortest(self) -> int:
        """Give the fewest columns at which names that differ still do."""
        names = {self._short(e.name, self._longest) for e in self._layers}
        fit = (c for c in _SHORT_NAMES if c < self._longest and len({self._short(n, c) for n in names}) == len(names))
        return next(fit, self._longest)
