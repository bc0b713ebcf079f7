"""From an operation and a graph to a Plan. Nothing is written; tables are read, never guest data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backchain.clustermap import open_layers
from backchain.commands import equivalent_commands
from backchain.counting import Tally, count
from backchain.filename import backing_name_for, has_protocol
from backchain.hazards import Facts, content_hazards, structural_hazards
from backchain.image import ImageId, ImageState
from backchain.plan import Plan, Relink, Severity, SourceCopy
from backchain.shapes import Shape, shape_of
from backchain.transfer import transfer_of

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.operations import Operation


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
    shape = shape_of(graph, operation)
    relinks = tuple(_relink(graph, i, shape.new_backing) for i in shape.relinked)
    facts = Facts(graph, operation, shape, relinks)
    hazards = structural_hazards(facts)
    tally = Tally()
    if not any(h.severity is Severity.BLOCK and h.code in {"loop", "missing-backing"} for h in hazards):
        tally = _count(graph, shape)
    numbers = [shape.view.index(s) for s in shape.sources]
    sources = tuple(
        SourceCopy(s, tally.clusters.get(n, 0), tally.bytes.get(n, 0))
        for s, n in zip(shape.sources, numbers, strict=True)
    )
    cell_size = graph[shape.target].cluster_size or graph[shape.view[0]].cluster_size or 65536
    copy_list = tally.copy_list(cell_size, range(numbers[0], numbers[-1] + 1))
    hazards += content_hazards(facts, copy_list, tally.space)
    hazards.sort(key=lambda h: list(Severity).index(h.severity))
    after, removable = _after(graph, shape, tally)
    return Plan(
        operation, engine, shape.target, sources, copy_list, tally.growth, relinks, shape.invalidated, removable,
        shape.emptied, tuple(hazards), equivalent_commands(graph, operation, relinks), graph, after,
        {i: f for i in shape.involved if (f := graph[i].fingerprint) is not None},
    )  # fmt: skip


def _relink(graph: ChainGraph, image: ImageId, new: ImageId | None) -> Relink:
    """Choose the name to record: as relative or absolute as the name that is recorded now."""
    old = graph.backing_of(image)
    if new is None:
        return Relink(image, old, None, None, None)
    recorded = graph[image].backing
    relative = recorded is None or not (recorded.name.startswith("/") or has_protocol(recorded.name))
    name = backing_name_for(graph[image].path, graph[new].path, relative=relative)
    return Relink(image, old, new, name, graph[new].format)


def _count(graph: ChainGraph, shape: Shape) -> Tally:
    with open_layers([graph[i] for i in shape.view]) as layers:
        return count(transfer_of(shape, dict(zip(shape.view, layers, strict=True))))


def _after(graph: ChainGraph, shape: Shape, tally: Tally) -> tuple[ChainGraph, tuple[ImageId, ...]]:
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
