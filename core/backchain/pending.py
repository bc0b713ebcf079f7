"""Which links of an operation are changed already and which are not, told by its journal and the images as they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain.image import image_id

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.journal import Link, Record


def find_path(graph: ChainGraph, path: str | None) -> ImageId | None:
    """Give the image of a graph that a path out of a journal leads to; None when there is none."""
    if path is None:
        return None
    try:
        image = image_id(os.stat(path))
    except (OSError, ValueError):
        return None
    return image if image in graph else None


def pending_links(record: Record, graph: ChainGraph) -> tuple[Link, ...]:
    """Give the links that an operation was about to change and that are not yet as it wanted them.

    A link of an overlay that is gone is not pending: nothing reads through it.
    """
    exact = record.intent.operation == "rebase"
    return tuple(k for k in record.intent.links if _is_pending(k, graph, exact=exact))


def links_are_changed(record: Record, graph: ChainGraph) -> bool:
    """Whether an operation has changed all of its links: then nothing reads through what it has invalidated."""
    return bool(record.intent.links) and not pending_links(record, graph)


def _is_pending(link: Link, graph: ChainGraph, *, exact: bool) -> bool:
    """Compare one link with the header; another name of the same file is as good, unless the name itself matters."""
    image = find_path(graph, str(link.image))
    header = graph[image].header if image is not None else None
    if image is None or header is None:
        return False
    if link.name is None or header.backing_name is None:
        return (link.name is None) != (header.backing_name is None)
    if (os.fsdecode(header.backing_name), header.backing_format) == (link.name, link.format):
        return False
    return exact or graph.backing_of(image) != find_path(graph, str(link.backing))
