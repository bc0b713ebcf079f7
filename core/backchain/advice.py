"""Advice on getting rid of an image: down, up or flatten, each with its price, as plans that can be shown and run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from backchain.errors import BackchainError, JobCancelledError
from backchain.operations import Commit, Pull, Rebase
from backchain.pausing import go_on
from backchain.plan import Hazard, Plan, Severity
from backchain.planning import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation
    from backchain.pausing import Pause


class Way(StrEnum):
    """The ways to get rid of an image."""

    DOWN = "down"
    """Commit it into its backing file; that one's own point in time ends (Method 1)."""
    UP = "up"
    """Rebase its overlays onto its backing file; nothing becomes invalid (Method 2)."""
    FLATTEN = "flatten"
    """Pull everything into its overlays, which then stand alone."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One way and its price.

    Attributes:
        way: Which one.
        plans: What would be run, one after the other; each is planned on the graph as it is.
        reason: Why there is no such way; empty when there is.
    """

    way: Way
    plans: tuple[Plan, ...]
    reason: str = ""

    @property
    def clusters(self) -> int:
        """Clusters that would change."""
        return sum(p.clusters for p in self.plans)

    @property
    def bytes(self) -> int:
        """Guest data bytes that would be written."""
        return sum(p.bytes for p in self.plans)

    @property
    def growth_bytes(self) -> int:
        """Upper bound of what the files grow by, in bytes."""
        return sum(p.growth_bytes for p in self.plans)

    @property
    def invalidated(self) -> tuple[ImageId, ...]:
        """Images that would no longer read as they did."""
        return tuple(dict.fromkeys(i for p in self.plans for i in p.invalidated))

    @property
    def blocked(self) -> tuple[Hazard, ...]:
        """The hazards that forbid it."""
        return tuple(h for p in self.plans for h in p.hazards if h.severity is Severity.BLOCK)

    @property
    def possible(self) -> bool:
        """Whether it can be run."""
        return bool(self.plans) and not self.blocked


def advise(graph: ChainGraph, image: ImageId, pause: Pause = go_on) -> tuple[Advice, ...]:
    """Give the three ways to get rid of `image`, in the order of `Way`.

    Args:
        graph: The images as they were found.
        image: The one to get rid of.
        pause: Called between reads: a rebase compares whole disks.

    Raises:
        JobCancelledError: The pause has ended it.
    """
    graph = graph.without_invalid_links()
    return (_down(graph, image, pause), _up(graph, image, pause), _flatten(graph, image, pause))


def recommended(advice: Sequence[Advice]) -> Advice | None:
    """Choose the way that writes least; of two that write the same, the one that leaves more images valid."""
    possible = [a for a in advice if a.possible]
    return min(possible, key=lambda a: (a.bytes, a.clusters, len(a.invalidated)), default=None)


def _down(graph: ChainGraph, image: ImageId, pause: Pause) -> Advice:
    backing = graph.backing_of(image)
    if backing is None:
        return Advice(Way.DOWN, (), f"{graph[image].name} is a base: nothing lies below it")
    return _planned(Way.DOWN, graph, [Commit(backing, image, keep_top=True)], pause)


def _up(graph: ChainGraph, image: ImageId, pause: Pause) -> Advice:
    overlays, backing = graph.overlays_of(image), graph.backing_of(image)
    if not overlays:
        return Advice(Way.UP, (), f"nothing is backed by {graph[image].name}: it can simply be deleted")
    if backing is None:
        return Advice(Way.UP, (), f"{graph[image].name} is a base: its overlays can only be flattened")
    return _planned(Way.UP, graph, [Rebase(o, backing) for o in overlays], pause)


def _flatten(graph: ChainGraph, image: ImageId, pause: Pause) -> Advice:
    overlays = graph.overlays_of(image)
    if not overlays:
        return Advice(Way.FLATTEN, (), f"nothing is backed by {graph[image].name}: it can simply be deleted")
    return _planned(Way.FLATTEN, graph, [Pull(o, None) for o in overlays], pause)


def _planned(way: Way, graph: ChainGraph, operations: Sequence[Operation], pause: Pause) -> Advice:
    try:
        return Advice(way, tuple(make_plan(graph, o, pause=pause) for o in operations))
    except JobCancelledError:
        raise
    except BackchainError as error:
        return Advice(way, (), str(error))
