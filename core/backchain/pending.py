"""What an operation has come to, told by its journal and the images as they are: links changed, images invalidated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from backchain.image import ImageState, image_id
from backchain.record import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import Fingerprint, ImageId
    from backchain.record import Link, Record


class Mix(NamedTuple):
    """What a commit that did not come to its end has changed in part.

    Attributes:
        images: Those that by themselves may read a mix of before and after, the base last.
        top: The image without which that commit cannot be completed; None when it is not there as it was.
        base: Into which it was committed; None when it is not there.
        interrupted: Whether the commit can be finished from its journal; else it was given up.
    """

    images: tuple[ImageId, ...]
    top: ImageId | None
    base: ImageId | None
    interrupted: bool


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

    The link of an overlay that is not where it was is not among them: it may be gone, or read through another name.
    """
    return tuple(k for k in record.intent.links if _is_changed(k, record, graph) is False)


def links_are_changed(record: Record, graph: ChainGraph) -> bool:
    """Whether an operation has changed all of its links: then nothing reads through what it has invalidated.

    Before all data was in place a link that looks so was changed by somebody else; and of an overlay that is not where
    it was nobody knows: it may have another name, by which it is seen to read through an invalidated image.
    """
    links = record.intent.links
    if not record.linking or not links or not all(_is_changed(k, record, graph) for k in links):
        return False
    ended = {find_path(graph, str(path)) for path, _ in record.intent.invalidated}
    return all(o in ended for i in ended if i is not None for o in graph.overlays_of(i))


def spent_images(journals: Iterable[Record], graph: ChainGraph) -> frozenset[ImageId]:
    """Give the images that a commit has invalidated, as its journal remembers, and that are still as they were then.

    They are so as soon as the last link is changed, whether or not the commit came to its end. They are known again
    under any name, and in a copy of their folder by the name that they had.
    """
    ended: list[tuple[Path, Fingerprint]] = []
    for record in journals:
        done = record.stage is Stage.LEFT or (record.intent.operation == "commit" and links_are_changed(record, graph))
        if done and not _is_undone(record, graph):
            ended += record.intent.invalidated
    return frozenset(_unchanged(graph, ended))


def _is_undone(record: Record, graph: ChainGraph) -> bool:
    """Whether all images were brought back from a backup: links, and the target as it was before the operation.

    A target that was not written since does not suffice: there may have been nothing to copy into it.
    """
    if links_are_changed(record, graph):
        return False
    target = find_path(graph, str(record.intent.target))
    now = graph[target].fingerprint if target is not None else None
    then = next((w.mtime_ns for w in record.intent.written if w.path == record.intent.target), None)
    return now is not None and then is not None and now.mtime_ns <= then


def half_committed(graph: ChainGraph, *, done: tuple[ImageId, ImageId] | None = None) -> frozenset[ImageId]:
    """Give the images that by themselves may read a mix of before and after, as a commit did not come to its end.

    Args:
        graph: The images as they were found.
        done: Top and base of a commit that is taken for done: what it mends is not among them.
    """
    return frozenset(i for mix in mixes(graph) if (mix.top, mix.base) != done for i in mix.images)


def mixes(graph: ChainGraph) -> Iterator[Mix]:
    """Give what commits have changed in part, each by itself."""
    for record in graph.surroundings.journals:
        images = mixed_images(record, graph) if record.interrupted or record.stage is Stage.UNDONE else ()
        if images:
            base, top = (find_path(graph, record.intent.arguments[name]) for name in ("base", "top"))
            usable = top is not None and not _is_invalid(graph, top) and images[0] in graph.chain(top)
            yield Mix(images, top if usable else None, base, record.interrupted)


def mixed_images(record: Record, graph: ChainGraph) -> tuple[ImageId, ...]:
    """Give the images that read a mix of before and after because of an operation that did not come to its end.

    They are a commit's base, unless all data is in place, and the layers between; what reads through the top is as it
    was. They stay so when the top is gone, or backed by something else. There are none when the same was committed
    since.
    """
    intent = record.intent
    if intent.operation != "commit" or links_are_changed(record, graph) or is_overtaken(record, graph):
        return ()
    base, top = (find_path(graph, intent.arguments[name]) for name in ("base", "top"))
    chain = graph.chain(top) if top is not None else ()
    between = chain[1 : chain.index(base)] if base in chain and not _is_invalid(graph, top) else ()
    known = _unchanged(graph, ((p, f) for p, f in intent.invalidated if str(p) != intent.arguments["top"]))
    mixed = dict.fromkeys((*between, *(i for i in known if not _is_invalid(graph, i))))
    if base is not None and not record.linking and (base in chain or not _is_undone(record, graph)):
        mixed[base] = None
    return tuple(mixed)


def is_overtaken(record: Record, graph: ChainGraph) -> bool:
    """Whether the top of a commit that did not come to its end was committed into the same base since."""
    base, top = (find_path(graph, record.intent.arguments[name]) for name in ("base", "top"))
    if base is None or top is None or not _is_invalid(graph, top):
        return False
    others = (r for r in graph.surroundings.journals if r.stage is Stage.LEFT)
    return top in spent_images((r for r in others if find_path(graph, str(r.intent.target)) == base), graph)


def _is_invalid(graph: ChainGraph, image: ImageId | None) -> bool:
    return image is not None and graph[image].state is ImageState.INVALID


def tops_of_mixes(graph: ChainGraph) -> Iterator[tuple[ImageId, tuple[ImageId, ...]]]:
    """Give the images without which a commit cannot come to its end, each with those that read a mix until it does."""
    return ((mix.top, mix.images) for mix in mixes(graph) if mix.top is not None)


def bases_to_be(graph: ChainGraph) -> Iterator[tuple[ImageId, Path]]:
    """Give the images onto which an interrupted rebase was to bring an image that is still there, with its path."""
    for record in graph.interrupted:
        if record.intent.operation == "rebase" and not links_are_changed(record, graph):
            base = find_path(graph, record.intent.arguments["backing"])
            if base is not None and may_exist(record.intent.target):
                yield base, record.intent.target


def is_settled(record: Record, graph: ChainGraph) -> bool:
    """Whether a commit that was given up is over: nothing reads a mix any more, as far as the graph reaches."""
    ends = [record.intent.arguments[name] for name in ("base", "top")]
    unseen = any(may_exist(path) and find_path(graph, path) is None for path in ends)
    return not unseen and not mixed_images(record, graph)


def may_exist(path: str | Path) -> bool:
    """Whether there is something of a name, or nobody may look."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def _unchanged(graph: ChainGraph, images: Iterable[tuple[Path, Fingerprint]]) -> set[ImageId]:
    """Give the images of a graph that are as they were then: under any name, or copies by the name that they had."""
    known = {f.lasting: i for i in graph if (f := graph[i].fingerprint) is not None}
    found = {i for path, then in images for i in (known.get(then.lasting), _unchanged_copy(graph, path, then))}
    return {i for i in found if i is not None}


def _unchanged_copy(graph: ChainGraph, path: Path, then: Fingerprint) -> ImageId | None:
    image = find_path(graph, str(path))
    now = graph[image].fingerprint if image is not None else None
    return image if now is not None and (now.size, now.mtime_ns) == (then.size, then.mtime_ns) else None


def _is_changed(link: Link, record: Record, graph: ChainGraph) -> bool | None:
    """Compare one link with the header; None when its overlay is not there.

    Another name of the same file is as good, unless the name itself was what a rebase was asked for.
    """
    image = find_path(graph, str(link.image))
    header = graph[image].header if image is not None else None
    if image is None or header is None:
        return None
    if link.name is None or header.backing_name is None:
        return (link.name is None) == (header.backing_name is None)
    if (os.fsdecode(header.backing_name), header.backing_format) == (link.name, link.format):
        return True
    return record.intent.operation != "rebase" and graph.backing_of(image) == find_path(graph, str(link.backing))
