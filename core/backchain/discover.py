"""Files and folders in, one ChainGraph out: every chain they hang in, siblings included. Reads headers alone.

A backing file is followed under the name that its overlay records, as QEMU would resolve it; one that is missing,
unreadable or reached over a network is a node of its own. Every link is followed once, so a loop ends the walk.

A relative link leads elsewhere when its overlay is opened by another path (a symlink or a hard link in another folder).
The path that was found first decides what backs the image, unless it leads nowhere and another one does not; where the
others lead is followed and remembered too.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.errors import MissingImageError
from backchain.filename import printable, tidied
from backchain.graph import ChainGraph, Surroundings, User
from backchain.image import (
    ImageId,
    ImageInfo,
    ImageState,
    image_id,
)
from backchain.journal import is_not_believed, kept_journals, read_journal
from backchain.pending import spent_images
from backchain.reading import HeaderReader
from backchain.scan import DEFAULT_BUDGET, FolderScan
from backchain.titles import told_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backchain.record import Record


def discover(paths: Sequence[Path], *, scan: Sequence[Path] = (), budget: int = DEFAULT_BUDGET) -> ChainGraph:
    """Find the images that hang together with `paths`.

    Args:
        paths: Images and folders. Of a folder (and the folders in it) every image is taken: qcow2 by its magic, raw by
            its suffix. An image is taken whatever it is.
        scan: More folders in which overlays may lie. The folders of every chain's own images are always searched.
            Images found so are taken only if they hang together with `paths`.
        budget: Folder entries to look at in all; what is left out is noted in the graph's `incomplete`.

    Returns:
        The graph. A node's format is what its own magic says; what an overlay records of it is in the overlay's
        `backing.format`, and where the two differ that is the hazard format-mismatch. Images in a loop have state
        LOOP.

    Raises:
        MissingImageError: One of `paths` or `scan` does not exist or can't be opened.
    """
    return _Discovery(budget).run([tidied(p) for p in paths], [tidied(p) for p in scan])


class _Discovery:
    """The state of one discovery: what was found, what backs what, and what was asked for."""

    def __init__(self, budget: int) -> None:
        self._images: dict[ImageId, ImageInfo] = {}
        self._links: dict[ImageId, dict[ImageId, ImageInfo]] = {}
        """What backs an image, each with the image as it was read by a path that leads there; the first one counts."""
        self._names: dict[ImageId, dict[Path, None]] = {}
        self._asked: dict[ImageId, None] = {}
        self._searched: set[Path] = set()
        self._symlinks: set[Path] = set()
        self._roots: dict[Path, None] = {}
        self._named: tuple[Path, ...] = ()
        self._scan = FolderScan(budget)
        self._reader = HeaderReader()

    def run(self, paths: Sequence[Path], scan: Sequence[Path]) -> ChainGraph:
        self._named = (*paths, *scan)
        for path in paths:
            if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it takes what may not be looked at for no folder
                _require_access(path)
                self._roots[path] = None
                self._asked.update(dict.fromkeys(self._search(path)))
            else:
                self._roots[path.parent] = None
                self._asked[self._add(self._reader.read(path))] = None
        for folder in scan:
            if not os.path.isdir(folder):  # noqa: PTH112 - as above
                raise MissingImageError(f"{printable(str(folder))} is not a folder")
            _require_access(folder)
            self._roots[folder] = None
            self._search(folder)
        connected = self._search_own_folders()
        self._prefer_what_is_there()
        return self._graph(connected)

    def _search(self, folder: Path) -> list[ImageId]:
        """Read every image in `folder` and below, with what backs it; give their identities."""
        self._searched.add(folder)
        found = (self._reader.read_found(path) for path in self._scan.images(folder))
        return [self._add(info) for info in found if info is not None]

    def _search_beside(self, image: Path) -> None:
        """Read what lies beside the file that a symlink leads to.

        Its own name there is none that anybody has given. It counts only if the link leads to a file from there, too.
        """
        real = Path(os.path.realpath(image))
        for path in self._scan.images(real.parent):
            info = self._reader.read_found(path)
            if info is None:
                continue
            known = self._images.get(info.id)
            if known is None or (path == real and _leads_to_a_file(known) and _leads_to_a_file(info)):
                self._add(info)

    def _search_own_folders(self) -> set[ImageId]:
        """Search the folders of what hangs together with what was asked for, until there is nothing new."""
        while True:
            connected = self._connected(self._asked)
            paths = [self._images[i].path for i in self._images if i in connected and self._is_file(i)]
            new = sorted({p.parent for p in paths} - self._searched)
            links = [p for p in paths if p not in self._symlinks and p.is_symlink()]
            if not new and not links:
                return connected
            for folder in new:
                self._search(folder)
            for path in links:
                self._symlinks.add(path)
                self._search_beside(path)

    def _is_file(self, image: ImageId) -> bool:
        """Whether `image` is a regular file: the folder of a device is full of things that nobody should open."""
        info = self._images[image]
        return info.fingerprint is not None and os.path.isfile(info.path)  # noqa: PTH113 - as in run

    def _add(self, info: ImageInfo) -> ImageId:
        """Add an image and, one after another, the files that back it."""
        first = info.id
        following: ImageInfo | None = info
        while following is not None:
            following = self._follow(following)
        return first

    def _follow(self, info: ImageInfo) -> ImageInfo | None:
        """Add an image, and give the file that backs it; None if its link has been followed to there before."""
        known = self._images.setdefault(info.id, info)
        self._names.setdefault(info.id, {})[info.path] = None
        if info.backing is None or known.backing is None:
            return None
        found = self._links.setdefault(info.id, {})
        if found and info.backing.path == known.backing.path:
            return None
        below = self._reader.read_backing(info.backing)
        if below.id in found:
            return None
        found[below.id] = info
        return below

    def _prefer_what_is_there(self) -> None:
        """Have a link count that leads to a file, though one that leads nowhere was found first, by another path.

        An image that was named outright is taken as it is seen from there.
        """
        for overlay, found in self._links.items():
            there = next((b for b in found if self._images[b].state is not ImageState.MISSING), None)
            if there is not None and self._images[overlay].path not in self._named:
                self._images[overlay] = found[there]
                self._links[overlay] = {there: found[there], **found}

    def _connected(self, start: Iterable[ImageId]) -> set[ImageId]:
        """Give what hangs together with `start`, over links as QEMU would follow them."""
        neighbours: dict[ImageId, list[ImageId]] = {}
        for overlay, backing in self._trusted_links():
            neighbours.setdefault(overlay, []).append(backing)
            neighbours.setdefault(backing, []).append(overlay)
        found: set[ImageId] = set()
        waiting = list(start)
        while waiting:
            image = waiting.pop()
            if image not in found:
                found.add(image)
                waiting.extend(neighbours.get(image, ()))
        return found

    def _trusted_links(self) -> list[tuple[ImageId, ImageId]]:
        """Give the links, but for those out of a file that every overlay of it records as raw.

        QEMU takes such a file as plain data: a qcow2 header in it may have been written by the guest, and its link
        may lead anywhere.
        """
        recorded = self._recorded_formats()
        return [(o, b) for o, b in self._every_link() if recorded.get(o) != {"raw"}]

    def _every_link(self) -> Iterator[tuple[ImageId, ImageId]]:
        return ((o, b) for o, found in self._links.items() for b in found)

    def _recorded_formats(self) -> dict[ImageId, set[str | None]]:
        """Give the formats that the overlays of an image record for it."""
        recorded: dict[ImageId, set[str | None]] = {}
        for overlay, backing in self._every_link():
            if overlay != backing:  # what it says of itself says nothing of how others see it
                link = self._images[overlay].backing
                recorded.setdefault(backing, set()).add(link.format if link is not None else None)
        return recorded

    def _graph(self, connected: set[ImageId]) -> ChainGraph:
        order = [*self._asked, *(i for i in self._images if i not in self._asked)]
        images = told_apart(self._images[i] for i in order if i in connected)
        links: dict[ImageId, dict[ImageId, Path]] = {}
        for overlay, backing in self._trusted_links():
            if overlay in connected:
                links.setdefault(overlay, {})[backing] = self._links[overlay][backing].path
        forked = {o: tuple((path, b) for b, path in found.items()) for o, found in links.items() if len(found) > 1}
        beside = [r for p in self._scan.journals if (r := read_journal(p)) is not None]
        kept = kept_journals({*self._roots, *(info.path.parent for info in images)})
        journals = tuple({r.path.resolve(): r for r in (*beside, *kept)}.values())
        incomplete = (*self._scan.notes(), *self._riddles(), *self._doubtful_links(connected))
        names = {i: tuple(self._names[i]) for i in self._images if i in connected and len(self._names[i]) > 1}
        surroundings = Surroundings(
            incomplete, tuple(self._roots), journals, self._users(forked), forked, self._named, names, self._forbidden()
        )  # fmt: skip
        graph = ChainGraph(images, [(o, next(iter(found))) for o, found in links.items()], surroundings)
        looped = [_in_loop(graph[i], len(loop)) for loop in graph.loops() for i in loop]
        return graph.with_changes(replace=[*looped, *_invalidated(graph, journals)])

    def _forbidden(self) -> dict[Path, tuple[Path, ...]]:
        """Give the files that this user may not read by their folder, links of folders followed."""
        folders: dict[Path, tuple[Path, ...]] = {}
        for path in self._scan.forbidden:
            folder = Path(os.path.realpath(path.parent))
            folders[folder] = (*folders.get(folder, ()), path)
        return folders

    def _riddles(self) -> Iterator[str]:
        """Name what cannot be told: what backs damaged images, what other users have left undone."""
        for info in self._images.values():
            if info.format == "qcow2" and info.state is ImageState.UNREADABLE:
                yield f"{info.display_path}: {info.problem}, so that nobody knows what backs it"
            if info.backing is not None and info.backing.path is None and info.backing.name.startswith("json:"):
                yield f"{info.display_path}: its json: name mentions no file, so that nobody knows what backs it"
        recorded = self._recorded_formats()
        for path in self._scan.misnamed:
            with suppress(OSError):
                if recorded.get(image_id(path.stat())) == {"raw"}:
                    continue
            name = printable(str(path))
            yield f"{name}: is called qcow2 and does not begin like one, so that nobody knows what backs it"
        for path in filter(is_not_believed, self._scan.journals):
            yield f"{printable(str(path))}: the journal of another user, not read: a job of theirs may be unfinished"

    def _doubtful_links(self, connected: set[ImageId]) -> Iterator[str]:
        """Name the links that are not trusted and lead to an image of the graph, whose overlay each may stand in."""
        trusted = set(self._trusted_links())
        for overlay, found in self._links.items():
            for backing in connected.intersection(found):
                if (overlay, backing) not in trusted:
                    one, other = self._images[overlay].display_path, self._images[backing].display_path
                    yield f"{one}: its overlays record it as raw, but it begins like a qcow2 image that {other} backs"

    def _users(self, forked: Mapping[ImageId, Sequence[tuple[Path, ImageId]]]) -> dict[ImageId, tuple[User, ...]]:
        """Give what is needed besides the backing files of the graph, each with what needs it.

        These are external data files, what backs an image when it is opened by another of its paths, and what a name
        with several files mentions besides the one that is followed.
        """
        users: dict[ImageId, tuple[User, ...]] = {}
        for image, names in forked.items():
            for path, backing in names[1:]:
                user = User(image, f"the backing file of {path}", is_data=False)
                users[backing] = (*users.get(backing, ()), user)
        for info in self._images.values():
            held = [] if info.data_file is None else [(info.data_file, f"the data file of {info.name}")]
            held += [(p, f"a backing file of {info.name}") for p in (info.backing.others if info.backing else ())]
            for path, need in held:
                with suppress(OSError, ValueError):
                    file = image_id(path.stat())
                    users[file] = (*users.get(file, ()), User(info.id, need, is_data=True))
        return users


def _invalidated(graph: ChainGraph, journals: Iterable[Record]) -> Iterator[ImageInfo]:
    """Mark the images that a commit has invalidated, as its journal remembers."""
    for image in spent_images(journals, graph):
        info = graph[image]
        if info.state is ImageState.OK:
            yield replace(info, state=ImageState.INVALID, problem="a commit has changed what it relied on")


def _leads_to_a_file(info: ImageInfo) -> bool:
    """Whether there is something at the path that an image's link leads to."""
    path = info.backing.path if info.backing is not None else None
    return path is not None and os.path.exists(path)  # noqa: PTH110 - takes a NUL in the name for nothing there


def _require_access(folder: Path) -> None:
    """Refuse a folder that was named outright and may not be searched; one below it is told of as not looked at.

    Raises:
        MissingImageError: This user may not search it.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise MissingImageError(
            f"{printable(str(folder))}: {os.strerror(errno.EACCES)}", "run it as a user who may read the folder"
        )


def _in_loop(info: ImageInfo, length: int) -> ImageInfo:
    if length == 1:
        problem = "the image is backed by itself"
    else:
        problem = f"the image is in a loop of {length} that back one another"
    return replace(info, state=ImageState.LOOP, problem=problem)
