"""What moves in one window of the guest's disk: the decisions that a plan counts and that the engine carries out.

Both use this module, so that what was planned is what is written. The unit of decision is the target's allocation
unit: its cluster, or its subcluster with extended L2 entries. A unit is

* *in place* when the target already holds it in a host cluster of its own: only what the sources cover is written;
* *filled* when it needs a host cluster: its whole content is taken from the view of the top image, so that what the
  sources do not cover keeps its value;
* *zeroed* when the sources cover all of it with zeros: a flag in the L2 entry, no data.

Zeros where the target already reads zeros are no work at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer, map_window
from backchain.image import naming
from backchain.qcow2 import format as fmt
from backchain.runs import ZERO_STATES, Runs, RunState, overlay, split_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer
    from backchain.qcow2.header import Header

_ZERO_STATES = np.array(ZERO_STATES, np.uint8)
_OFFSET = np.uint64(fmt.OFFSET_MASK)


@dataclass(slots=True)
class Pieces:
    """Stretches of guest data to be written, ascending by guest offset.

    Attributes:
        guest: int64, shape (n,): guest offset in bytes.
        length: int64, shape (n,): bytes; a piece never crosses a unit of a qcow2 target.
        layer: int64, shape (n,): index of the layer that provides it.
        zero: bool, shape (n,): it is zeros.
        compressed: bool, shape (n,): `host` is a compressed L2 entry.
        host: int64, shape (n,): host offset in the layer's file in bytes, or the L2 entry.
    """

    guest: NDArray[np.int64]
    length: NDArray[np.int64]
    layer: NDArray[np.int64]
    zero: NDArray[np.bool_]
    compressed: NDArray[np.bool_]
    host: NDArray[np.int64]


@dataclass(slots=True)
class Window:
    """The work of one window.

    Attributes:
        first: Number of the target's first cluster in the window (raw: first cell).
        cells: int64, shape (c,): clusters, relative to `first`, that change; ascending.
        cell_layer: int64, shape (c,): index of the layer each cell is counted for (the topmost that provides it).
        cell_zero: bool, shape (c,): the whole cell becomes zeros.
        pieces: What is written.
        tables: What changes in the target's L2 tables, or None for a raw target.
    """

    first: int
    cells: NDArray[np.int64]
    cell_layer: NDArray[np.int64]
    cell_zero: NDArray[np.bool_]
    pieces: Pieces
    tables: TableChange | None


@dataclass(slots=True)
class TableChange:
    """L2 entries of a window before and after; all arrays have one item per cluster of the window.

    Attributes:
        old: uint64: entries as they are.
        new: uint64: entries as they will be, without the host offset of clusters in `fresh`.
        bitmaps: uint64: subcluster bitmaps as they will be, or None without extended L2 entries.
        changed: bool: the entry or its bitmap changes.
        fresh: bool: the cluster needs a new host cluster.
        dropped: bool: the old host cluster (or compressed data) loses this reference.
    """

    old: NDArray[np.uint64]
    new: NDArray[np.uint64]
    bitmaps: NDArray[np.uint64] | None
    changed: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    dropped: NDArray[np.bool_]


class Transfer:
    """A commit or a pull over open layers, as windows of work.

    Attributes:
        layers: The chain of the image whose view is kept, top first, down to its root.
        target: Index of the layer that receives data.
        sources: Indices of the layers whose data moves.
        size: Guest bytes that are looked at: the virtual size of the first layer.
        cell_size: Guest bytes of a cell: the target's cluster, or the top's for a raw target.
    """

    def __init__(self, layers: Sequence[Layer], target: int, sources: range) -> None:
        """Describe the transfer; a commit has its target below the sources, a pull above."""
        self.layers = tuple(layers)
        self.target = target
        self.sources = sources
        self.size = layers[0].size
        below = sources.stop
        self._below_size = layers[below].size if below < len(layers) else None
        after = target + 1 if target >= below else below
        self._backing_after = layers[after].size if after < len(layers) else 0
        header = self.target_header
        self.cell_size = header.cluster_size if header else layers[0].info.cluster_size or 65536

    @property
    def target_header(self) -> Header | None:
        """The target's qcow2 header, or None for a raw target."""
        layer = self.layers[self.target]
        return layer.file.header if isinstance(layer, Qcow2Layer) else None

    def windows(self) -> Iterator[Window]:
        """Yield the windows in which something moves, in ascending order; reads the tables as it goes."""
        step = max(min(layer.window_bytes for layer in self.layers), self.cell_size)
        end = 0
        while end < self.size:
            # Where no layer holds anything everybody reads zeros, and goes on to do so.
            used = min(layer.next_used(end) for layer in self.layers)
            start = max(end, used // step * step)
            if start >= self.size:
                return
            end = min(start + step, self.size)
            covered, wanted = self._covered(start, end)
            if not wanted.any():
                continue
            header = self.target_header
            window = (
                self._raw_window(covered, wanted)
                if header is None
                else self._qcow2_window(header, start, end, covered, wanted)
            )
            if len(window.cells):
                yield window

    def _covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the layers down to the sources' last, and which of them are to move."""
        stop = self.sources.stop
        runs = map_window(self.layers[:stop], start, end)
        if self._below_size is not None:
            runs = overlay(runs, _below(start, end, self._below_size, stop))
        wanted = ~runs.unresolved() & (runs.state != RunState.ABSENT)
        if self.sources.start > 0:
            wanted &= (runs.layer >= self.sources.start) | (runs.state == RunState.PAST_END)
        return runs, wanted

    # --- raw ------------------------------------------------------------------------------------------------------

    def _raw_window(self, covered: Runs, wanted: NDArray[np.bool_]) -> Window:
        """Decide for a raw target: what is covered is written where it belongs; holes that stay zero are no work."""
        target = self.layers[self.target]
        own = [
            target.runs(int(s), int(min(e, target.size)))
            for s, e in ((covered.start[0], covered.end),)
            if s < target.size
        ]
        if covered.end > target.size:
            own.append(Runs.one(max(int(covered.start[0]), target.size), covered.end, RunState.HOLE))
        holes = Runs.join(own)
        runs = split_at(covered, np.concatenate((holes.start[1:], self._cell_edges(covered))))
        index = np.searchsorted(covered.start, runs.start, "right") - 1
        zero = np.isin(runs.state, _ZERO_STATES)
        hole = holes.state[np.searchsorted(holes.start, runs.start, "right") - 1] == RunState.HOLE
        keep = wanted[index] & ~(zero & hole)
        first = int(covered.start[0]) // self.cell_size
        pieces = _pieces(runs, keep)
        return self._window(first, pieces, pieces, None)

    def _cell_edges(self, runs: Runs) -> NDArray[np.int64]:
        start = int(runs.start[0])
        return np.arange(start, runs.end, self.cell_size, dtype=np.int64)[1:]

    # --- qcow2 ----------------------------------------------------------------------------------------------------

    def _qcow2_window(self, header: Header, start: int, end: int, covered: Runs, wanted: NDArray[np.bool_]) -> Window:
        layer = self.layers[self.target]
        assert isinstance(layer, Qcow2Layer)
        unit, size = header.subcluster_size, header.cluster_size
        per_cluster = size // unit
        clusters = -(-(end - start) // size)
        with naming(layer.info):
            old, old_bitmaps = layer.file.window_entries(start // size, clusters)
        had = _Had.decode(old, old_bitmaps, header)
        edges = np.arange(start, end, unit, dtype=np.int64)
        cut = split_at(covered, edges[1:])
        index = np.searchsorted(covered.start, cut.start, "right") - 1
        keep = wanted[index]
        zero = np.isin(cut.state, _ZERO_STATES)
        where = (cut.start - start) // unit
        count = clusters * per_cluster
        shape = (clusters, per_cluster)
        length = cut.length
        data_bytes = np.bincount(where, np.where(keep & ~zero, length, 0), count).reshape(shape)
        zero_bytes = np.bincount(where, np.where(keep & zero, length, 0), count).reshape(shape)
        unit_start = (start + np.arange(count, dtype=np.int64) * unit).reshape(shape)
        disk_end = max(self.layers[self.target].size, self.size)
        unit_bytes = np.minimum(unit, disk_end - unit_start)
        plain = ~had.alloc & ~had.zero & (unit_start >= self._backing_after)
        idle = (data_bytes == 0) & (had.zero | plain)
        touched = (data_bytes + zero_bytes > 0) & ~idle
        zeroed = touched & (data_bytes == 0) & (zero_bytes >= unit_bytes)
        if header.version < 3:  # no zero flag: only what nothing backs can be left unallocated
            zeroed &= unit_start >= self._backing_after
        written = touched & ~zeroed
        tables, filled = _decide(header, had, old, old_bitmaps, written, zeroed)
        in_place = written & ~filled
        pieces = _pieces(cut, keep & in_place.reshape(-1)[where])
        counted = _pieces(cut, keep & touched.reshape(-1)[where])
        if filled.any():
            view = split_at(self._view(start, end, disk_end), edges[1:])
            pieces = _merge(pieces, _pieces(view, filled.reshape(-1)[(view.start - start) // unit]))
        return self._window(start // size, pieces, counted, tables)

    def _view(self, start: int, end: int, disk_end: int) -> Runs:
        """Give the whole view of the first layer; past its end, up to the unit's, that of the target."""
        view = map_window(self.layers, start, end)
        tail_end = min(-(-end // self.cell_size) * self.cell_size, disk_end)
        if tail_end <= end or self.target == 0:
            return view
        tail = map_window(self.layers[self.target :], end, tail_end)
        tail.layer = (tail.layer + self.target).astype(np.uint16)
        return Runs.join((view, tail))

    def _window(self, first: int, pieces: Pieces, counted: Pieces, tables: TableChange | None) -> Window:
        """Number the cells: clusters that `counted` touches, each counted for the topmost source in it."""
        cluster = counted.guest // self.cell_size - first
        cells, index = np.unique(cluster, return_inverse=True)
        layer = np.full(len(cells), np.iinfo(np.int64).max, np.int64)
        np.minimum.at(layer, index, np.maximum(counted.layer, self.sources.start))
        zero = np.ones(len(cells), bool)
        written = np.isin(cells, np.unique(pieces.guest // self.cell_size - first)) if tables else None
        if written is not None:
            zero = ~written
        else:
            np.logical_and.at(zero, index, counted.zero)
        return Window(first, cells, layer, zero, pieces, tables)


@dataclass(slots=True)
class _Had:
    """What the target holds per unit: bool arrays of shape (clusters, units per cluster)."""

    alloc: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    host: NDArray[np.bool_]
    compressed: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @classmethod
    def decode(cls, old: NDArray[np.uint64], bitmaps: NDArray[np.uint64] | None, header: Header) -> _Had:
        compressed = (old & np.uint64(fmt.OFLAG_COMPRESSED)) != 0
        host = ((old & _OFFSET) != 0) & ~compressed
        own = host & ((old & np.uint64(fmt.OFLAG_COPIED)) != 0)
        if bitmaps is None:
            zero = ((old & np.uint64(fmt.OFLAG_ZERO)) != 0) & ~compressed & (header.version >= 3)
            return cls(((host & ~zero) | compressed)[:, None], zero[:, None], host, compressed, own)
        bits = np.arange(fmt.SUBCLUSTERS_PER_CLUSTER, dtype=np.uint64)
        alloc = ((bitmaps[:, None] >> bits) & np.uint64(1)) != 0
        zero = ((bitmaps[:, None] >> (bits + np.uint64(32))) & np.uint64(1)) != 0
        alloc[compressed] = True
        zero[compressed] = False
        return cls(alloc, zero, host, compressed, own)


def _decide(
    header: Header,
    had: _Had,
    old: NDArray[np.uint64],
    old_bitmaps: NDArray[np.uint64] | None,
    written: NDArray[np.bool_],
    zeroed: NDArray[np.bool_],
) -> tuple[TableChange, NDArray[np.bool_]]:
    """Decide the new L2 entries, and which units are filled as a whole.

    `written` and `zeroed` are bool of shape (clusters, units): the units that will hold data, and those that will read
    as zeros by a flag.

    Returns:
        The change of the tables, and bool of shape (clusters, units): units to be written from the whole view.
    """
    alloc_after = (had.alloc & ~zeroed) | written
    touched = (written | zeroed).any(axis=1)
    wants_host = alloc_after.any(axis=1) & touched
    fresh = wants_host & ~had.own & (written.any(axis=1) | had.compressed)
    filled = (written & (~had.alloc | ~had.own[:, None])) | (fresh[:, None] & alloc_after)
    emptied = touched & ~alloc_after.any(axis=1)
    dropped = (had.host | had.compressed) & (fresh | emptied)
    new = np.where(fresh | emptied, np.uint64(0), old)
    bitmaps = None
    if old_bitmaps is None:
        flag = np.uint64(fmt.OFLAG_ZERO if header.version >= 3 else 0)
        new = np.where(written[:, 0] & ~fresh, new & ~np.uint64(fmt.OFLAG_ZERO), new)
        new = np.where(zeroed[:, 0], flag, new)
        changed = touched & (fresh | (new != old))
    else:
        bits = np.arange(fmt.SUBCLUSTERS_PER_CLUSTER, dtype=np.uint64)
        zero_after = (had.zero & ~written) | zeroed
        bitmaps = (alloc_after.astype(np.uint64) << bits).sum(axis=1, dtype=np.uint64)
        bitmaps |= (zero_after.astype(np.uint64) << (bits + np.uint64(32))).sum(axis=1, dtype=np.uint64)
        bitmaps = np.where(touched, bitmaps, old_bitmaps)
        changed = touched & (fresh | (new != old) | (bitmaps != old_bitmaps))
    return TableChange(old, new, bitmaps, changed, fresh, dropped), filled


def _below(start: int, end: int, size: int, stop: int) -> Runs:
    """Stand for the layer below the sources: it provides what is inside of it, and zeros past its end."""
    inside = Runs.one(start, min(end, size), RunState.UNALLOCATED, layer=stop)
    past = Runs.one(max(start, size), end, RunState.PAST_END, layer=stop - 1)
    if end <= size:
        return inside
    return past if start >= size else Runs.join((inside, past))


def _pieces(runs: Runs, keep: NDArray[np.bool_]) -> Pieces:
    return Pieces(
        runs.start[keep],
        runs.length[keep],
        runs.layer[keep].astype(np.int64),
        np.isin(runs.state[keep], _ZERO_STATES),
        runs.state[keep] == RunState.COMPRESSED,
        runs.host[keep],
    )


def _merge(first: Pieces, second: Pieces) -> Pieces:
    order = np.argsort(np.concatenate((first.guest, second.guest)), kind="stable")
    pairs = zip(_columns(first), _columns(second), strict=True)
    guest, length, layer, zero, compressed, host = (np.concatenate(pair)[order] for pair in pairs)
    return Pieces(guest, length, layer, zero, compressed, host)


def _columns(pieces: Pieces) -> tuple[NDArray[np.generic], ...]:
    return pieces.guest, pieces.length, pieces.layer, pieces.zero, pieces.compressed, pieces.host
