"""The links of a figure: from each overlay to its backing file, as they were, as they will be, and the new ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backchain_tui.diagram.figure import CLEAR_OF_LABEL, Stage
from backchain_tui.diagram.glyphs import EAST, NORTH, SOUTH, WEST
from backchain_tui.diagram.ink import Ink
from backchain_tui.diagram.measure import shorten
from backchain_tui.diagram.scene import FAINT, LINK_INKS, LIT, NEW, PLAIN

if TYPE_CHECKING:
    from backchain.image import ImageId
    from backchain_tui.diagram.boxes import Rect
    from backchain_tui.diagram.canvas import Canvas
    from backchain_tui.diagram.figure import Figure, Wire
    from backchain_tui.diagram.glyphs import GlyphSet

_LABELS = (" new backing file ", " new link ")


class LinkPainter:
    """Paints the links of one figure."""

    def __init__(self, figure: Figure, top: int) -> None:
        """Take a figure that stands `top` rows below the upper end of the picture."""
        self._figure = figure
        self._top = top

    def paint(self, canvas: Canvas, glyphs: GlyphSet, removed: frozenset[ImageId]) -> None:
        """Paint all links, and the words below boxes.

        Args:
            canvas: Where to.
            glyphs: In which characters.
            removed: Images that were removed after the job, with their links.
        """
        self._plain(canvas, glyphs, removed)
        self._arcs(canvas, glyphs)
        self._relinks(canvas, glyphs)
        self._notes(canvas)

    def _rects(self, wire: Wire) -> tuple[Rect, Rect]:
        """Give the boxes of an overlay and of its backing file."""
        child, file = (self._figure.boxes[n].rect for n in (wire.overlay, wire.backing))
        return replace(child, y=child.y + self._top), replace(file, y=file.y + self._top)

    def _level(self, wire: Wire) -> int:
        plan, overlay = self._figure.plan, self._figure.boxes[wire.overlay]
        if overlay.image is not None and overlay.image not in plan.before:
            return NEW
        return FAINT if overlay.stage is Stage.AFTER and overlay.image in plan.removable else PLAIN

    def _plain(self, canvas: Canvas, glyphs: GlyphSet, removed: frozenset[ImageId]) -> None:
        heads: list[tuple[int, int, int]] = []
        for wire in self._figure.wires:
            overlay = self._figure.boxes[wire.overlay]
            if overlay.stage is Stage.AFTER and overlay.image in removed:
                continue
            level = self._level(wire)
            child, file = self._rects(wire)
            trunk = _trunk(child, file)
            canvas.horizontal(file.right, trunk, file.middle, level)
            canvas.vertical(trunk, min(file.middle, child.middle), max(file.middle, child.middle), level)
            canvas.horizontal(trunk, child.x - 1, child.middle, level)
            canvas.arm(child.x - 1, child.middle, EAST, level)
            heads.append((file.right, file.middle, level))
        canvas.finish_lines(glyphs, LINK_INKS, LIT)
        for x, y, level in sorted(heads, key=lambda h: h[2]):
            canvas.put(x, y, glyphs.heads[0], LINK_INKS[level])

    def _arcs(self, canvas: Canvas, glyphs: GlyphSet) -> None:
        """Draw links that bridge boxes: above the upper row, below the channel of the new links."""
        heads: list[tuple[int, int, int]] = []
        for wire in self._figure.arcs:
            level = self._level(wire)
            child, file = self._rects(wire)
            above = self._figure.boxes[wire.overlay].stage is Stage.BEFORE
            row = child.y - 1 if above else self._figure.channel + self._top + 1
            start, end = file.center, child.center
            if above:
                canvas.arm(end, row, SOUTH, level)
                heads.append((start, row, level))
            else:
                start = self._clear_of_words(file)
                canvas.vertical(end, child.below, row, level)
                canvas.arm(end, child.below, NORTH, level)
                canvas.vertical(start, file.below, row, level)
                heads.append((start, file.below, level))
            canvas.horizontal(start, end, row, level)
        canvas.finish_lines(glyphs, LINK_INKS, LIT)
        for x, y, level in heads:
            canvas.put(x, y, glyphs.heads[2 if y < self._middle else 1], LINK_INKS[level])

    @property
    def _middle(self) -> int:
        return (self._figure.channel + self._top) // 2

    def _relinks(self, canvas: Canvas, glyphs: GlyphSet) -> None:
        row = self._figure.channel + self._top
        ends = [self._relink(canvas, wire, row) for wire in self._figure.relinks]
        canvas.finish_lines(glyphs, (Ink.BLANK, Ink.RELINK), 9)
        for start, end in ends:
            canvas.put(start, row, glyphs.heads[1], Ink.RELINK)
            for x in (c for c in self._crossing() if start < c < end):
                canvas.put(x, row, glyphs.light[NORTH | EAST | SOUTH | WEST], Ink.RELINK)
        if ends:
            start, end = max(ends, key=lambda e: e[1] - e[0])
            text = next((t for t in _LABELS if len(t) + 4 <= end - start), "")
            canvas.put(self._free_place(start + 2, end - len(text), len(text)), row, text, Ink.RELINK_LABEL)

    def _crossing(self) -> list[int]:
        """Give the columns in which other links cross the channel."""
        figure = self._figure
        found = [figure.boxes[w.overlay].rect.center for w in figure.arcs if self._below(w)]
        for wire in figure.wires:
            child, file = (figure.boxes[n].rect for n in (wire.overlay, wire.backing))
            if file.y < figure.channel < child.y:
                found.append(_trunk(child, file))
        return found

    def _below(self, wire: Wire) -> bool:
        return self._figure.boxes[wire.overlay].stage is Stage.AFTER

    def _free_place(self, first: int, last: int, size: int) -> int:
        """Find the column, as near as can be to the middle, at which words in the channel cover no other link."""
        middle = (first + last) // 2
        places = sorted(range(first, last + 1), key=lambda x: abs(x - middle))
        crossing = self._crossing()
        return next((x for x in places if not any(x <= c < x + size for c in crossing)), middle)

    def _relink(self, canvas: Canvas, wire: Wire, row: int) -> tuple[int, int]:
        """Draw a new link along its channel; give the channel's columns."""
        child, file = self._rects(wire)
        start = self._clear_of_words(file)
        if child.y < row:
            canvas.horizontal(start, child.center, row, 1)
            canvas.arm(child.center, row, NORTH, 1)
            return start, child.center
        trunk = child.x - 2
        canvas.horizontal(start, trunk, row, 1)
        canvas.vertical(trunk, row, child.middle, 1)
        canvas.horizontal(trunk, child.x - 1, child.middle, 1)
        canvas.arm(child.x - 1, child.middle, EAST, 1)
        return start, trunk

    def _clear_of_words(self, rect: Rect) -> int:
        """Give the column below a box at which a link ends, right of the word AFTER."""
        return min(max(rect.center, self._figure.labels[0][0] + 6), rect.right - 2)

    def _notes(self, canvas: Canvas) -> None:
        figure = self._figure
        first = figure.labels[-1][0] + CLEAR_OF_LABEL
        for number, words in figure.notes:
            text = shorten(words, figure.width - first - 1)
            x = figure.boxes[number].rect.center - len(text) // 2
            x = max(first, min(x, figure.width - len(text) - 2))
            canvas.put(x, figure.channel + self._top, text, Ink.RELINK_LABEL)


def _trunk(child: Rect, file: Rect) -> int:
    """Give the column in which a link goes up or down."""
    return child.x - 1 - (child.x - file.right) // 2
