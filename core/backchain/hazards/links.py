"""Hazards that the graph and the recorded names show: loops, lost and untrusted links, traps in names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.errors import UnsupportedImageError
from backchain.filename import MAX_BACKING_NAME, has_protocol, leads_to, printable, recorded_bytes, recorded_length
from backchain.hazards.facts import BLOCK, CONFIRM, LOST, WARN, Facts, names
from backchain.image import ImageState, require_header
from backchain.operations import Commit, Rebase
from backchain.plan import Hazard

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain.plan import Relink

_CLOCK_SLACK_NS = 2_000_000_000
"""Files that are written or copied together differ by less."""

_LONG_NAME = 900
"""Bytes from which a name is close to QEMU's limit."""


def loop(facts: Facts) -> Iterator[Hazard]:
    """A loop in the chain, or one that the new link would close: no program can read it."""
    graph = facts.graph
    if facts.link_only is None:
        yield from looped_chains(graph, (*facts.view, *(facts.shape.below or ())))
    else:  # the old link goes, and with it a loop that the image is in
        yield from looped_chains(graph.with_changes(unlink=(facts.link_only,)), facts.shape.below or ())
    new = facts.shape.new_backing
    if isinstance(facts.operation, Rebase) and new is not None and facts.target in graph.chain(new):
        what = "itself" if new == facts.target else f"{graph[new].name}, which reads through it"
        yield Hazard(
            "loop", BLOCK, tuple(dict.fromkeys((facts.target, new))),
            f"{graph[facts.target].name} would be backed by {what}; choose an image that does not depend on it",
        )  # fmt: skip


def looped_chains(graph: ChainGraph, images: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the loops that any of `images` is in."""
    for found in loops_among(graph, images):
        members = tuple(sorted(found))
        yield Hazard("loop", BLOCK, members, f"{names(graph, members)} back one another in a loop; mend the links")


def loops_among(graph: ChainGraph, images: Iterable[ImageId]) -> tuple[frozenset[ImageId], ...]:
    """Give the loops that any of `images` is in."""
    concerned = set(images)
    return tuple(found for found in graph.loops() if found & concerned)


def missing(facts: Facts) -> Iterator[Hazard]:
    """An image of the chain that is not there, or cannot be read."""
    images = facts.view if facts.link_only is None else facts.view[:1]  # the old backing file may be gone
    yield from lost_images(facts.graph, (*images, *(facts.shape.below or ())))


def lost_images(graph: ChainGraph, images: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the images that cannot be read."""
    for image in dict.fromkeys(images):
        info = graph[image]
        if info.state in LOST:
            yield Hazard("missing-backing", BLOCK, (image,), _how_to_restore(graph, image))


def _how_to_restore(graph: ChainGraph, image: ImageId) -> str:
    info, overlays = graph[image], names(graph, graph.overlays_of(image))
    problem = f"cannot be read ({printable(info.problem)})"
    if not overlays:
        return f"{info.name} {problem}; restore it first"
    way = "restore it, or name the file that it is now (rebase -u -b FILE)"
    if info.state is not ImageState.MISSING:
        way = "make it readable, or repair the link first"
    return f"{info.display_path}, which backs {overlays}, {problem}; {way}"


def untrusted(facts: Facts) -> Iterator[Hazard]:
    """A link that leads out of the folders that were given: whoever made the overlay chose the file."""
    overlays = (*facts.view, *(facts.shape.below or ()))
    operation = facts.operation
    same_file = isinstance(operation, Rebase) and facts.graph.backing_of(facts.target) == operation.backing
    yield from untrusted_links(facts.graph, overlays, renamed=facts.target if same_file else None)


def untrusted_links(
    graph: ChainGraph, overlays: Iterable[ImageId], *, renamed: ImageId | None = None
) -> Iterator[Hazard]:
    """Find the links of `overlays` that lead out of the folders given, or are no plain file names.

    Args:
        graph: The images as they were found.
        overlays: Whose links.
        renamed: The one that gets a plain name for the same file: the name that it records is not used.
    """
    for overlay in dict.fromkeys(overlays):
        backing = graph.backing_of(overlay)
        if backing is None:
            continue
        one, other = graph[overlay], graph[backing]
        if other.remote is not None:
            yield Hazard(
                "untrusted-link", BLOCK, (overlay, backing),
                f"{one.name} is backed by {other.name}, which is no file of this machine and is not opened",
            )  # fmt: skip
        elif not graph.is_trusted(backing):
            yield Hazard(
                "untrusted-link", CONFIRM, (overlay, backing),
                f"{one.name} is backed by {other.display_path}, outside of the folders given; if that is meant, name "
                f"its folder (--scan {printable(str(other.path.parent))})",
            )  # fmt: skip
        elif overlay != renamed and one.backing and has_protocol(one.backing.name) and not graph.is_named(backing):
            yield Hazard(
                "untrusted-link", CONFIRM, (overlay, backing),
                f"{one.name} is backed by {_shortened(one.backing.name)}, which is no plain file name; if "
                f"{other.display_path} is meant, name its folder (--scan {printable(str(other.path.parent))})",
            )  # fmt: skip


def changed_bases(facts: Facts) -> Iterator[Hazard]:
    """A backing file that was written after its overlay: what the overlay says of it may no longer hold."""
    yield from newer_bases(facts.graph, (*facts.view, *(facts.shape.below or ())))


def newer_bases(graph: ChainGraph, overlays: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the backing files of `overlays` that are newer than their overlay."""
    for overlay in dict.fromkeys(overlays):
        backing = graph.backing_of(overlay)
        if backing is None:
            continue
        one, other = graph[overlay].fingerprint, graph[backing].fingerprint
        if one is not None and other is not None and other.mtime_ns > one.mtime_ns + _CLOCK_SLACK_NS:
            yield Hazard(
                "base-changed", WARN, (overlay, backing),
                f"{graph[backing].name} was written after {graph[overlay].name}, which relies on it as it was; make "
                f"sure that nothing but a commit or a copy did that",
            )  # fmt: skip


def traps(facts: Facts) -> Iterator[Hazard]:
    """Names that lead elsewhere when a file is moved, opened by another path, or read by another program."""
    for relink in facts.relinks:
        info = facts.graph[relink.image]
        try:
            require_header(info).place_backing(recorded_bytes(relink.name), relink.format)
        except UnsupportedImageError as error:
            yield Hazard("path-trap", BLOCK, (info.id,), f"{info.name}: {error.message}; {error.hint}")
        yield from _lost_ways(facts.graph, relink)
    for image in (*facts.view, *(facts.shape.below or ())):
        if image != facts.link_only:
            yield from trapped_name(facts.graph, image)


def _lost_ways(graph: ChainGraph, relink: Relink) -> Iterator[Hazard]:
    """A name that was asked for, and that leads elsewhere by a path by which the image is opened."""
    if relink.name is None or relink.new is None or graph[relink.new].fingerprint is None:
        return
    info, below = graph[relink.image], graph[relink.new]
    used = dict.fromkeys((info.path, *graph.ways_to(relink.image)))
    for way in used | dict.fromkeys(graph.surroundings.names.get(relink.image, ())):
        if not leads_to(way, relink.name, below.path):
            yield Hazard(
                "path-trap", BLOCK if way in used else WARN, (info.id, relink.new),
                f"{info.name} can be opened as {printable(str(way))}, from where {_shortened(relink.name)} does not "
                f"lead to {below.display_path}; give that path as the name",
            )  # fmt: skip


def trapped_name(graph: ChainGraph, image: ImageId) -> Iterator[Hazard]:
    """Find what is fragile in the name that one overlay records."""
    info = graph[image]
    if info.backing is None:
        return
    name = info.backing.name
    why = ""
    if name.startswith("json:"):
        why = "is a json: name, whose inner path depends on the folder that a program is started in"
    elif has_protocol(name):
        why = "begins like a protocol (with a colon)"
    elif recorded_length(name) > _LONG_NAME:
        why = f"is close to QEMU's limit of {MAX_BACKING_NAME} bytes"
    elif not name.startswith("/") and info.path.is_symlink():
        real = os.path.realpath(info.path)
        if os.path.dirname(real) != os.path.realpath(info.path.parent):  # noqa: PTH120 - text, as QEMU does it
            why = f"is relative, and {info.name} is a symlink: by its real path it leads elsewhere"
    if why:
        yield Hazard(
            "path-trap", WARN, (image,),
            f"the backing file name of {info.name}, {_shortened(name)}, {why}; rewrite it with backchain rebase -u -b",
        )  # fmt: skip


def forked(facts: Facts) -> Iterator[Hazard]:
    """An image that has another backing file by each of its paths, so that it has more than one chain."""
    shape = facts.shape
    yield from forked_images(facts.graph, shape.involved, (*shape.written, *shape.invalidated))


def forked_images(graph: ChainGraph, used: Collection[ImageId], changed: Iterable[ImageId] = ()) -> Iterator[Hazard]:
    """Find the images whose link leads to different files by different paths, where that matters.

    A path by which it leads nowhere is none that a machine could use just now. But where the graph shows that one, all
    else is planned without a look at what the other one leads to.

    Args:
        graph: The images as they were found.
        used: What is read or written: none of it may be such an image.
        changed: What no longer reads as it did, or gets another link: none of it may back such an image by any path.
    """
    touched = set(changed)
    for image, ways in graph.surroundings.forked.items():
        backing = [b for _, b in ways]
        if image not in used and touched.isdisjoint(backing):
            continue
        shown = [f"{printable(str(p))} is backed by {graph[b].display_path}{_if_lost(graph[b])}" for p, b in ways]
        more = f" (and {len(shown) - 2} more)" if len(shown) > 2 else ""
        usable = sum(graph[b].state is not ImageState.MISSING for b in backing)
        harmful = usable > 1 or not touched.isdisjoint(backing[1:])
        yield Hazard(
            "path-trap", BLOCK if harmful else WARN, tuple(dict.fromkeys((image, *backing))),
            f"one image has two chains: {shown[0]}, but {shown[1]}{more}; remove one of the two names once nothing is "
            f"opened by it or backed by it (qemu-img rebase -b \"\" lets an overlay stand alone)",
        )  # fmt: skip


def _if_lost(info: ImageInfo) -> str:
    return f" ({info.state})" if info.state in LOST else ""


def _shortened(name: str) -> str:
    """Make a recorded name fit for a message."""
    return printable(name if len(name) < 60 else f"{name[:57]}...")


def unknown(facts: Facts) -> Iterator[Hazard]:
    """What was not looked at may hold overlays; a commit would destroy one that lies beside its images."""
    changed = (facts.target, *facts.sources) if isinstance(facts.operation, Commit) else ()
    files = _forbidden_beside(facts.graph, changed)
    if files:
        yield Hazard("unknown-overlays", CONFIRM, (facts.target,), _forbidden_text(facts.graph, files))
    elif facts.graph.incomplete:
        yield Hazard("unknown-overlays", WARN, (facts.target,), unseen(facts.graph))


def _forbidden_beside(graph: ChainGraph, images: Iterable[ImageId]) -> tuple[Path, ...]:
    """Give the files in the folders of `images`, by any of their paths, that this user may not read."""
    there = [i for i in images if graph[i].fingerprint is not None]  # else its name may be one that no file can have
    paths = [p for i in there for p in (graph[i].path, *graph.surroundings.names.get(i, ()))]
    folders = {
        Path(f) for p in paths for f in (os.path.realpath(p.parent), os.path.dirname(os.path.realpath(p)))  # noqa: PTH120
    }  # fmt: skip
    return tuple(p for folder in sorted(folders) for p in graph.surroundings.forbidden.get(folder, ()))


def _forbidden_text(graph: ChainGraph, files: Sequence[Path]) -> str:
    """Say what a commit may do to files that this user may not read, and what else was not looked at."""
    many = len(files) > 1
    shown = ", ".join(printable(str(p)) for p in files[:_MOST_FILES])
    shown += f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
    rest = f"; {unseen(graph)}" if len(graph.incomplete) > 1 else ""
    one, none = ("any", "none") if many else ("it", "it is not")
    return (
        f"{shown} cannot be read by this user; if {one} is an overlay of what this commit changes, it is damaged: "
        f"commit as a user who may read {'them' if many else 'it'}, or go on if {none}{' is' if many else ''}{rest}"
    )


_MOST_FILES = 3
"""Files that a message names."""


def unseen(graph: ChainGraph) -> str:
    """Say what was not looked at, in one line."""
    return "overlays may exist that were not seen: " + "; ".join(printable(line) for line in graph.incomplete)


def invalid(facts: Facts) -> Iterator[Hazard]:
    """An image that a commit has left without what it relied on; a sound overlay may still read through one."""
    shape = facts.shape
    backing = () if shape.new_backing is None else (shape.new_backing,)
    yield from invalid_images(facts.graph, dict.fromkeys((shape.view[0], *shape.relinked, *backing)))


def invalid_images(graph: ChainGraph, images: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the images that a commit has invalidated."""
    for image in images:
        if graph[image].state is ImageState.INVALID:
            yield Hazard(
                "corrupt", BLOCK, (image,),
                f"{graph[image].name} is invalid: a commit has changed what it relied on; delete it",
            )  # fmt: skip
