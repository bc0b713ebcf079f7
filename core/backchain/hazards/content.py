"""Hazards that need the cluster maps or the data: damaged siblings, changed views, space, compressed data, tails."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from backchain.basemark import BaseMark
from backchain.clustermap import map_layers, open_layers
from backchain.contents import Comparison, reads_zero
from backchain.errors import ImageError
from backchain.hazards.facts import BLOCK, CONFIRM, LOST, WARN, Facts
from backchain.hazards.links import loops_among
from backchain.image import ImageState
from backchain.operations import Commit, Rebase
from backchain.plan import Hazard
from backchain.qcow2.allocator import Allocator
from backchain.qcow2.check import check_references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backchain.image import ImageId, ImageInfo
    from backchain.pausing import Pause

_CLOSE_TO_FULL = 0.9
COMPARED_BYTES = 256 << 20
"""Data of siblings that is compared at most, per sibling; ranges beyond are listed without a look at the data."""
_MOST_RANGES = 100_000


def content_hazards(facts: Facts, packed: Mapping[ImageId, int], space: int) -> list[Hazard]:
    """Find what needs the cluster maps: damaged siblings, a changed view, damage, space, compressed data, tails.

    Args:
        facts: The images concerned; every one of them can be read.
        packed: Guest bytes that are stored compressed and would be written plain, by their image.
        space: Bytes that the target needs on its file system at most.

    Raises:
        ImageError: An image's tables or compressed data are damaged.
    """
    return [
        *_siblings(facts), *_unsafe(facts), *_references(facts), *_no_space(facts, space), *_shorter_top(facts),
        *_marks(facts), *_blow_up(facts, packed),
    ]  # fmt: skip


# --- siblings ---------------------------------------------------------------------------------------------------------


def _siblings(facts: Facts) -> Iterator[Hazard]:
    """A commit changes its target and ends its intermediates: whatever else reads through them breaks."""
    if not isinstance(facts.operation, Commit):
        return
    path = {*facts.sources}
    for image in (*facts.sources[1:], facts.target):
        for victim in facts.graph.overlays_of(image):
            if victim in path:
                continue
            victims = (victim, *sorted(facts.graph.dependents(victim)))
            ranges, exact = damaged_ranges(facts, victim)
            yield Hazard(
                "sibling-corruption", BLOCK, victims,
                f"{facts.names(victims)} read{'s' if len(victims) == 1 else ''} through {facts.graph[image].name}, "
                f"which this commit changes{_extent(ranges, exact=exact)}; pull into it first, or commit elsewhere",
                ranges,
            )  # fmt: skip


def _extent(ranges: Sequence[tuple[int, int]], *, exact: bool) -> str:
    if not ranges:
        return " (though nothing that it reads differs just now)" if exact else ""
    return f" ({'' if exact else 'at most '}{_amount(ranges)})"


def _amount(ranges: Sequence[tuple[int, int]]) -> str:
    size = sum(length for _, length in ranges)
    return f"{size:,} bytes in {len(ranges)} range{'' if len(ranges) == 1 else 's'}"


def damaged_ranges(facts: Facts, victim: ImageId) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Predict which guest ranges (start, length) in bytes of a sibling change: it would read the top's data there.

    Returns:
        The ranges, in whole sectors, and whether all data was compared (else they are an upper bound).

    Raises:
        ImageError: An image above the target cannot be read.
    """
    graph = facts.graph
    above = graph.between(victim, facts.target)
    if above is None or any(graph[i].encrypted for i in (*above, *facts.view)):
        return (), False
    images = [graph[i] for i in dict.fromkeys((*above, *graph.chain(facts.target), *facts.view))]
    with open_layers(images) as opened:
        layers = {layer.info.id: layer for layer in opened}
        held = [layers[i] for i in above]
        one = [*held, *(layers[i] for i in graph.chain(facts.target))]
        other = [*held, *(layers[i] for i in facts.view)]
        comparison = Comparison(one, other, limit=COMPARED_BYTES, pause=facts.pause)
        end = min(held[0].size, layers[facts.view[0]].size)
        ranges = tuple(islice(comparison.ranges(end), _MOST_RANGES))
    return ranges, not comparison.exhausted and len(ranges) < _MOST_RANGES


# --- unsafe rebase ----------------------------------------------------------------------------------------------------


def _unsafe(facts: Facts) -> Iterator[Hazard]:
    """A change of the link alone keeps the view only where old and new backing file read the same."""
    operation = facts.operation
    if not isinstance(operation, Rebase) or facts.link_only is None:
        return
    graph, image = facts.graph, facts.graph[facts.target]
    lost = [i for i in facts.view[1:] if graph[i].state in LOST]
    looped = [i for found in loops_among(graph, facts.view) for i in sorted(found)]
    if lost or looped:
        fault = f"{facts.names(looped)} back one another in a loop" if looped else f"{facts.names(lost)} cannot be read"
        yield Hazard(
            "unsafe-rebase", CONFIRM, tuple(dict.fromkeys((facts.target, *lost, *looped))),
            f"{fault}, so nothing shows that {image.name} will read as before; go on if "
            f"the new backing file is the same image",
        )  # fmt: skip
        return
    if graph.backing_of(facts.target) == operation.backing:
        return
    ranges = changed_ranges(facts)
    if not ranges:
        return
    new = graph[operation.backing].name if operation.backing is not None else "no backing file"
    yield Hazard(
        "unsafe-rebase", BLOCK, (facts.target,),
        f"{image.name} would read differently on {new} ({_amount(ranges)} at least); rebase it "
        f"without -u, which copies what differs",
        ranges,
    )  # fmt: skip
    short = [i for i in facts.view[1:] if 0 < (graph[i].virtual_size or 0) <= ranges[-1][0]]
    if short:
        yield Hazard(
            "shorter-middle", BLOCK, tuple(short),
            f"{image.name} reads zeros past the end of {facts.names(short)}, which {new} would fill with data; rebase "
            f"it without -u",
        )  # fmt: skip


def changed_ranges(facts: Facts, most: int = 1000) -> tuple[tuple[int, int], ...]:
    """Give the guest ranges (start, length) in bytes that an unsafe rebase would change; `most` at the most.

    Raises:
        ImageError: Compressed data is damaged.
    """
    graph, below = facts.graph, facts.shape.below or ()
    if any(graph[i].encrypted for i in (*facts.view, *below)):
        return ((0, graph[facts.target].virtual_size or 0),)
    with open_layers([graph[i] for i in dict.fromkeys((*facts.view, *below))]) as opened:
        layers = {layer.info.id: layer for layer in opened}
        one = [layers[i] for i in facts.view]
        other = [one[0], *(layers[i] for i in below)]
        return tuple(islice(Comparison(one, other, pause=facts.pause).ranges(one[0].size), most))


# --- the base as it was -----------------------------------------------------------------------------------------------


def _marks(facts: Facts) -> Iterator[Hazard]:
    """A backing file that no longer holds what its overlay remembers of it."""
    graph = facts.graph
    for overlay in dict.fromkeys((*facts.view, *(facts.shape.below or ()))):
        mark, backing = BaseMark.recorded_in(graph[overlay]), graph.backing_of(overlay)
        if mark is None or backing is None:
            continue
        chain = [graph[i] for i in graph.chain(backing)]
        unread = {*LOST, ImageState.LOOP}
        if any(i.encrypted or i.state in unread for i in chain) or BaseMark.of(chain) == mark:
            continue
        yield Hazard(
            "base-changed", WARN, (overlay, backing),
            f"{graph[backing].name} does not hold what it held when {graph[overlay].name} was made of it; make sure "
            f"that only a commit or a resize did that",
        )  # fmt: skip


# --- one image --------------------------------------------------------------------------------------------------------


def _references(facts: Facts) -> Iterator[Hazard]:
    """Clusters of a written image must be counted as often as they are used, or writing would overwrite others."""
    for image in facts.shape.written:
        info = facts.graph[image]
        if info.header is None or info.encrypted:
            continue
        facts.pause()
        with open_layers([info]) as (layer,):
            file = layer.file  # type: ignore[attr-defined]
            try:
                allocator = Allocator(layer.descriptor, info.header, file.file_size)
                check_references(file, allocator.table, allocator.end)
            except ImageError as error:
                yield Hazard("corrupt", BLOCK, (image,), f"{info.name}: {error.message}")


def _no_space(facts: Facts, space: int) -> Iterator[Hazard]:
    target = facts.graph[facts.target]
    if not space or target.fingerprint is None:
        return
    status = os.statvfs(target.path)
    free = status.f_bavail * status.f_frsize
    if space > free:
        yield Hazard(
            "no-space", BLOCK, (facts.target,),
            f"{target.name} may grow by {space:,} bytes, but its file system has {free:,} bytes free; make room first",
        )  # fmt: skip
    elif space > free * _CLOSE_TO_FULL:
        yield Hazard(
            "no-space", WARN, (facts.target,),
            f"{target.name} may grow by {space:,} bytes, nearly all of the {free:,} bytes that are free",
        )  # fmt: skip


def _blow_up(facts: Facts, packed: Mapping[ImageId, int]) -> Iterator[Hazard]:
    images = [image for image in facts.sources if packed.get(image)]
    if images:
        yield Hazard(
            "blow-up", WARN, tuple(images),
            f"{facts.names(images)} hold{'s' if len(images) == 1 else ''} compressed data, which is written as "
            f"{sum(packed[image] for image in images):,} bytes of plain data",
        )  # fmt: skip


def _shorter_top(facts: Facts) -> Iterator[Hazard]:
    """An overlay longer than the top reads zeros past the top's end; a longer base would show its data there."""
    if not isinstance(facts.operation, Commit):
        return
    graph, top, base = facts.graph, facts.graph[facts.view[0]], facts.graph[facts.target]
    for relink in facts.relinks:
        overlay = graph[relink.image]
        start, end = top.virtual_size or 0, min(overlay.virtual_size or 0, base.virtual_size or 0)
        chain = [graph[i] for i in (relink.image, *graph.chain(facts.target))]
        if relink.image != facts.view[0] and start < end and _shows_base(chain, start, end, facts.pause):
            yield Hazard(
                "shorter-middle", BLOCK, (relink.image, facts.view[0]),
                f"{overlay.name} reads zeros past the end of {top.name}, where {base.name} has a tail of its own; "
                f"resize {top.name} to {overlay.virtual_size} bytes first",
            )  # fmt: skip


def _shows_base(chain: Sequence[ImageInfo], start: int, end: int, pause: Pause) -> bool:
    """Whether the first image of a chain shows anything but zeros of what backs it in [start, end) bytes."""
    try:
        with open_layers(chain) as layers:
            for window in map_layers(layers, start, end):
                pause()
                if ((window.layer > 0) & ~reads_zero(window.state)).any():
                    return True
    except ImageError:
        return True
    return False
