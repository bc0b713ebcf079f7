"""From an operation and a graph to a Plan. Nothing is written; tables are read, never guest data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer, open_layers
from backchain.commands import equivalent_commands
from backchain.errors import UsageError
from backchain.filename import backing_name_for, has_protocol
from backchain.hazards import Facts, content_hazards, structural_hazards
from backchain.image import ImageId, ImageState, naming
from backchain.operations import Commit, Operation, Pull
from backchain.plan import CopyList, Plan, Relink, Severity, SourceCopy
from backchain.qcow2.allocator import Allocator
from backchain.raw import data_extents
from backchain.transfer import Transfer, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer
    from backchain.graph import ChainGraph

_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """The images that an operation concerns, before anything is read.

    Attributes:
        view: The chain whose view is kept, top first, down to its root.
        target: The image that receives data.
        sources: The images whose data moves, topmost first.
        relinked: Images that get another backing file.
        invalidated: Images that no longer read as they did.
        emptied: The active layer that a commit empties, or None.
    """

    view: tuple[ImageId, ...]
    target: ImageId
    sources: tuple[ImageId, ...]
    relinked: tuple[ImageId, ...]
    new_backing: ImageId | None
    invalidated: tuple[ImageId, ...]
    emptied: ImageId | None


@dataclass(slots=True)
class _Tally:
    """What counting the windows gave."""

    clusters: dict[int, int] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    growth: int = 0
    space: int = 0
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    zero: list[bool] = field(default_factory=list)


def make_plan(graph: ChainGraph, operation: Operation, *, engine: str = "builtin") -> Plan:
    """Find out exactly what an operation would do.

    Args:
        graph: The images as they were found.
        operation: What is asked for; its images must be in the graph.
        engine: Name of the engine that shall run the plan.

    Raises:
        UsageError: The operation makes no sense on this graph (base not below top, nothing between).
        ImageError: An image of the chain is damaged or not supported.
    """
    shape = _shape(graph, operation)
    relinks = tuple(_relink(graph, i, shape.new_backing) for i in shape.relinked)
    facts = Facts(graph, operation, shape.view, shape.target, shape.sources, relinks, shape.emptied)
    hazards = structural_hazards(facts)
    cell_size = graph[shape.target].cluster_size or graph[shape.view[0]].cluster_size or 65536
    tally = _Tally()
    if not any(h.severity is Severity.BLOCK and h.code in {"loop", "missing-backing"} for h in hazards):
        tally = _count(graph, shape)
    sources = tuple(SourceCopy(s, *_of(tally, shape.view.index(s))) for s in shape.sources)
    copy_list = _copy_list(tally, cell_size, shape)
    hazards += content_hazards(facts, copy_list, tally.space)
    hazards.sort(key=lambda h: list(Severity).index(h.severity))
    after, removable = _after(graph, shape, tally)
    return Plan(
        operation, engine, shape.target, sources, copy_list, tally.growth, relinks, shape.invalidated, removable,
        shape.emptied, tuple(hazards), equivalent_commands(graph, operation, relinks), graph, after,
        {i: f for i in _involved(shape) if (f := graph[i].fingerprint) is not None},
    )  # fmt: skip


def view_of(plan: Plan) -> tuple[ImageId, ...]:
    """Give the chain whose view a plan keeps, top first, down to its root."""
    operation = plan.operation
    return plan.before.chain(operation.top if isinstance(operation, Commit) else operation.image)


def transfer_over(
    layers: Sequence[Layer], view: tuple[ImageId, ...], target: ImageId, sources: tuple[ImageId, ...]
) -> Transfer:
    """Describe the transfer over open layers, which are those of `view` in its order."""
    numbers = [view.index(s) for s in sources]
    return Transfer(layers, view.index(target), range(numbers[0], numbers[-1] + 1))


def _shape(graph: ChainGraph, operation: Operation) -> Shape:
    return _commit_shape(graph, operation) if isinstance(operation, Commit) else _pull_shape(graph, operation)


def _commit_shape(graph: ChainGraph, operation: Commit) -> Shape:
    sources = graph.between(operation.top, operation.base)
    if not sources:
        raise UsageError(
            f"{graph[operation.base].display_path} is not below {graph[operation.top].display_path} in its chain",
            "choose a base that the top is backed by",
        )
    overlays = graph.overlays_of(operation.top)
    emptied = operation.top if not overlays and not operation.keep_top else None
    relinked = overlays or ((operation.top,) if emptied and len(sources) > 1 else ())
    invalidated = sources if overlays else sources[1:]
    return Shape(
        graph.chain(operation.top), operation.base, sources, relinked, operation.base, invalidated, emptied
    )  # fmt: skip


def _pull_shape(graph: ChainGraph, operation: Pull) -> Shape:
    above = graph.between(operation.image, operation.base)
    if above is None:
        name = graph[operation.base].display_path if operation.base else ""
        raise UsageError(
            f"{name} is not below {graph[operation.image].display_path} in its chain",
            "choose a base that the image is backed by",
        )
    if len(above) < 2:
        raise UsageError(
            f"{graph[operation.image].display_path}: nothing lies between the image and its new backing file",
            "the image already stands as the operation would leave it",
        )
    return Shape(graph.chain(operation.image), operation.image, above[1:], (operation.image,), operation.base, (), None)


def _involved(shape: Shape) -> tuple[ImageId, ...]:
    return tuple(dict.fromkeys((*shape.view, *shape.relinked)))


def _relink(graph: ChainGraph, image: ImageId, new: ImageId | None) -> Relink:
    """Choose the name to record: as relative or absolute as the name that is recorded now."""
    old = graph.backing_of(image)
    if new is None:
        return Relink(image, old, None, None, None)
    recorded = graph[image].backing
    relative = recorded is None or not (recorded.name.startswith("/") or has_protocol(recorded.name))
    name = backing_name_for(graph[image].path, graph[new].path, relative=relative)
    return Relink(image, old, new, name, graph[new].format)


# --- counting -----------------------------------------------------------------------------------------------------


def _count(graph: ChainGraph, shape: Shape) -> _Tally:
    """Count the transfer's windows, and simulate what the target allocates."""
    with open_layers([graph[i] for i in shape.view]) as layers, naming(graph[shape.target]):
        transfer = transfer_over(layers, shape.view, shape.target, shape.sources)
        tally = _Tally()
        growth = _Growth(transfer)
        for window in transfer.windows():
            _add_cells(tally, window)
            pieces = window.pieces
            moved = ~pieces.zero & (pieces.layer >= transfer.sources.start) & (pieces.layer < transfer.sources.stop)
            for layer in np.unique(pieces.layer[moved]).tolist():
                amount = int(pieces.length[moved & (pieces.layer == layer)].sum())
                tally.bytes[layer] = tally.bytes.get(layer, 0) + amount
            growth.add(window)
        tally.growth, tally.space = growth.result()
        return tally


def _add_cells(tally: _Tally, window: Window) -> None:
    """Add a window's cells as runs of adjacent cells of one layer and kind."""
    cells, layer, zero = window.cells, window.cell_layer, window.cell_zero
    breaks = (np.diff(cells) != 1) | (np.diff(layer) != 0) | (zero[1:] != zero[:-1])
    first = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(breaks) + 1))
    counts = np.diff(first, append=len(cells))
    tally.starts += (cells[first] + window.first).tolist()
    tally.counts += counts.tolist()
    tally.layers += layer[first].tolist()
    tally.zero += zero[first].tolist()
    for number, count in zip(layer[first].tolist(), counts.tolist(), strict=True):
        tally.clusters[number] = tally.clusters.get(number, 0) + count


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
        tables = np.unique((window.first + np.flatnonzero(change.changed)) // header.l2_entries)
        fresh = [t for t in tables.tolist() if t not in self._tables and not (t < len(l1) and int(l1[t]) >> 63)]
        self._tables.update(fresh)
        self._allocator.allocate(len(fresh))
        if self._sparse:
            cluster = pieces.guest // header.cluster_size - window.first
            old = (change.old[cluster] & np.uint64((1 << 56) - (1 << 9))).astype(np.int64)
            stays = (old != 0) & ~change.fresh[cluster]
            self._fill((old + pieces.guest % header.cluster_size)[stays], pieces.length[stays])
        self._writes += len(pieces.guest)

    def result(self) -> tuple[int, int]:
        """Give (growth, space): bytes by which the file grows at most, on disk or in length; on disk alone."""
        header, transfer = self._transfer.target_header, self._transfer
        metadata = _PAGE * (2 + self._writes // 300)
        if self._allocator is None or header is None:
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


def _of(tally: _Tally, layer: int) -> tuple[int, int]:
    return tally.clusters.get(layer, 0), tally.bytes.get(layer, 0)


def _copy_list(tally: _Tally, cell_size: int, shape: Shape) -> CopyList:
    first = shape.view.index(shape.sources[0])
    return CopyList(
        cell_size,
        np.array(tally.starts, np.int64),
        np.array(tally.counts, np.int64),
        (np.array(tally.layers, np.int64) - first).astype(np.uint8),
        np.array(tally.zero, bool),
    )


# --- the graph afterwards -----------------------------------------------------------------------------------------


def _after(graph: ChainGraph, shape: Shape, tally: _Tally) -> tuple[ChainGraph, tuple[ImageId, ...]]:
    """Give the graph after the operation, and the images that nothing needs then."""
    linked = graph.with_changes(relink=dict.fromkeys(shape.relinked, shape.new_backing))
    kept = {shape.view[0]} if shape.target != shape.view[0] and not graph.overlays_of(shape.view[0]) else set()
    removable: list[ImageId] = []
    for image in shape.sources:  # topmost first: an image is free once all that it backs is free
        if image not in kept and set(linked.overlays_of(image)) <= set(removable):
            removable.append(image)
    changed = [replace(graph[i], state=ImageState.INVALID, problem="") for i in shape.invalidated]
    changed += [replace(graph[i], state=ImageState.UNNEEDED) for i in removable if i not in shape.invalidated]
    target = graph[shape.target]
    size = max(target.virtual_size or 0, graph[shape.view[0]].virtual_size or 0)
    changed.append(replace(target, virtual_size=size, disk_size=(target.disk_size or 0) + tally.space))
    return linked.with_changes(replace=changed), tuple(removable)
