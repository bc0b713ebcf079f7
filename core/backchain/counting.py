"""What a transfer comes to: clusters and bytes by source, and what the target grows by. Nothing is written.

The engine goes through the same windows; here they are counted, and the target's allocations are simulated.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer
from backchain.pausing import go_on
from backchain.pieces import distinct
from backchain.plan import CopyList
from backchain.qcow2 import format as fmt
from backchain.qcow2.allocator import Allocator
from backchain.raw import data_extents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.pausing import Pause
    from backchain.transfer import Transfer, Window

_PAGE = 4096


@dataclass(slots=True)
class Totals:
    """What a transfer comes to.

    Attributes:
        clusters: Clusters of the target that change, by the index of the layer that they are counted for.
        bytes: Guest data bytes that are written, likewise.
        packed: Those of them that are stored compressed, likewise.
        growth: Upper bound of what the target's file grows by, on disk or in length, in bytes.
        space: The same on disk alone.
    """

    clusters: dict[int, int] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    packed: dict[int, int] = field(default_factory=dict)
    growth: int = 0
    space: int = 0
    _starts: list[NDArray[np.int64]] = field(default_factory=list)
    _counts: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, window: Window, sources: range) -> None:
        """Count a window: its cells as runs of adjacent cells, and by source the cells and the bytes."""
        cells, layer = window.cells, window.cell_layer
        first = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(np.diff(cells) != 1) + 1))
        counts = np.diff(first, append=len(cells))
        self._starts.append(cells[first])
        self._counts.append(counts.astype(np.int32))
        _add_up(self.clusters, layer, np.ones(len(layer), np.int64))
        pieces = window.pieces
        moved = ~pieces.zero & (pieces.layer >= sources.start) & (pieces.layer < sources.stop)
        _add_up(self.bytes, pieces.layer[moved], pieces.length[moved])
        packed = moved & pieces.compressed
        if packed.any():
            _add_up(self.packed, pieces.layer[packed], pieces.length[packed])

    def take_copy_list(self, cell_size: int) -> CopyList:
        """Give the cells, of `cell_size` bytes, as a plan's copy list, once.

        There may be millions, and the totals does not keep them.
        """
        starts = np.concatenate([np.zeros(0, np.int64), *self._starts])
        self._starts.clear()
        counts = np.concatenate([np.zeros(0, np.int64), *self._counts])
        self._counts.clear()
        return CopyList(cell_size, starts, counts)


def _add_up(sums: dict[int, int], layer: NDArray[np.int64], amount: NDArray[np.int64]) -> None:
    """Add amounts to the sum of the layer that each belongs to."""
    present = np.flatnonzero(np.bincount(layer))
    for number in present.tolist():
        total = int(amount.sum() if len(present) == 1 else amount[layer == number].sum())
        sums[number] = sums.get(number, 0) + total


def count(transfer: Transfer, pause: Pause = go_on) -> Totals:
    """Count a transfer's windows, and simulate what its target allocates; `pause` is called between windows."""
    totals = Totals()
    growth = _Growth(transfer)
    for window in transfer.windows():
        pause()
        totals.add(window, transfer.sources)
        growth.add(window)
    totals.growth, totals.space = growth.result()
    return totals


class _Growth:
    """Upper bound of what the target grows by: the allocations are simulated, holes that are filled are counted."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._layer = transfer.layers[transfer.target]
        self._status = os.fstat(self._layer.descriptor)
        self._size = os.lseek(self._layer.descriptor, 0, os.SEEK_END)
        self._sparse = self._status.st_blocks * 512 < self._size
        self._filled = 0
        self._writes = 0
        self._any = False
        self._tables: set[int] = set()
        self._allocator: Allocator | None = None
        self._first_end = 0
        header = transfer.target_header
        if header is not None:
            self._allocator = Allocator(self._layer.descriptor, header, self._size)
            self._first_end = self._allocator.end
            needed = header.l1_entries_needed(max(transfer.size, header.size))
            if transfer.target > 0 and needed > header.l1_size:
                self._allocator.allocate_adjacent(-(-needed * 8 // header.cluster_size))
                self._any = True

    def add(self, window: Window) -> None:
        """Count one window."""
        self._any = True
        change, header = window.tables, self._transfer.target_header
        pieces = window.pieces
        if change is None or header is None or self._allocator is None:
            self._fill(pieces.guest, pieces.length)
            return
        assert isinstance(self._layer, Qcow2Layer)
        self._allocator.allocate(int(np.count_nonzero(change.fresh)))
        l1 = self._layer.file.l1
        tables, _ = distinct(change.clusters[change.changed] // header.l2_entries)
        more = (t for t in tables.tolist() if t not in self._tables)
        fresh = [t for t in more if t >= len(l1) or not int(l1[t]) & fmt.OFLAG_COPIED]
        self._tables.update(fresh)
        self._allocator.allocate(len(fresh))
        if self._sparse:
            row = change.rows(pieces.guest, header.cluster_size)
            old = (change.old[row] & np.uint64(fmt.OFFSET_MASK)).astype(np.int64)
            stays = (old != 0) & ~change.fresh[row]
            self._fill((old + pieces.guest % header.cluster_size)[stays], pieces.length[stays])
        self._writes += len(pieces.guest)

    def result(self) -> tuple[int, int]:
        """Give (growth, space): bytes by which the file grows at most, on disk or in length; on disk alone."""
        header, transfer = self._transfer.target_header, self._transfer
        metadata = _PAGE * (2 + self._writes // 300)
        if self._allocator is None or header is None:
            if stat.S_ISBLK(self._status.st_mode):
                return 0, 0
            longer = max(0, transfer.size - self._size) if transfer.target > 0 else 0
            space = self._filled + (metadata if self._any else 0)
            return max(longer, space), space
        appended = min(self._allocator.allocated, self._allocator.end - self._first_end)
        reused = self._allocator.allocated - appended  # each may open a page of its own in a hole
        space = appended * header.cluster_size + reused * max(header.cluster_size, _PAGE) + self._filled
        longer = max(0, self._allocator.end * header.cluster_size - self._size)
        space += metadata if self._any else 0
        return max(space, longer), space

    def _fill(self, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Count the bytes of host ranges that are holes now, in whole pages."""
        if not len(offsets):
            return
        if not self._sparse and int((offsets + lengths).max()) <= self._size:
            return
        joined = np.flatnonzero(offsets[1:] != offsets[:-1] + lengths[:-1]) + 1
        first = np.concatenate((np.zeros(1, np.int64), joined))
        ends = np.concatenate((offsets[joined - 1] + lengths[joined - 1], offsets[-1:] + lengths[-1:]))
        for start, end in zip(offsets[first].tolist(), ends.tolist(), strict=True):
            low, high = start // _PAGE * _PAGE, -(-end // _PAGE) * _PAGE
            stored = sum(e - s for s, e in data_extents(self._layer.descriptor, low, min(high, self._size)))
            self._filled += max(0, high - low - stored)
            self._writes += 1
