"""From a job's cells to the cells of a cluster map: which stretches of the target wait, are copied, are done.

A job's array is in the order of the plan's copy list, which ascends by guest offset; the map is by guest offset. The
engine writes the array while this module reads it, without a lock: a cell read too early is read again on the next
tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from backchain.jobs import Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.plan import CopyList


class Work(IntEnum):
    """What a job does to a cell of the map."""

    NONE = 0
    """Nothing: the job leaves these clusters as they are."""
    WAITING = 1
    COPYING = 2
    DONE = 3


@dataclass(frozen=True, slots=True)
class WorkCells:
    """A job at one zoom of the map.

    Attributes:
        work: uint8, shape (cells,): a `Work` value; copying where any cluster is being copied, done where all are.
        share: uint8, shape (cells,): how much of the cell's work is done, 0 (none) to 4 (all).
    """

    work: NDArray[np.uint8]
    share: NDArray[np.uint8]


class JobGrid:
    """A job's cells by guest offset."""

    def __init__(self, copy_list: CopyList, cells: NDArray[np.uint8]) -> None:
        """Look at a job.

        Args:
            copy_list: The plan's copy list.
            cells: uint8, shape (copy_list.clusters,): `backchain.jobs.Cell` values that an engine may be writing.
        """
        self.cluster_size = copy_list.cluster_size
        self._starts = copy_list.starts
        self._counts = copy_list.counts
        self._before = np.cumsum(copy_list.counts) - copy_list.counts
        self._cells = cells
        self._seen = cells.copy()

    def cells(self, first: int, cell: int, count: int) -> WorkCells:
        """Give `count` cells of `cell` bytes from guest offset `first` on."""
        low, high = self._indices(first, cell, count)
        work = np.zeros(count, np.uint8)
        share = np.zeros(count, np.uint8)
        if not len(self._cells) or low[0] == high[-1]:
            return WorkCells(work, share)
        begin = int(low[0])
        window = self._cells[begin : int(high[-1])]
        pairs = np.stack((low, high), axis=1).ravel() - begin
        done = _sums(window >= Cell.DONE, pairs)
        copying = _sums(window == Cell.COPYING, pairs)
        total = high - low
        work[total > 0] = Work.WAITING
        work[(total > 0) & (done == total)] = Work.DONE
        work[(copying > 0) & (total > 0)] = Work.COPYING
        share[:] = np.where(total > 0, done * 4 // np.maximum(total, 1), 0)
        share[(share == 0) & (done > 0) & (total > 0)] = 1
        return WorkCells(work, share)

    def changed(self) -> tuple[int, int] | None:
        """Give the guest range in bytes (start, end) that was touched since the last call, or None."""
        different = self._cells != self._seen
        first = int(different.argmax()) if len(different) else 0
        if not len(different) or not different[first]:
            return None
        last = len(different) - 1 - int(different[::-1].argmax())
        self._seen[first : last + 1] = self._cells[first : last + 1]
        return self._guest(first) * self.cluster_size, (self._guest(last) + 1) * self.cluster_size

    def at(self, offset: int) -> Work:
        """Tell what the job does to the cluster at a guest offset in bytes."""
        cluster = offset // self.cluster_size
        low, high = int(self._index(np.array([cluster]))[0]), int(self._index(np.array([cluster + 1]))[0])
        if low == high:
            return Work.NONE
        value = int(self._cells[low])
        return Work.DONE if value >= Cell.DONE else Work.COPYING if value == Cell.COPYING else Work.WAITING

    def _guest(self, index: int) -> int:
        run = int(np.searchsorted(self._before, index, "right")) - 1
        return int(self._starts[run]) + index - int(self._before[run])

    def _indices(self, first: int, cell: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        edges = first + np.arange(count + 1, dtype=np.int64) * cell
        low = self._index(edges[:-1] // self.cluster_size)
        high = self._index(-(-edges[1:] // self.cluster_size))
        return low, high

    def _index(self, clusters: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the number of job cells before each guest cluster."""
        if not len(self._starts):
            return np.zeros(len(clusters), np.int64)
        run = np.searchsorted(self._starts, clusters, "right") - 1
        known = np.maximum(run, 0)
        inside = np.minimum(clusters - self._starts[known], self._counts[known])
        return np.where(run < 0, 0, self._before[known] + inside)


def _sums(flags: NDArray[np.bool_], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the set flags between each pair of indices."""
    padded = np.append(flags, False)
    sums: NDArray[np.int64] = np.add.reduceat(padded, pairs, dtype=np.int64)[::2]
    return np.where(pairs[::2] < pairs[1::2], sums, 0)
