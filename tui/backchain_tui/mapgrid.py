"""From runs to the cells of a cluster map, without a screen and without a Python loop per cluster.

A `DiskMap` takes the windows of `backchain.clustermap` as they come. It keeps the runs (for the deepest zoom and the
cell under the cursor) and, for every coarser zoom, the bytes of each kind that lie before each block: a cell is then
the difference of two columns, however much of the disk it stands for. Opening is one pass over runs and blocks, without
cutting runs where blocks end: how much of a kind lies before a place is known for the start of the run that holds it,
and the rest is the way into that run.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from backchain.runs import Runs, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

DEFAULT_CLUSTER = 64 * 1024
"""Bytes of a cluster where the format knows none (raw): QEMU's default for qcow2."""

_BATCH_RUNS = 32_768
"""Small windows are joined up to this many runs before they are counted: numpy's price is per call."""

_BATCH_SECONDS = 0.1
"""Windows are counted after this time however few their runs are, so that what is read so far can be shown."""

_MAX_BLOCKS = 1 << 18
"""Blocks of the table of sums; with 64 KiB clusters a block is one cluster up to 16 GiB."""

_TABLE_VALUES = 1 << 22
"""Values of the table of sums, which bounds its memory (32 MiB) when a chain has many layers."""


MAX_LAYERS = 250
"""Layers that are told apart; what lies below them counts as the last."""


class Kind(IntEnum):
    """What a stretch of the map holds. In a whole chain, `LAYER` + n is data that layer n (0: the top) provides."""

    NOTHING = 0
    """In no layer: reads as zeros. Of one image alone: not in this image."""
    ZERO = 1
    """Zeros by a flag, or a hole of a raw file."""
    COMPRESSED = 2
    """Compressed data of one image (a whole chain shows the layer instead)."""
    LAYER = 3
    """Data of the top layer; the next values are the layers below it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What one cluster of the map is.

    Attributes:
        cluster: Number of the cluster.
        start: Guest offset in bytes.
        state: How the first byte of the cluster is stored.
        layer: 0 for the top of the chain, counting down.
        host: Offset in the layer's file in bytes, or -1.
        kind: Value of `Kind`, or above.
    """

    cluster: int
    start: int
    state: RunState
    layer: int
    host: int
    kind: int


@dataclass(frozen=True, slots=True)
class Cells:
    """A zoom of the map.

    Attributes:
        kind: uint8, shape (cells,): the kind that fills most of the cell, empty ones only where nothing else is.
        share: uint8, shape (cells,): how full the cell is of anything but nothing: 0 (empty), then 1 to 4.
    """

    kind: NDArray[np.uint8]
    share: NDArray[np.uint8]


class DiskMap:
    """The map of a guest's disk, from a whole chain or from one image alone.

    Attributes:
        size: Bytes of the guest's disk.
        cluster_size: Bytes of a cluster.
        own: Whether it shows one image's own states rather than layers.
        kinds: How many kinds are told apart (see `Kind`).
        block: Bytes of a block, above which cells are whole numbers of blocks.
        reached: Guest offset in bytes up to which it has been read.
        complete: Whether all that there is has been read.
    """

    def __init__(self, size: int, cluster_size: int | None, *, layers: int = 1, own: bool = False) -> None:
        """Make an empty map.

        Args:
            size: Bytes of the guest's disk.
            cluster_size: Bytes of a cluster; None takes QEMU's default.
            layers: Number of images of the chain.
            own: Show one image's own states (compressed apart) rather than layers.
        """
        self.size = size
        self.cluster_size = cluster_size or DEFAULT_CLUSTER
        self.own = own
        self.kinds = int(Kind.LAYER) + min(layers, MAX_LAYERS)
        self.block = _block_size(size, self.cluster_size, self.kinds)
        self.reached = 0
        self.complete = False
        self._blocks = max(1, -(-size // self.block))
        self._sums: NDArray[np.int64] = np.zeros((self.kinds, self._blocks + 1), np.int64)
        self._edge = 0  # the last column of the sums that is known; written last, as a screen may be reading
        self._read: NDArray[np.int64] = np.zeros(self.kinds, np.int64)
        self._batches: list[Runs] = []
        self._firsts: list[int] = []
        self._lookup = _kind_lookup(own=own)

    @property
    def clusters(self) -> int:
        """Number of clusters, the last of which may be shorter."""
        return -(-self.size // self.cluster_size)

    def feed(self, windows: Iterable[Runs]) -> Iterator[int]:
        """Take windows in order; yields the guest offset reached after each batch, so that a caller may stop."""
        waiting: list[Runs] = []
        count, since = 0, time.monotonic()
        for window in windows:
            if not len(window):
                continue
            waiting.append(window)
            count += len(window)
            if count >= _BATCH_RUNS or time.monotonic() - since >= _BATCH_SECONDS:
                yield self._take(waiting)
                waiting, count, since = [], 0, time.monotonic()
        reached = self._take(waiting) if waiting else None
        self.complete = True
        if reached is not None:
            yield reached

    def _take(self, windows: list[Runs]) -> int:
        runs = windows[0] if len(windows) == 1 else Runs.join(windows)
        self._batches.append(runs)
        self._firsts.append(int(runs.start[0]))
        end = min(runs.end, self.size)
        if end > runs.start[0]:
            last = self._blocks if end == self.size else end // self.block
            edges = np.arange(self._edge + 1, last + 2, dtype=np.int64) * self.block
            edges[-1] = end
            if last == self._blocks:
                edges[-2:-1] = end  # the last block may be shorter
            sums = self._before(runs, edges)
            self._sums[:, self._edge + 1 : last + 1] = self._read[:, None] + sums[:, :-1]
            self._read = self._read + sums[:, -1]
            self._edge = last
        self.reached = runs.end
        self.complete = self.reached >= self.size
        return self.reached

    def cell_size(self, cells: int) -> int:
        """Give the smallest legal cell, in bytes, with which the whole disk fits into `cells` cells."""
        return self.fit(-(-self.size // max(cells, 1)))

    def fit(self, wanted: int) -> int:
        """Round a cell up to a whole number of clusters and, above a block, of blocks."""
        unit = self.cluster_size if wanted <= self.block else self.block
        return max(1, -(-wanted // unit)) * unit

    def cells(self, first: int, cell: int, count: int) -> Cells:
        """Give `count` cells of `cell` bytes (see `fit`) from guest offset `first` (a multiple of `cell`) on.

        Cells past the end of the disk come out as empty.
        """
        weights = self.weights(first, cell, count)
        full = weights[:, 1:].sum(axis=1)
        kind = weights[:, 1:].argmax(axis=1).astype(np.uint8) + np.uint8(1)
        kind[full == 0] = Kind.NOTHING
        span = np.minimum(cell, np.maximum(1, self.size - first - np.arange(count, dtype=np.int64) * cell))
        share = -(-full * 4 // span)
        return Cells(kind, np.minimum(share, 4).astype(np.uint8))

    def weights(self, first: int, cell: int, count: int) -> NDArray[np.int64]:
        """Give the bytes of each kind in each cell; int64, shape (count, kinds)."""
        result = np.zeros((count, self.kinds), np.int64)
        inside = min(count, max(0, -(-(self.size - first) // cell)))
        if inside <= 0:
            return result
        edges = np.arange(inside + 1, dtype=np.int64) * cell + first
        if cell % self.block == 0:
            result[:inside] = np.diff(self._sums[:, np.minimum(edges // self.block, self._edge)], axis=1).T
            return result
        np.minimum(edges, self.size, out=edges)
        for runs in self._overlapping(first, int(edges[-1])):
            result[:inside] += np.diff(self._before(runs, np.clip(edges, runs.start[0], runs.end)), axis=1).T
        return result

    def at(self, cluster: int) -> Place | None:
        """Tell what a cluster is, or None where the map has not been read."""
        start = cluster * self.cluster_size
        index = bisect_right(self._firsts, start) - 1
        if index < 0 or start >= self._batches[index].end:
            return None
        runs = self._batches[index]
        run = int(np.searchsorted(runs.start, start, "right")) - 1
        state = RunState(int(runs.state[run]))
        host = int(runs.host[run])
        if host >= 0 and state is not RunState.COMPRESSED:
            host += start - int(runs.start[run])
        kind = int(self._kinds_of(runs, slice(run, run + 1))[0])
        return Place(cluster, start, state, int(runs.layer[run]), host, kind)

    def totals(self) -> NDArray[np.int64]:
        """Give the bytes of each kind on the whole disk; int64, shape (kinds,)."""
        return self._read.copy()

    def _overlapping(self, first: int, end: int) -> Iterator[Runs]:
        index = max(0, bisect_right(self._firsts, first) - 1)
        for runs in self._batches[index:]:
            if int(runs.start[0]) >= end:
                return
            low = max(0, int(np.searchsorted(runs.start, first, "right")) - 1)
            high = int(np.searchsorted(runs.start, end, "left"))
            stop = int(runs.start[high]) if high < len(runs) else runs.end
            part = slice(low, high)
            yield Runs(runs.start[part], runs.state[part], runs.layer[part], runs.host[part], stop)

    def _kinds_of(self, runs: Runs, part: slice = slice(None)) -> NDArray[np.uint8]:
        """Give the kind of each run; uint8, as `MAX_LAYERS` bounds it."""
        kinds: NDArray[np.uint8] = self._lookup.take(runs.state[part])
        if not self.own and self.kinds > Kind.LAYER + 1:
            layers = np.minimum(runs.layer[part], self.kinds - int(Kind.LAYER) - 1).astype(np.uint8)
            kinds += layers * (kinds == Kind.LAYER)
        return kinds

    def _before(self, runs: Runs, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the bytes of each kind that `runs` hold before each edge; int64, shape (kinds, len(edges)).

        Args:
            runs: A window of runs.
            edges: int64, shape (n,): ascending guest offsets in bytes; none after the end of the runs.
        """
        kinds, lengths = self._kinds_of(runs), runs.length
        at = _last_starts(runs.start, edges)
        inside = np.maximum(edges - runs.start[at], 0)
        kind_at = kinds[at]
        sums = np.zeros((self.kinds, len(edges)), np.int64)
        for kind in np.flatnonzero(np.bincount(kinds)).tolist():
            own = lengths * (kinds == kind)
            np.take(np.cumsum(own) - own, at, out=sums[kind])
            sums[kind] += inside * (kind_at == kind)
        return sums


def _last_starts(starts: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the last start (its index; 0 where there is none) up to each edge; both ascend. The fewer are searched for.

    Returns:
        int64, shape (len(edges),).
    """
    if len(starts) > len(edges):
        return np.maximum(np.searchsorted(starts, edges, "right") - 1, 0)
    first_edge = np.searchsorted(edges, starts, "left")
    return np.maximum(np.cumsum(np.bincount(first_edge, minlength=len(edges))[: len(edges)]) - 1, 0)


def _block_size(size: int, cluster_size: int, kinds: int) -> int:
    """Choose the block: a power of two of clusters, so that the table of counts stays small."""
    blocks = min(_MAX_BLOCKS, _TABLE_VALUES // kinds)
    block = cluster_size
    while -(-size // block) > blocks:
        block *= 2
    return block


def _kind_lookup(*, own: bool) -> NDArray[np.uint8]:
    table = np.zeros(max(RunState) + 1, np.uint8)
    for state in (RunState.ZERO, RunState.ZERO_ALLOCATED, RunState.HOLE):
        table[state] = Kind.ZERO
    for state in (RunState.DATA, RunState.DATA_HOLE):
        table[state] = Kind.LAYER
    table[RunState.COMPRESSED] = Kind.COMPRESSED if own else Kind.LAYER
    return table
