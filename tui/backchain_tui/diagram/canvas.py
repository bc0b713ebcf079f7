"""A canvas: characters and ink ids on a grid of cells, in numpy arrays, for one window of a larger picture.

Coordinates are those of the picture; what lies outside of the window is clipped. Lines are collected as arms per cell
and become glyphs at the end, so that lines that meet get the right junction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.cells import get_character_cell_size

from backchain_tui.diagram.glyphs import EAST, NORTH, SOUTH, WEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backchain_tui.diagram.glyphs import GlyphSet

_SPACE = ord(" ")
_TAIL = 0
"""Second cell of a wide character."""


class Canvas:
    """A window of width x height cells whose top left cell is (left, top) of the picture.

    Attributes:
        chars: uint32, shape (height, width): code points; 0 for the second cell of a wide character.
        inks: uint16, shape (height, width): ink ids.
    """

    def __init__(self, width: int, height: int, left: int = 0, top: int = 0) -> None:
        self.width, self.height, self.left, self.top = width, height, left, top
        self.chars: NDArray[np.uint32] = np.full((height, width), _SPACE, np.uint32)
        self.inks: NDArray[np.uint16] = np.zeros((height, width), np.uint16)
        self._arms: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        self._levels: NDArray[np.uint8] = np.zeros((height, width), np.uint8)

    def sees(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether any cell of a rectangle of the picture lies in the window."""
        return (
            x < self.left + self.width
            and x + width > self.left
            and y < self.top + self.height
            and y + height > self.top
        )

    def put(self, x: int, y: int, text: str, ink: int) -> None:
        """Write cleaned text, clipped at the window's edges; half of a wide character becomes a space."""
        row, column = y - self.top, x - self.left
        if not 0 <= row < self.height or column >= self.width:
            return
        if text.isascii():
            skip = max(-column, 0)
            part = text[skip : skip + self.width - max(column, 0)]
            if part:
                column = max(column, 0)
                self.chars[row, column : column + len(part)] = np.frombuffer(part.encode("ascii"), np.uint8)
                self.inks[row, column : column + len(part)] = ink
            return
        if len(text) == 1 and column >= 0 and get_character_cell_size(text) == 1:
            self.chars[row, column] = ord(text)
            self.inks[row, column] = ink
            return
        for character in text:
            size = get_character_cell_size(character)
            self._put_one(row, column, character, size, ink)
            column += size

    def _put_one(self, row: int, column: int, character: str, size: int, ink: int) -> None:
        whole = column >= 0 and column + size <= self.width
        for cell in range(max(column, 0), min(column + size, self.width)):
            first = ord(character) if whole else _SPACE
            self.chars[row, cell] = first if cell == column or not whole else _TAIL
            self.inks[row, cell] = ink

    def fill(self, x: int, y: int, width: int, height: int, character: str, ink: int) -> None:
        """Fill a rectangle with one narrow character."""
        rows = slice(max(y - self.top, 0), max(y + height - self.top, 0))
        columns = slice(max(x - self.left, 0), max(x + width - self.left, 0))
        self.chars[rows, columns] = ord(character)
        self.inks[rows, columns] = ink

    def scatter(
        self, x: NDArray[np.int32], y: NDArray[np.int32], chars: NDArray[np.uint32], inks: NDArray[np.uint16]
    ) -> None:
        """Write single narrow characters at many places; all arrays have shape (n,)."""
        column, row = x - self.left, y - self.top
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        self.chars[row[inside], column[inside]] = chars[inside]
        self.inks[row[inside], column[inside]] = inks[inside]

    def written(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32], NDArray[np.uint16]]:
        """Give the cells that have an ink, as `scatter` takes them; for what holds no wide characters."""
        row, column = np.nonzero(self.inks)
        x, y = (column + self.left).astype(np.int32), (row + self.top).astype(np.int32)
        return x, y, self.chars[row, column], self.inks[row, column]

    def holds(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether every cell of a rectangle of the picture lies in the window."""
        return (
            x >= self.left
            and x + width <= self.left + self.width
            and y >= self.top
            and y + height <= self.top + self.height
        )

    def paste(self, other: Canvas) -> None:
        """Put another canvas, whose window lies in this one's, over what is there."""
        rows = slice(other.top - self.top, other.top - self.top + other.height)
        columns = slice(other.left - self.left, other.left - self.left + other.width)
        self.chars[rows, columns] = other.chars
        self.inks[rows, columns] = other.inks

    def horizontal(self, x0: int, x1: int, y: int, level: int) -> None:
        """Draw a line from the middle of cell x0 to the middle of cell x1 (x0 <= x1) of row y.

        Args:
            x0: First cell.
            x1: Last cell.
            y: Row.
            level: Index into the inks of `finish_lines`; where lines meet, the highest wins.
        """
        row = y - self.top
        if 0 <= row < self.height:
            self._span(self._arms[row], x0 - self.left, x1 - self.left, EAST, WEST)
            self._raise(self._levels[row], x0 - self.left, x1 - self.left, level)

    def vertical(self, x: int, y0: int, y1: int, level: int) -> None:
        """Draw a line from the middle of cell y0 to the middle of cell y1 (y0 <= y1) of column x."""
        column = x - self.left
        if 0 <= column < self.width:
            self._span(self._arms[:, column], y0 - self.top, y1 - self.top, SOUTH, NORTH)
            self._raise(self._levels[:, column], y0 - self.top, y1 - self.top, level)

    def arm(self, x: int, y: int, arms: int, level: int) -> None:
        """Add single arms to a cell, for a line that goes on into something that is no line."""
        row, column = y - self.top, x - self.left
        if 0 <= row < self.height and 0 <= column < self.width:
            self._arms[row, column] |= arms
            self._levels[row, column] = max(int(self._levels[row, column]), level)

    @staticmethod
    def _span(cells: NDArray[np.uint8], first: int, last: int, onward: int, back: int) -> None:
        cells[max(first, 0) : max(last, 0)] |= onward
        cells[max(first + 1, 0) : max(last + 1, 0)] |= back

    @staticmethod
    def _raise(cells: NDArray[np.uint8], first: int, last: int, level: int) -> None:
        part = cells[max(first, 0) : max(last + 1, 0)]
        np.maximum(part, level, out=part)

    def finish_lines(self, glyphs: GlyphSet, inks: Sequence[int], heavy_from: int) -> None:
        """Turn the lines drawn so far into glyphs, and forget them.

        Args:
            glyphs: The glyph set.
            inks: Ink per level.
            heavy_from: Lines of this level and above are heavy.
        """
        drawn = self._arms > 0
        if drawn.any():
            light = np.array([ord(c) for c in glyphs.light], np.uint32)
            heavy = np.array([ord(c) for c in glyphs.heavy], np.uint32)
            arms, levels = self._arms[drawn], self._levels[drawn]
            self.chars[drawn] = np.where(levels >= heavy_from, heavy[arms], light[arms])
            self.inks[drawn] = np.array(inks, np.uint16)[levels]
            self._arms[:] = 0
            self._levels[:] = 0

    def runs(self, row: int) -> Iterator[tuple[str, int]]:
        """Give a row of the window as stretches of one ink: (text, ink id)."""
        inks = self.inks[row]
        text = self.chars[row].astype("<u4").tobytes().decode("utf-32-le")
        cuts = np.flatnonzero(inks[1:] != inks[:-1]) + 1
        start = 0
        for end in [*cuts.tolist(), self.width]:
            yield text[start:end].replace("\0", ""), int(inks[start])
            start = end

    def text(self) -> str:
        """Give the window as plain text, without spaces at the ends of lines."""
        lines = ("".join(part for part, _ in self.runs(row)).rstrip() for row in range(self.height))
        return "\n".join(lines).rstrip() + "\n"

    def changed_rows(self, other: Canvas) -> NDArray[np.intp]:
        """Give the rows of the window that differ from those of another canvas of the same size."""
        return np.flatnonzero(((self.chars != other.chars) | (self.inks != other.inks)).any(axis=1))
