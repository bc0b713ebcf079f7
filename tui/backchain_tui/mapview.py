"""What the cluster map shows: a window of cells over a `DiskMap`, with a job laid over it and a cursor in it.

No Textual here. The view computes numbers that stand for looks (what a cell is and how full); the widget turns looks
into colours and glyphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain_tui.jobgrid import JobGrid, Work
from backchain_tui.mapgrid import DiskMap, Kind, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SHARES = 5
"""Values of `Cells.share` and `WorkCells.share`: 0 to 4."""

WORK_LOOKS = 2048
"""Looks from here on are those of a job's work."""

CURSOR_LOOK = 4095
"""The look of the cell under the cursor."""

PAST_LOOK = 4094
"""The look of a cell past the end of the disk."""


_LARGEST_TILE = 8
"""Rows of the largest cell of a small disk."""

_GAP_FROM = 4
"""Cells of this many rows or more are set apart by a gap, as tiles."""


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring cells of a row that look the same: `upper` and, with two rows to a line, `lower`."""

    length: int
    upper: int
    lower: int


@dataclass(frozen=True, slots=True)
class CellText:
    """What the cell under the cursor is.

    Attributes:
        first: Number of its first cluster.
        last: Number of its last cluster.
        start: Guest offset in bytes.
        place: What its first cluster is, or None where the map is not read yet.
        shares: Kinds with their share of the cell (0.0 to 1.0), the largest first.
        work: What a job does to its first cluster.
    """

    first: int
    last: int
    start: int
    place: Place | None
    shares: tuple[tuple[int, float], ...]
    work: Work


class MapView:
    """A window over a map: geometry, zoom, cursor, and the looks of the visible cells."""

    def __init__(self, disk: DiskMap, *, job: JobGrid | None = None) -> None:
        self.disk = disk
        self.job = job
        self.columns = 1
        self.rows = 1
        self.doubled = True
        self._width = 1
        self._height = 1
        self._tile = (1, 1)
        self.cell = disk.cell_size(1)
        self.first = 0
        self.cursor = 0
        self._zoom: int | None = None
        self._looks: NDArray[np.uint16] = np.zeros((1, 1), np.uint16)

    # --- geometry -------------------------------------------------------------------------------------------------

    def resize(self, columns: int, lines: int, *, doubled: bool) -> None:
        """Fit the view into `lines` lines of `columns` columns; doubled: a line shows two rows of cells.

        A small disk gets cells of several columns and rows each, so that it fills the window.
        """
        self.doubled = doubled
        self._width = max(columns, 1)
        self._height = max(lines, 1) * (2 if doubled else 1)
        self._layout()

    def zoom(self, steps: int) -> bool:
        """Zoom in (steps above 0) or out around the cursor, a factor of 4 a step; say whether anything changed."""
        whole = self.disk.cell_size(self._width * self._height)
        wanted = self.cell
        for _ in range(abs(steps)):
            wanted = wanted // 4 if steps > 0 else wanted * 4
        wanted = min(whole, self.disk.fit(max(wanted, 1)))
        if wanted == self.cell:
            return False
        self._zoom = None if wanted == whole else wanted
        self._layout()
        return True

    def stand_like(self, other: MapView) -> None:
        """Take the cursor and the zoom of another view of the same disk; to be called before `resize`."""
        self.cursor, self._zoom = other.cursor, other._zoom

    @property
    def clusters_per_cell(self) -> int:
        """Clusters that a cell stands for."""
        return self.cell // self.disk.cluster_size

    @property
    def zoomed(self) -> bool:
        """Whether a part of the disk lies outside of the view."""
        return self.cell * self.columns * self.rows < self.disk.size

    def move(self, columns: int, rows: int) -> None:
        """Move the cursor by cells; the window follows."""
        self.place_cursor(self.cursor + (columns + rows * self.columns) * self.clusters_per_cell)

    def place_cursor(self, cluster: int) -> None:
        """Put the cursor on a cluster (clamped to the disk); the window follows."""
        self.cursor = max(0, min(cluster, self.disk.clusters - 1))
        self._follow()

    def cursor_lines(self) -> tuple[int, int]:
        """Give the lines of the window (first, last) that show the cell under the cursor."""
        row = (self.cursor * self.disk.cluster_size - self.first) // self.cell // self.columns
        step = 2 if self.doubled else 1
        return row * self._tile[1] // step, ((row + 1) * self._tile[1] - 1) // step

    def scroll(self, rows: int) -> None:
        """Move the window by rows of cells, the cursor stays where it is visible."""
        self._show(self.first + rows * self.columns * self.cell)
        low = self.first // self.disk.cluster_size
        high = low + (self.columns * self.rows - 1) * self.clusters_per_cell
        self.cursor = max(low, min(self.cursor, high, self.disk.clusters - 1))

    def cluster_at(self, column: int, line: int, *, lower: bool = False) -> int | None:
        """Give the first cluster of the cell at a place of the window, or None past the end."""
        column //= self._tile[0]
        row = (line * 2 + int(lower) if self.doubled else line) // self._tile[1]
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return None
        cluster = (self.first + (row * self.columns + column) * self.cell) // self.disk.cluster_size
        return cluster if cluster < self.disk.clusters else None

    def _layout(self) -> None:
        whole = self.disk.cell_size(self._width * self._height)
        self.cell = whole if self._zoom is None else min(self._zoom, whole)
        self._tile = self._choose_tile() if self.cell == self.disk.cluster_size else (1, 1)
        self.columns = max(1, self._width // self._tile[0])
        self.rows = max(1, self._height // self._tile[1])
        self._follow(center=True)

    def _choose_tile(self) -> tuple[int, int]:
        """Give the columns and rows of the largest cell with which every cluster still fits, none too long."""
        wide = 1 if self.doubled else 2
        best = (1, 1)
        for rows in range(1, _LARGEST_TILE + 1):
            for columns in range(max(1, rows * wide // 3), rows * wide * 2 + 1):
                fits = (self._width // columns) * (self._height // rows) >= self.disk.clusters
                if fits and columns * rows > best[0] * best[1]:
                    best = (columns, rows)
        return best

    def _follow(self, *, center: bool = False) -> None:
        row_bytes = self.columns * self.cell
        position = self.cursor * self.disk.cluster_size
        row = position // row_bytes - self.first // row_bytes
        if center or self.first % row_bytes:
            self._show((position // row_bytes - self.rows // 2) * row_bytes)
        elif row < 0 or row >= self.rows:
            self._show(self.first + (row if row < 0 else row - self.rows + 1) * row_bytes)

    def _show(self, first: int) -> None:
        row_bytes = self.columns * self.cell
        last_row = max(0, -(-self.disk.size // row_bytes) - self.rows)
        self.first = max(0, min(first // row_bytes, last_row)) * row_bytes

    # --- looks ----------------------------------------------------------------------------------------------------

    def compute(self) -> None:
        """Compute the looks of all visible cells."""
        self._looks = self._looks_of(0, self.columns * self.rows).reshape(self.rows, self.columns)

    def touched(self) -> tuple[int, int] | None:
        """Compute what the job has changed since the last call; give the lines (first, last) to draw again."""
        changed = self.job.changed() if self.job is not None else None
        if changed is None:
            return None
        total = self.columns * self.rows
        low = max(0, (changed[0] - self.first) // self.cell)
        high = min(total, -(-(changed[1] - self.first) // self.cell))
        if low >= high:
            return None
        self._looks.reshape(-1)[low:high] = self._looks_of(low, high - low)
        step = 2 if self.doubled else 1
        first_row, last_row = low // self.columns, (high - 1) // self.columns
        return first_row * self._tile[1] // step, ((last_row + 1) * self._tile[1] - 1) // step

    def _looks_of(self, low: int, count: int) -> NDArray[np.uint16]:
        first = self.first + low * self.cell
        cells = self.disk.cells(first, self.cell, count)
        looks = cells.kind.astype(np.uint16) * np.uint16(SHARES) + cells.share
        if self.job is not None:
            work = self.job.cells(first, self.cell, count)
            worked = work.work != Work.NONE
            looks[worked] = WORK_LOOKS + work.work[worked].astype(np.uint16) * SHARES + work.share[worked]
        past = max(0, -(-(self.disk.size - first) // self.cell))
        tail = looks[past:]
        tail[tail < WORK_LOOKS] = PAST_LOOK
        return looks

    def spans(self, line: int, *, cursor: bool) -> Iterator[Span]:
        """Give a line of the window as stretches of equal looks.

        Args:
            line: Line of the window, from 0.
            cursor: Whether to mark the cell under the cursor.
        """
        step = 2 if self.doubled else 1
        upper = self._row(line * step, cursor=cursor)
        lower = self._row(line * step + 1, cursor=cursor) if self.doubled else upper
        edges = np.flatnonzero((np.diff(upper) != 0) | (np.diff(lower) != 0)) + 1
        starts = [0, *edges.tolist()]
        for start, end in zip(starts, [*starts[1:], len(upper)], strict=True):
            yield Span(end - start, int(upper[start]), int(lower[start]))

    def _row(self, row: int, *, cursor: bool) -> NDArray[np.int32]:
        """Give the looks of one row of the window, column by column; int32, shape (window's columns,)."""
        columns, rows = self._tile
        result = np.full(self._width, PAST_LOOK, np.int32)
        if row // rows >= len(self._looks) or (rows >= _GAP_FROM and row % rows == rows - 1):
            return result
        looks = self._looks[row // rows].astype(np.int32)
        place = (self.cursor * self.disk.cluster_size - self.first) // self.cell
        if cursor and place // self.columns == row // rows:
            looks[place % self.columns] = CURSOR_LOOK
        result[: len(looks) * columns] = np.repeat(looks, columns)
        if rows >= _GAP_FROM:
            result[columns - 1 :: columns] = PAST_LOOK
        return result

    def look_at(self, cluster: int) -> int:
        """Give the look of the cell that holds a cluster, which must be visible."""
        place = (cluster * self.disk.cluster_size - self.first) // self.cell
        return int(self._looks.reshape(-1)[place])

    # --- words ----------------------------------------------------------------------------------------------------

    def describe(self, cluster: int) -> CellText:
        """Tell what the cell that holds a cluster is."""
        start = cluster * self.disk.cluster_size // self.cell * self.cell
        weights = self.disk.weights(start, self.cell, 1)[0]
        whole = max(1, min(self.cell, self.disk.size - start))
        shares = tuple((int(k), float(weights[k]) / whole) for k in np.argsort(-weights, kind="stable") if weights[k])
        first = start // self.disk.cluster_size
        last = min(first + self.clusters_per_cell, self.disk.clusters) - 1
        work = self.job.at(start) if self.job is not None else Work.NONE
        return CellText(first, last, start, self.disk.at(first), shares, work)

    def present(self) -> Sequence[int]:
        """Give the kinds that occur on the disk, for the legend."""
        return [int(k) for k in np.flatnonzero(self.disk.totals())]

    def weights(self) -> NDArray[np.int64]:
        """Give the bytes of each kind in the window; int64, shape (kinds,)."""
        weights: NDArray[np.int64] = self.disk.weights(self.first, self.cell * self.columns * self.rows, 1)[0]
        return weights

    def works(self) -> Sequence[Work]:
        """Give the work that the job has done or is to do in the window, for the legend.

        Amid the work there is all of it, as what is being copied comes and goes with every frame.
        """
        looks = self._looks[(self._looks >= WORK_LOOKS) & (self._looks < PAST_LOOK)]
        found = [Work(int(w)) for w in np.unique((looks - WORK_LOOKS) // SHARES)]
        return found if len(found) < 2 else [Work.WAITING, Work.COPYING, Work.DONE]


def is_work(look: int) -> bool:
    """Whether a look is that of a job's work."""
    return WORK_LOOKS <= look < PAST_LOOK


def split_work(look: int) -> tuple[Work, int]:
    """Give what a look of a job's work says: the work, and the share that is done (0 to 4)."""
    work, share = divmod(look - WORK_LOOKS, SHARES)
    return Work(work), share


def split_kind(look: int) -> tuple[int, int]:
    """Give what any other look says: the kind and the share of the cell that is filled (0 to 4)."""
    kind, share = divmod(look, SHARES)
    return kind if kind >= Kind.NOTHING else int(Kind.NOTHING), share
