"""What moves in one window of the guest's disk: the decisions that a plan counts and that the engine carries out.

Both use this module, so that what was planned is what is written. The unit of decision is the target's allocation
unit: its cluster, or its subcluster with extended L2 entries. A unit is

* *in place* when the target already holds it in a host cluster of its own: only what is to move is written;
* *filled* when it needs a host cluster: its whole content is taken from the view of the first image, so that what does
  not move keeps its value;
* *zeroed* when all of it becomes zeros: a flag in the L2 entry, no data.

Zeros where the target already reads zeros are no work at all. The work of a window follows what moves in it, not the
size of the window: nothing is laid out per unit but the units that are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer, map_window
from backchain.decisions import Had, TableChange, decide
from backchain.image import naming
from backchain.pausing import go_on
from backchain.pieces import Pieces, distinct
from backchain.runs import Runs, RunState, split_at
from backchain.selection import Differing, Merged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer
    from backchain.image import ImageId
    from backchain.pausing import Pause
    from backchain.plan import CopyList
    from backchain.qcow2.header import Header
    from backchain.selection import Selection
    from backchain.shapes import Shape

_MOST_UNITS = 65536
"""Units that are decided on at once, at most: an array of one number each is half a megabyte."""

_PAGE = 65536
"""Bytes by which file systems allocate, at most."""


@dataclass(slots=True)
class Window:
    """The work of one window.

    Attributes:
        cells: int64, shape (c,): clusters of the target (raw: cells) that change; ascending.
        cell_layer: int64, shape (c,): index of the layer each cell is counted for (the topmost that provides it).
        pieces: What is written; none crosses a unit of a qcow2 target.
        tables: What changes in the target's L2 tables, or None for a raw target.
    """

    cells: NDArray[np.int64]
    cell_layer: NDArray[np.int64]
    pieces: Pieces
    tables: TableChange | None


class Transfer:
    """An operation over open layers, as windows of work.

    Attributes:
        layers: The chain of the image whose view is kept, top first, down to its root.
        target: Index of the layer that receives data.
        sources: Indices of the layers whose data moves.
        size: Guest bytes that are looked at: the virtual size of the first layer.
        cell_size: Guest bytes of a cell: the target's cluster, or the top's for a raw target.
    """

    def __init__(self, layers: Sequence[Layer], target: int, selection: Selection) -> None:
        """Describe the transfer of what `selection` selects into layer number `target`."""
        self.layers = tuple(layers)
        self.target = target
        self.sources = selection.sources
        self.size = layers[0].size
        self._selection = selection
        self._backing_after = selection.backing_after
        header = self.target_header
        self.cell_size = header.cluster_size if header else layers[0].info.cluster_size or 65536

    @property
    def end(self) -> int:
        """Guest offset in bytes at which the target's disk ends after the operation."""
        return max(self.layers[self.target].size, self.size)

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
            used = min(layer.next_used(end) for layer in self._selection.looked_at)
            start = max(end, used // step * step)
            if start >= self.size:
                return
            end = min(start + step, self.size)
            for covered, wanted in self._parts(*self._selection.covered(start, end)):
                window = self._window(covered, wanted)
                if len(window.cells):
                    yield window

    def _parts(self, covered: Runs, wanted: NDArray[np.bool_]) -> Iterator[tuple[Runs, NDArray[np.bool_]]]:
        """Cut a window in which much moves into parts, as memory follows the units that are touched.

        No part ends amid a page of a raw target: what is written to one part of a page ends the hole that the others
        were planned to lie in.
        """
        if not wanted.any():
            return
        header = self.target_header
        unit = header.subcluster_size if header else self.cell_size
        start, length = covered.start[wanted], covered.length[wanted]
        units = int(((start + length - 1) // unit - start // unit + 1).sum())
        first, end = int(covered.start[0]), covered.end
        grain = self.cell_size if header else max(self.cell_size, _PAGE)
        step = (end - first) // -(-units // _MOST_UNITS) // grain * grain
        if units <= _MOST_UNITS or not step:
            yield covered, wanted
            return
        for low in range(first, end, step):
            part = covered.clip(low, min(low + step, end))
            index = int(np.searchsorted(covered.start, low, "right")) - 1
            mine = wanted[index : index + len(part)]
            if mine.any():
                yield part, mine

    def _window(self, covered: Runs, wanted: NDArray[np.bool_]) -> Window:
        header = self.target_header
        if header is None:
            return self._raw_window(covered, wanted)
        return self._qcow2_window(header, Pieces.of(covered, wanted))

    # --- raw ------------------------------------------------------------------------------------------------------

    def _raw_window(self, covered: Runs, wanted: NDArray[np.bool_]) -> Window:
        """Decide for a raw target: what is covered is written where it belongs; holes that stay zero are no work."""
        target = self.layers[self.target]
        start, end = int(covered.start[0]), covered.end
        own = [target.runs(start, min(end, target.size))] if start < target.size else []
        if end > target.size:
            own.append(Runs.one(max(start, target.size), end, RunState.HOLE))
        holes = Runs.join(own)
        runs = split_at(covered, holes.start[1:])
        index = np.searchsorted(covered.start, runs.start, "right") - 1
        hole = holes.state[np.searchsorted(holes.start, runs.start, "right") - 1] == RunState.HOLE
        pieces = Pieces.of(runs, wanted[index])
        pieces = pieces.take(~(pieces.zero & hole[wanted[index]])).cut(self.cell_size)
        cells, place = distinct(pieces.guest // self.cell_size)
        return Window(cells, self._topmost(pieces, place, len(cells)), pieces, None)

    # --- qcow2 ----------------------------------------------------------------------------------------------------

    def _qcow2_window(self, header: Header, moving: Pieces) -> Window:
        """Decide for a qcow2 target: what moves is laid out by the units of the clusters that it falls into."""
        layer = self.layers[self.target]
        assert isinstance(layer, Qcow2Layer)
        unit, size = header.subcluster_size, header.cluster_size
        moving = moving.cut(unit)
        clusters, row = distinct(moving.guest // size)
        with naming(layer.info):
            old, old_bitmaps = layer.file.entries_of(clusters)
        had = Had.decode(old, old_bitmaps, header)
        shape = (len(clusters), size // unit)
        where = row if shape[1] == 1 else row * shape[1] + moving.guest % size // unit
        zero_bytes = np.where(moving.zero, moving.length, 0)
        data_bytes = moving.length - zero_bytes
        if shape[1] > 1 or len(moving) > shape[0]:  # else each unit has one piece
            data_bytes = np.bincount(where, data_bytes, shape[0] * shape[1])
            zero_bytes = np.bincount(where, zero_bytes, shape[0] * shape[1])
        data_bytes, zero_bytes = data_bytes.reshape(shape), zero_bytes.reshape(shape)
        unit_start = clusters[:, None] * size + np.arange(shape[1]) * unit
        unit_bytes = np.minimum(unit, self.end - unit_start)
        plain = ~had.alloc & ~had.zero & (unit_start >= self._backing_after)
        idle = (data_bytes == 0) & (had.zero | plain)
        touched = (data_bytes + zero_bytes > 0) & ~idle
        zeroed = touched & (data_bytes == 0) & (zero_bytes >= unit_bytes)
        if header.version < 3:  # no zero flag: only what nothing backs can be left unallocated
            zeroed &= unit_start >= self._backing_after
        changes = touched.any(axis=1)
        keep = slice(None) if changes.all() else changes  # the same, without a copy of everything
        tables, filled = decide(
            header, _rows(had, keep), clusters[keep], old[keep],
            None if old_bitmaps is None else old_bitmaps[keep], (touched & ~zeroed)[keep], zeroed[keep],
        )  # fmt: skip
        whole = np.zeros(shape, bool)
        whole[keep] = filled
        partly = whole & (data_bytes + zero_bytes < unit_bytes)
        counted = moving.take(touched.reshape(-1)[where])
        pieces = moving.take((touched & ~zeroed & ~partly).reshape(-1)[where])
        if partly.any():
            pieces = pieces.merged(self._view(unit_start[partly], (unit_start + unit_bytes)[partly]).cut(unit))
        pieces = pieces.merged(_zeros_from(self.end, unit_start[whole], unit))
        cells, place = (clusters, row) if counted is moving else distinct(counted.guest // size)
        return Window(cells, self._topmost(counted, place, len(cells)), pieces, tables)

    def _view(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Pieces:
        """Give what the first image reads in some guest ranges in bytes; past its end, what the target reads there."""
        low, high = int(starts[0]), int(ends[-1])
        view = map_window(self.layers, low, min(high, self.size)) if low < self.size else None
        parts = [view] if view is not None else []
        if high > self.size:
            tail = map_window(self.layers[self.target :], max(low, self.size), high)
            tail.layer = (tail.layer + self.target).astype(np.uint16)
            parts.append(tail)
        runs = Runs.join(parts)
        return Pieces.of(runs, np.ones(len(runs), bool)).within(starts, ends)

    def _topmost(self, pieces: Pieces, place: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Give the topmost source in each of `count` cells; `place` is the cell of each piece."""
        own = np.maximum(pieces.layer, self.sources.start)
        if len(own) == count:
            return own
        layer = np.full(count, np.iinfo(np.int64).max, np.int64)
        np.minimum.at(layer, place, own)
        return layer


def _zeros_from(end: int, fresh: NDArray[np.int64], unit: int) -> Pieces:
    """Give the rest of a newly allocated unit behind the end of the disk, if there is one, as a piece of zeros.

    QEMU fills such a unit up, too: a disk that grows later must not show what a host cluster held before.

    Args:
        end: Guest offset in bytes at which the disk ends.
        fresh: int64, ascending: guest offsets of the units, of which the last alone can reach past the end.
        unit: Bytes of a unit.
    """
    length = int(fresh[-1]) + unit - end if len(fresh) else 0
    runs = Runs.one(end, end + max(length, 0), RunState.ZERO)
    return Pieces.of(runs, np.array([length > 0]))


def _rows(had: Had, keep: NDArray[np.bool_] | slice) -> Had:
    return Had(had.alloc[keep], had.zero[keep], had.host[keep], had.compressed[keep], had.own[keep])


def transfer_of(
    shape: Shape, layers: Mapping[ImageId, Layer], known: CopyList | None = None, pause: Pause = go_on
) -> Transfer | None:  # fmt: skip
    """Describe the transfer of an operation.

    Args:
        shape: The images that the operation concerns.
        layers: The open layer of each image that is read.
        known: The copy list of a plan that was made before: a rebase then compares nothing else again.
        pause: Called between reads of what a rebase compares.

    Returns:
        The transfer, or None when no data moves: the operation changes links alone.
    """
    if not shape.sources:
        return None
    view = [layers[i] for i in shape.view]
    target = shape.view.index(shape.target)
    sources = range(shape.view.index(shape.sources[0]), shape.view.index(shape.sources[-1]) + 1)
    if shape.below is not None:
        return Transfer(view, target, Differing(view, [layers[i] for i in shape.below], sources, known, pause))
    return Transfer(view, target, Merged(view, target, sources))
