"""The ways in which an operation loses data or fails, each found before anything is written.

Codes and actions are those of the hazard table (conditions were tried with QEMU's own tools).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain import locks
from backchain.clustermap import map_layers, open_layers
from backchain.errors import ImageError
from backchain.filename import MAX_BACKING_NAME, printable, recorded_length
from backchain.image import ImageInfo, ImageState
from backchain.operations import Commit
from backchain.plan import CopyList, Hazard, Relink, Severity
from backchain.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation

BLOCK, CONFIRM, WARN = Severity.BLOCK, Severity.CONFIRM, Severity.WARN
_CLOSE_TO_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Facts:
    """What the detectors look at.

    Attributes:
        view: The chain whose view is kept, top first.
        target: The image that receives data.
        sources: The images whose data moves, topmost first.
        emptied: The active layer that a commit empties, or None.
    """

    graph: ChainGraph
    operation: Operation
    view: tuple[ImageId, ...]
    target: ImageId
    sources: tuple[ImageId, ...]
    relinks: tuple[Relink, ...]
    emptied: ImageId | None

    @property
    def written(self) -> tuple[ImageId, ...]:
        """The images whose files are written: target, relinked and emptied ones."""
        emptied = () if self.emptied is None else (self.emptied,)
        return tuple(dict.fromkeys((self.target, *(r.image for r in self.relinks), *emptied)))

    @property
    def involved(self) -> tuple[ImageId, ...]:
        """Every image that is read or written."""
        return tuple(dict.fromkeys((*self.view, *self.written)))

    def names(self, images: Iterable[ImageId]) -> str:
        """List images for a message, safe to print."""
        return ", ".join(self.graph[i].name for i in images)


def structural_hazards(facts: Facts) -> list[Hazard]:
    """Find what the graph and the headers alone tell; the tables need not be readable."""
    found: list[Hazard] = []
    for detector in (
        _loop, _missing, _in_use, _damaged, _formats, _snapshots, _bitmaps, _permission, _grows, _names,
        _unknown,
    ):  # fmt: skip
        found += detector(facts)
    return found


def content_hazards(facts: Facts, copies: CopyList, space: int) -> list[Hazard]:
    """Find what needs the cluster maps: damaged ranges of siblings, space, compressed data, short layers.

    Args:
        facts: The images concerned.
        copies: The clusters that would change.
        space: Bytes that the target needs on its file system at most.
    """
    found = [*_siblings(facts, copies), *_no_space(facts, space), *_shorter_top(facts)]
    return [*found, *_blow_up(facts)] if copies.clusters else found


def _loop(facts: Facts) -> Iterator[Hazard]:
    for loop in facts.graph.loops():
        if loop & set(facts.view):
            images = tuple(sorted(loop))
            yield Hazard("loop", BLOCK, images, f"{facts.names(images)} back one another in a loop; mend the links")


def _missing(facts: Facts) -> Iterator[Hazard]:
    lost = {ImageState.MISSING, ImageState.UNREADABLE}
    for image in facts.view:
        info = facts.graph[image]
        if info.state in lost:
            yield Hazard(
                "missing-backing", BLOCK, (image,),
                f"{info.name} cannot be read ({printable(info.problem)}); restore it or repair the link first",
            )  # fmt: skip


def _in_use(facts: Facts) -> Iterator[Hazard]:
    for image in facts.involved:
        info = facts.graph[image]
        if info.fingerprint is not None and locks.probe(info.path, writing=image in facts.written):
            yield Hazard(
                "in-use", BLOCK, (image,),
                f"{info.name} is in use by another process; shut the machine down or use its own block jobs",
            )  # fmt: skip


def _siblings(facts: Facts, copies: CopyList) -> Iterator[Hazard]:
    """A commit changes its target and ends its intermediates: whatever else reads through them breaks."""
    if not isinstance(facts.operation, Commit):
        return
    path = {*facts.sources}
    for image in (*facts.sources[1:], facts.target):
        for victim in facts.graph.overlays_of(image):
            if victim in path:
                continue
            victims = (victim, *sorted(facts.graph.dependents(victim)))
            yield Hazard(
                "sibling-corruption", BLOCK, victims,
                f"{facts.names(victims)} read{'s' if len(victims) == 1 else ''} through {facts.graph[image].name}, "
                f"which this commit changes; pull into it first, or commit elsewhere",
                damaged_ranges(facts, victim, copies),
            )  # fmt: skip


def damaged_ranges(facts: Facts, victim: ImageId, copies: CopyList) -> tuple[tuple[int, int], ...]:
    """Predict which guest ranges (start, length) in bytes of a sibling change: copied, and not held above the target.

    Raises:
        ImageError: An image above the target cannot be read.
    """
    above = facts.graph.between(victim, facts.target)
    if above is None or not copies.clusters:
        return ()
    ranges: list[tuple[int, int]] = []
    starts = copies.starts * copies.cluster_size
    ends = starts + copies.counts * copies.cluster_size
    with open_layers([facts.graph[i] for i in above]) as layers:
        for window in map_layers(layers):
            stops = window.start + window.length
            for index in np.flatnonzero(window.unresolved()):
                low, high = int(window.start[index]), int(stops[index])
                first, last = np.searchsorted(ends, low, "right"), np.searchsorted(starts, high, "left")
                for run in range(int(first), int(last)):
                    start, end = max(low, int(starts[run])), min(high, int(ends[run]))
                    if ranges and sum(ranges[-1]) == start:
                        start = ranges.pop()[0]
                    ranges.append((start, end - start))
    return tuple(ranges)


def _damaged(facts: Facts) -> Iterator[Hazard]:
    for image in facts.involved:
        info = facts.graph[image]
        if info.state is ImageState.CORRUPT:
            yield Hazard("corrupt", BLOCK, (image,), f"{info.name} is marked corrupt; run qemu-img check -r all on it")
        elif info.state is ImageState.DIRTY:
            yield Hazard(
                "dirty", BLOCK, (image,), f"{info.name} was not closed cleanly; run qemu-img check -r leaks on it"
            )


def _formats(facts: Facts) -> Iterator[Hazard]:
    """Compare the backing format that each overlay records with what its backing file is."""
    for image in facts.involved:
        info = facts.graph[image]
        backing = facts.graph.backing_of(image)
        if info.backing is None or backing is None or facts.graph[backing].state is ImageState.MISSING:
            continue
        found, recorded = facts.graph[backing].format, info.backing.format
        if recorded is None:
            severity, what = (WARN, "qcow2") if found == "qcow2" else (BLOCK, "raw")
            yield Hazard(
                "format-absent", severity, (image,),
                f"{info.name} records no backing format; {facts.graph[backing].name} looks like {what}, which a guest "
                f"can forge: record it with qemu-img rebase -u -F",
            )  # fmt: skip
        elif recorded != found:
            yield Hazard(
                "format-mismatch", BLOCK, (image, backing),
                f"{info.name} records the format {printable(recorded)} for {facts.graph[backing].name}, which is "
                f"{found}; correct it with qemu-img rebase -u -F",
            )  # fmt: skip


def _snapshots(facts: Facts) -> Iterator[Hazard]:
    """Internal snapshots of an image read through its backing file too, and are not looked after here."""
    losing = facts.sources if isinstance(facts.operation, Commit) else (facts.target,)
    for image in losing:
        info = facts.graph[image]
        if info.header is not None and info.header.nb_snapshots:
            yield Hazard(
                "internal-snapshots", CONFIRM, (image,),
                f"{info.name} holds {info.header.nb_snapshots} internal snapshot(s), which this operation silently "
                f"changes; export or delete them first",
            )  # fmt: skip


def _bitmaps(facts: Facts) -> Iterator[Hazard]:
    commit = isinstance(facts.operation, Commit)
    for image in (*facts.sources, facts.target) if commit else ():
        info = facts.graph[image]
        if info.has_bitmaps and image == facts.target:
            message = f"{info.name}'s persistent bitmaps do not record this commit and are marked inconsistent"
        elif info.has_bitmaps:
            message = f"{info.name}'s persistent bitmaps are not carried down; merge them first if a backup needs them"
        else:
            continue
        yield Hazard("bitmaps", WARN, (image,), message)


def _permission(facts: Facts) -> Iterator[Hazard]:
    for image in facts.involved:
        info = facts.graph[image]
        mode = os.W_OK | os.R_OK if image in facts.written else os.R_OK
        if info.fingerprint is not None and not os.access(info.path, mode):
            verb = "written" if image in facts.written else "read"
            yield Hazard(
                "permission", BLOCK, (image,), f"{info.name} cannot be {verb} by this user; change its permissions"
            )


def _grows(facts: Facts) -> Iterator[Hazard]:
    top, target = facts.graph[facts.view[0]], facts.graph[facts.target]
    if not isinstance(facts.operation, Commit) or (top.virtual_size or 0) <= (target.virtual_size or 0):
        return
    header = target.header
    if header is not None and header.version < 3 and header.nb_snapshots:
        severity, why = BLOCK, "which a version 2 image with internal snapshots cannot do"
    elif target.fingerprint is not None and target.path.is_block_device():
        severity, why = BLOCK, "which a block device cannot do"
    else:
        severity, why = WARN, "because the top is larger"
    yield Hazard("base-grows", severity, (facts.target,), f"{target.name} grows to {top.virtual_size} bytes, {why}")


def _names(facts: Facts) -> Iterator[Hazard]:
    for relink in facts.relinks:
        if relink.name is not None and recorded_length(relink.name) > MAX_BACKING_NAME:
            yield Hazard(
                "path-trap", BLOCK, (relink.image,),
                f"{facts.graph[relink.image].name}: the new backing file name exceeds 1023 bytes; move the files",
            )  # fmt: skip


def _unknown(facts: Facts) -> Iterator[Hazard]:
    if facts.graph.incomplete:
        yield Hazard(
            "unknown-overlays", WARN, (facts.target,),
            "overlays may exist that were not seen: " + "; ".join(printable(line) for line in facts.graph.incomplete),
        )  # fmt: skip


def _no_space(facts: Facts, space: int) -> Iterator[Hazard]:
    target = facts.graph[facts.target]
    if not space or target.fingerprint is None:
        return
    status = os.statvfs(target.path)
    free = status.f_bavail * status.f_frsize
    if space > free:
        yield Hazard(
            "no-space", BLOCK, (facts.target,),
            f"{target.name} may grow by {space} bytes, but its file system has {free} bytes free; make room first",
        )  # fmt: skip
    elif space > free * _CLOSE_TO_FULL:
        yield Hazard(
            "no-space", WARN, (facts.target,),
            f"{target.name} may grow by {space} bytes, nearly all of the {free} bytes that are free",
        )  # fmt: skip


def _blow_up(facts: Facts) -> Iterator[Hazard]:
    packed: list[ImageId] = []
    size = 0
    for image in facts.sources:
        info = facts.graph[image]
        if info.format != "qcow2":
            continue
        with open_layers([info]) as layers:
            mine = sum(int(w.length[w.state == RunState.COMPRESSED].sum()) for w in map_layers(layers))
        if mine:
            packed.append(image)
            size += mine
    if packed:
        yield Hazard(
            "blow-up", WARN, tuple(packed),
            f"{facts.names(packed)} hold{'s' if len(packed) == 1 else ''} compressed data, which is written as {size} "
            f"plain bytes",
        )  # fmt: skip


def _shorter_top(facts: Facts) -> Iterator[Hazard]:
    """An overlay longer than the top reads zeros past the top's end; a longer base would show its data there."""
    if not isinstance(facts.operation, Commit):
        return
    graph, top, base = facts.graph, facts.graph[facts.view[0]], facts.graph[facts.target]
    for relink in facts.relinks:
        overlay = graph[relink.image]
        start, end = top.virtual_size or 0, min(overlay.virtual_size or 0, base.virtual_size or 0)
        if relink.image != facts.view[0] and start < end and _shows_base(overlay, start, end):
            yield Hazard(
                "shorter-middle", BLOCK, (relink.image, facts.view[0]),
                f"{overlay.name} reads zeros past the end of {top.name}, where {base.name} has a tail of its own; "
                f"resize {top.name} to {overlay.virtual_size} bytes first",
            )  # fmt: skip


def _shows_base(overlay: ImageInfo, start: int, end: int) -> bool:
    """Whether the overlay itself leaves any of [start, end) bytes to its backing file."""
    try:
        with open_layers([overlay]) as layers:
            return any(bool(w.unresolved().any()) for w in map_layers(layers, start, end))
    except ImageError:
        return True
