"""Who appears in the figure of a plan: the chain from its base to an active layer, and the siblings beside it.

A rebase onto an image that is not below has two chains: the new one stands at the left of the old one. What both share
comes first. A snapshot's new overlay ends the chain, and the other overlays of its image are siblings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.operations import Delete, Rebase, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Plan

SIBLINGS = 3
"""Rows of siblings at most; the last then says how many more there are."""


@dataclass(frozen=True, slots=True)
class Column:
    """What stands in one column: an image, or several that were left out."""

    images: tuple[ImageId, ...]

    @property
    def image(self) -> ImageId | None:
        """The image, or None for a column of left out ones."""
        return self.images[0] if len(self.images) == 1 else None


class Cast:
    """Who appears in the figure of a plan.

    Attributes:
        plan: What is shown.
        top: The uppermost image that the operation concerns.
        path: The images on the two rows, from left to right.
        siblings: Overlays beside the path, by the image that backs them.
        relinked: The images that get another backing file.
        seen: An image that is not left out wherever it appears: the one under the cursor; None for none.
    """

    def __init__(self, plan: Plan, seen: ImageId | None = None) -> None:
        """Find out who appears."""
        self.plan = plan
        self.seen = seen
        graph = plan.before
        self.relinked = {r.image: r for r in plan.relinked}
        self.top = plan.operation.subject
        self.path = self._find_path()
        place = {image: n for n, image in enumerate(self.path)}
        first = min((place[i] for i in (plan.target, *plan.sources) if i in place), default=0)
        first = min(first, place[self.top])
        self.siblings = {
            image: tuple(o for o in graph.overlays_of(image) if o not in place)
            for image in self.path[first : place[self.top] + 1]
            if image in graph
        }

    @property
    def bridged(self) -> bool:
        """Whether a new chain stands between the old one and what both share, so that a link has to bridge it."""
        operation, graph = self.plan.operation, self.plan.before
        if not isinstance(operation, Rebase) or operation.backing is None:
            return False
        old, new = graph.chain(operation.image), graph.chain(operation.backing)
        return operation.backing not in old and bool(set(old) & set(new))

    def sibling_rows(self, columns: Sequence[Column]) -> int:
        """Give how many rows of siblings stand above the upper and below the lower row."""
        shown = [c.image for c in columns if c.image is not None]
        return max((min(len(self.siblings.get(i, ())), SIBLINGS) for i in shown), default=0)

    def families(self, image: ImageId | None) -> list[tuple[ImageId, ...]]:
        """Give what stands on each row of siblings of an image: one of them, or on the last row those left out."""
        family = self.siblings.get(image, ()) if image is not None else ()
        if len(family) <= SIBLINGS:
            return [(i,) for i in family]
        shown = family[: SIBLINGS - 1]
        if self.seen in family and self.seen not in shown:
            shown = (*shown[:-1], self.seen)
        return [*((i,) for i in shown), tuple(i for i in family if i not in shown)]

    def columns(self, thrift: int) -> tuple[Column, ...]:
        """Give the columns.

        Args:
            thrift: 0 shows every image; 1 leaves out those that take no part, save the base and the active layer;
                2 leaves out these too; 3 also sources between the target and the top.
        """
        if not thrift:
            return tuple(Column((i,)) for i in self.path)
        plan = self.plan
        keep = {plan.target, self.top, *self.relinked, *(r.old for r in plan.relinked if r.old is not None)}
        if thrift < 3:
            keep.update(plan.sources)
        if thrift < 2:
            keep.update((self.path[0], self.path[-1]))
        if plan.operation.base is not None:
            keep.add(plan.operation.base)
        if isinstance(plan.operation, Delete):
            keep.update(plan.operation.images)
        if self.seen is not None:
            keep.add(self.seen)
        return _collapse(self.path, keep)

    def _find_path(self) -> tuple[ImageId, ...]:
        graph, operation = self.plan.before, self.plan.operation
        if isinstance(operation, Snapshot):
            return (*reversed(graph.chain(operation.image)), self.plan.target)
        path = _path(graph, self.top, set(self.relinked))
        if isinstance(operation, Rebase) and operation.backing is not None and operation.backing not in path:
            other = tuple(reversed(graph.chain(operation.backing)))
            shared = tuple(i for i in other if i in path)
            own = tuple(i for i in other if i not in path)
            return (*shared, *own, *(i for i in path if i not in shared))
        if isinstance(operation, Delete):
            more = (i for image in operation.images for i in reversed(graph.chain(image)))
            return tuple(dict.fromkeys((*path, *more)))
        return path


def _path(graph: ChainGraph, top: ImageId, relinked: set[ImageId]) -> tuple[ImageId, ...]:
    """Give the chain from its base through `top` to an active layer."""
    path = list(reversed(graph.chain(top)))
    seen = set(path)
    current = top
    while overlays := [o for o in graph.overlays_of(current) if o not in seen]:
        current = next((o for o in overlays if o in relinked), overlays[0])
        path.append(current)
        seen.add(current)
    return tuple(path)


def _collapse(path: Sequence[ImageId], keep: set[ImageId]) -> tuple[Column, ...]:
    columns: list[Column] = []
    run: list[ImageId] = []
    for image in [*path, None]:
        if image is not None and image not in keep:
            run.append(image)
            continue
        columns += [Column(tuple(run))] if run else []
        run = []
        if image is not None:
            columns.append(Column((image,)))
    return tuple(columns)
