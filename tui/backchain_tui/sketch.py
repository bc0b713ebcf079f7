"""The picture of an operation before it is known what it copies: who is concerned, and the links as they would be.

A plan can take long where data has to be compared; a sketch reads nothing. It is shown, and never run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backchain.image import ImageState
from backchain.operations import Delete, Snapshot
from backchain.plan import CopyList, Plan, Relink, SourceCopy

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.operations import Operation


def sketch(graph: ChainGraph, operation: Operation) -> Plan | None:
    """Make the sketch of an operation that moves data; None for others, which are planned at once.

    Raises:
        UsageError: The operation makes no sense on this graph.
    """
    from backchain.shapes import shape_of

    if isinstance(operation, Snapshot | Delete):
        return None
    graph = graph.without_invalid_links()
    shape = shape_of(graph, operation)
    relinked = tuple(Relink(i, graph.backing_of(i), shape.new_backing, None, None) for i in shape.relinked)
    copies = tuple(SourceCopy(s, 0, 0) for s in shape.sources)
    changed = [replace(graph[i], state=ImageState.INVALID) for i in shape.invalidated]
    after = graph.with_changes(relink=dict.fromkeys(shape.relinked, shape.new_backing), replace=changed)
    return Plan(
        operation, "sketch", shape.target, copies, CopyList.nothing(graph[shape.target].cluster_size or 65536), 0,
        relinked, shape.invalidated, (), shape.emptied, (), (), graph, after, {},
    )  # fmt: skip
