"""From an operation and a graph to a Plan. Nothing is written; guest data is read only where it decides.

A commit and a pull are counted from the tables alone. A rebase compares the data of its two backing files wherever the
tables do not prove it equal, and a commit that would harm a sibling compares what the sibling would read.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.clustermap import open_layers
from backchain.commands import equivalent_commands
from backchain.counting import Totals, count
from backchain.errors import BlockedError
from backchain.filename import backing_name_for, has_protocol, leads_to
from backchain.fileplans import plan_delete, plan_snapshot
from backchain.hazards import Facts, content_hazards, structural_hazards
from backchain.hazards.links import invalid_images
from backchain.image import ImageState, naming
from backchain.operations import Delete, Rebase, Snapshot
from backchain.pausing import go_on
from backchain.plan import CopyList, Plan, Relink, Severity, SourceCopy, gravest_first
from backchain.shapes import Shape, shape_of
from backchain.transfer import transfer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation, Transferring
    from backchain.pausing import Pause
    from backchain.plan import Hazard

_UNREADABLE = frozenset({"loop", "missing-backing"})
"""Hazards that leave no chain to be counted."""
_TICK_NS = 20_000_000
"""Two writes within a tick of the kernel's clock (at most 10 ms) may leave a file with one time of change."""


def make_plan(
    graph: ChainGraph, operation: Operation, *, engine: str = "builtin", pause: Pause = go_on
) -> Plan:  # fmt: skip
    """Find out exactly what an operation would do.

    Args:
        graph: The images as they were found.
        operation: What is asked for; its images must be in the graph.
        engine: Name of the engine that shall run the plan.
        pause: Called between reads: a rebase compares whole disks.

    Returns:
        The plan. Its graphs show no links of images that a commit has invalidated.

    Raises:
        UsageError: The operation makes no sense on this graph (base not below top, nothing between, file exists).
        BlockedError: It is about an image that a commit has invalidated, and that stands for nothing any more.
        ImageError: An image of the chain is damaged or not supported.
    """
    graph = graph.without_invalid_links()
    if isinstance(operation, Snapshot):
        return plan_snapshot(graph, operation, engine)
    if isinstance(operation, Delete):
        return plan_delete(graph, operation, engine)
    for hazard in invalid_images(graph, (operation.subject,)):
        raise BlockedError(f"{hazard.code}: {hazard.message}")
    return _plan_transfer(graph, operation, engine, pause)


def _plan_transfer(graph: ChainGraph, operation: Transferring, engine: str, pause: Pause) -> Plan:
    shape = shape_of(graph, operation)
    relinks = tuple(_relink(graph, i, shape.new_backing, operation) for i in shape.relinked)
    facts = Facts(graph, operation, shape, relinks, pause)
    hazards = structural_hazards(facts)
    _outlast_the_clock(graph, shape)
    totals, places = Totals(), {image: number for number, image in enumerate(shape.view)}
    numbers = [places[s] for s in shape.sources]
    cell_size = graph[shape.target].cluster_size or graph[shape.view[0]].cluster_size or 65536
    copies = CopyList.nothing(cell_size)
    if _countable(hazards, operation):
        totals = _count(graph, shape, pause)
        copies = totals.take_copy_list(cell_size)
        packed = {s: totals.packed.get(n, 0) for s, n in zip(shape.sources, numbers, strict=True)}
        hazards += content_hazards(facts, packed, totals.space)
    sources = tuple(
        SourceCopy(s, totals.clusters.get(n, 0), totals.bytes.get(n, 0))
        for s, n in zip(shape.sources, numbers, strict=True)
    )
    after, removable = _after(graph, shape, totals)
    return Plan(
        operation, engine, shape.target, sources, copies, totals.growth, relinks, shape.invalidated, removable,
        shape.emptied, gravest_first(hazards), equivalent_commands(graph, operation, relinks), graph, after,
        {i: f for i in shape.involved if (f := graph[i].fingerprint) is not None},
    )  # fmt: skip


def _outlast_the_clock(graph: ChainGraph, shape: Shape) -> None:
    """Wait until a write that follows would change a file's time, so that its fingerprint tells."""
    times = [f.mtime_ns for i in shape.involved if (f := graph[i].fingerprint) is not None]
    rest = max(times, default=0) + _TICK_NS - time.time_ns()
    if 0 < rest <= _TICK_NS:
        time.sleep(rest / 1e9)


def _countable(hazards: Sequence[Hazard], operation: Transferring) -> bool:
    """Whether the chain can be read; a rebase compares data, which needs a key where it is encrypted."""
    codes = {h.code for h in hazards if h.severity is Severity.BLOCK}
    return not codes & _UNREADABLE and not (isinstance(operation, Rebase) and "encryption" in codes)


def _relink(graph: ChainGraph, image: ImageId, new: ImageId | None, operation: Transferring) -> Relink:
    """Choose the name to record: the one asked for, or one as relative or absolute as that which is recorded now.

    It is absolute, too, where a relative one would lead elsewhere by another path by which the image is opened.
    """
    old = graph.backing_of(image)
    if new is None:
        return Relink(image, old, None, None, None)
    path, below, recorded = graph[image].path, graph[new].path, graph[image].backing
    relative = recorded is None or not (recorded.name.startswith("/") or has_protocol(recorded.name))
    name = backing_name_for(path, below, relative=relative)
    ways = (Path(os.path.realpath(path)), *graph.ways_to(image), *graph.surroundings.names.get(image, ()))
    if not all(leads_to(way, name, below) for way in dict.fromkeys(ways)):
        name = backing_name_for(path, below, relative=False)
    kind = graph[new].format
    if isinstance(operation, Rebase):
        name, kind = operation.backing_name or name, operation.backing_format or kind
    return Relink(image, old, new, name, kind)


def _count(graph: ChainGraph, shape: Shape, pause: Pause) -> Totals:
    images = dict.fromkeys((*shape.view, *(shape.below or ()))) if shape.sources else {}
    with open_layers([graph[i] for i in images], keyless=True) as layers, naming(graph[shape.target]):
        transfer = transfer_of(shape, dict(zip(images, layers, strict=True)), pause=pause)
        return count(transfer, pause) if transfer is not None else Totals()


def _after(graph: ChainGraph, shape: Shape, totals: Totals) -> tuple[ChainGraph, tuple[ImageId, ...]]:
    """Give the graph after the operation, and the images that nothing needs then."""
    linked = _out_of_loops(graph.with_changes(relink=dict.fromkeys(shape.relinked, shape.new_backing)))
    kept = {shape.view[0]} if shape.target != shape.view[0] and not graph.overlays_of(shape.view[0]) else set()
    removable: dict[ImageId, None] = {}
    for image in shape.sources:  # topmost first: an image is free once all that it backs is free
        if image not in kept and image != shape.target and removable.keys() >= {*linked.overlays_of(image)}:
            removable[image] = None
    invalid = {*shape.invalidated}
    changed = [replace(graph[i], state=ImageState.INVALID, problem="") for i in shape.invalidated]
    changed += [replace(graph[i], state=ImageState.UNNEEDED) for i in removable if i not in invalid]
    target = linked[shape.target]
    size = max(target.virtual_size or 0, graph[shape.view[0]].virtual_size or 0)
    changed.append(replace(target, virtual_size=size, disk_size=(target.disk_size or 0) + totals.space))
    return linked.with_changes(replace=changed), tuple(removable)


def _out_of_loops(graph: ChainGraph) -> ChainGraph:
    """Give the graph in which only what is in a loop is said to be."""
    looped = frozenset().union(*graph.loops())
    freed = [graph[i] for i in graph if graph[i].state is ImageState.LOOP and i not in looped]
    return graph.with_changes(replace=[replace(i, state=ImageState.OK, problem="") for i in freed]) if freed else graph
