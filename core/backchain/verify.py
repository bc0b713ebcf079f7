"""Verification: what every surviving image reads after an operation is compared with what it read before.

Digests are taken of the views as a guest sees them, before the first write and again when all data is in place but no
link has changed yet, then through the new chain. A disk that fits into the budget is read as a whole; of a larger one
samples are taken, half of them among the clusters that the operation touches, the others evenly over the disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from backchain.digests import BLOCK, Range, view_digest
from backchain.errors import VerificationError
from backchain.image import read_image_info
from backchain.operations import Commit
from backchain.pausing import go_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain.pausing import Pause
    from backchain.plan import Plan

BUDGET = 16 << 20
"""Guest bytes that are read in all, before and again after, when samples are enough."""
_LEAST_SAMPLES = 4


class Extent(StrEnum):
    """How much is verified; the values are those of a result's JSON."""

    NO = "no"
    SAMPLED = "sampled"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class _Expectation:
    """What an image must read: the digest of some ranges of guest bytes, as `origin` read them before."""

    image: ImageId
    origin: ImageId
    ranges: tuple[Range, ...]
    whole: bool


class Verifier:
    """The verification of one plan's run."""

    def __init__(self, plan: Plan, extent: Extent) -> None:
        """Choose what is to be read.

        Args:
            plan: The plan that is about to be run.
            extent: WHOLE reads every view as a whole; SAMPLED as much as the budget allows; NO nothing.
        """
        self._plan = plan
        self._extent = extent
        self._expected = () if extent is Extent.NO else tuple(_expectations(plan, whole=extent is Extent.WHOLE))
        self._digests: dict[ImageId, bytes] = {}

    @property
    def extent(self) -> Extent:
        """How much is verified."""
        if self._extent is Extent.NO or not self._expected:
            return self._extent
        return Extent.WHOLE if all(e.whole for e in self._expected) else Extent.SAMPLED

    def before(self, pause: Pause) -> None:
        """Take the digests of what is read now.

        Args:
            pause: Called between reads.

        Raises:
            ImageError: An image that reads through the written ones is damaged.
            OSError: Reading failed.
        """
        known: dict[tuple[ImageId, tuple[Range, ...]], bytes] = {}  # a commit's top and target must read the same
        for e in self._expected:
            view = e.origin, e.ranges
            if view not in known:
                known[view] = _digest(_infos(self._plan.before, e.origin, fresh=False), e.ranges, pause)
            self._digests[e.image] = known[view]

    def after(self, only: ImageId | None = None, pause: Pause = go_on) -> None:
        """Compare with what is read through the chains of the plan's graph after; links need not have changed yet.

        Args:
            only: Compare this image alone.
            pause: Called between reads.

        Raises:
            VerificationError: An image reads differently.
            ImageError: An image cannot be read any more.
            OSError: Reading failed.
        """
        for e in self._expected:
            if only not in {None, e.image}:
                continue
            if _digest(_infos(self._plan.after, e.image, fresh=True), e.ranges, pause) != self._digests[e.image]:
                state = "nothing was relinked or removed" if only is None else "its base had been verified before"
                raise VerificationError(
                    f"{self._plan.before[e.image].display_path} does not read what it should after this operation",
                    f"{state}; check the images with qemu-img check, and report this",
                )


def _expectations(plan: Plan, *, whole: bool) -> Iterator[_Expectation]:
    """Say which images must read what: survivors as before, a commit's target as its top."""
    graph, operation = plan.before, plan.operation
    written = {plan.target, *(r.image for r in plan.relinked)} | ({plan.emptied} if plan.emptied else set())
    concerned = written.union(*(graph.dependents(i) for i in written)).difference(plan.invalidated)
    pairs = {i: i for i in graph if i in concerned and _readable(graph, i)}
    if isinstance(operation, Commit):
        pairs[plan.target] = operation.top
    share = BUDGET // max(len(pairs), 1) // BLOCK
    if isinstance(operation, Commit) and operation.top not in written:
        pairs.pop(operation.top, None)  # it is unchanged over a target that must read as it did: nothing more to ask
    for image, origin in pairs.items():
        size = min(graph[image].virtual_size or 0, graph[origin].virtual_size or 0)
        if image == plan.target:
            size = graph[origin].virtual_size or 0
        everything = whole or size <= share * BLOCK
        ranges = ((0, size),) if everything else _samples(plan, size, max(share, _LEAST_SAMPLES))
        yield _Expectation(image, origin, ranges, everything)


def _readable(graph: ChainGraph, image: ImageId) -> bool:
    return all(graph[i].readable and not graph[i].encrypted for i in graph.chain(image))


def _samples(plan: Plan, size: int, count: int) -> tuple[Range, ...]:
    """Choose about `count` blocks of a disk of `size` bytes: touched ones, and some everywhere."""
    copies = plan.copy_list
    blocks: set[int] = set(np.linspace(0, max(size - 1, 0) // BLOCK, count // 2, dtype=np.int64).tolist())
    if copies.clusters:
        cells = np.linspace(0, copies.clusters - 1, min(count // 2, copies.clusters), dtype=np.int64)
        first = np.cumsum(copies.counts) - copies.counts
        run = np.searchsorted(first, cells, "right") - 1
        touched = (copies.starts[run] + cells - first[run]) * copies.cluster_size
        blocks.update((touched // BLOCK).tolist())
    return tuple((b * BLOCK, min(size, (b + 1) * BLOCK)) for b in sorted(blocks) if b * BLOCK < size)


def _digest(images: Sequence[ImageInfo], ranges: Sequence[Range], pause: Pause) -> bytes:
    """Hash what is read, by SHA-256: processors have instructions for it, which take half the time of BLAKE2."""
    return view_digest(images, ranges, hashlib.sha256(), pause)


def _infos(graph: ChainGraph, image: ImageId, *, fresh: bool) -> list[ImageInfo]:
    """Give the chain of an image, top first, as the graph links it; with headers as they are now when `fresh`."""
    infos = [graph[i] for i in graph.chain(image)]
    return [read_image_info(i.path, image_format=i.format) for i in infos] if fresh else infos
