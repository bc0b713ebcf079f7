"""The forest of images: an edge from every overlay to the file that backs it; a networkx.DiGraph where one is needed.

Neighbours are kept in plain dictionaries, which answer what a plan asks. networkx takes longer to import than most
plans take to be made: it is loaded for what it is good at (trees, loops, `ChainGraph.digraph`) and not before.

Nodes are keyed by identity (device and inode), so one file under two names is one node. Where its link leads elsewhere
by each name, the graph shows one and `Surroundings.forked` has them all. A backing file that is missing or
unreadable is a node of its own; a loop is kept as it is found and reported, never followed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from backchain.filename import is_within
from backchain.image import ImageId, ImageInfo, ImageState
from backchain.sorting import natural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    import networkx as nx

    from backchain.record import Record


class User(NamedTuple):
    """What needs a file, besides the overlays that the graph shows.

    Attributes:
        image: Who needs it; it may be none of the graph's.
        need: What the file is to it, in words.
        is_data: Whether it reads the file as it is seen now; else the file backs it by another of its paths.
    """

    image: ImageId
    need: str
    is_data: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was found around the images of a graph.

    Attributes:
        incomplete: What could not be looked at (folders, budget), one line each: overlays may hide there.
        roots: Folders that were given; a link that leads out of them is not trusted. Empty: nothing is known of it.
        journals: What operations that were interrupted, or that left invalid images, have written down.
        users: What else needs a file, besides overlays.
        forked: Images that are known by several paths from which their link leads to different files, with each path
            and what backs the image there; the graph's own link first.
        named: Files and folders that were given outright; `roots` holds the folders of such files, too.
        names: The paths by which an image was found, of those that were found by several.
        forbidden: Regular files beside images that this user may not read, by their folder, links of folders followed:
            each may be an overlay. They are told of in `incomplete`, too.
    """

    incomplete: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    journals: tuple[Record, ...] = ()
    users: Mapping[ImageId, tuple[User, ...]] = field(default_factory=dict)
    forked: Mapping[ImageId, tuple[tuple[Path, ImageId], ...]] = field(default_factory=dict)
    named: tuple[Path, ...] = ()
    names: Mapping[ImageId, tuple[Path, ...]] = field(default_factory=dict)
    forbidden: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)


class ChainGraph:
    """An immutable forest of images.

    Each image has at most one outgoing edge, to its backing file.
    """

    def __init__(
        self,
        images: Iterable[ImageInfo],
        links: Iterable[tuple[ImageId, ImageId]],
        surroundings: Surroundings | None = None,
    ) -> None:
        """Build the graph.

        Args:
            images: The nodes; the first record of an identity wins.
            links: Pairs (overlay, backing file) of identities that are among the images.
            surroundings: What was found around them.
        """
        self._digraph: nx.DiGraph[ImageId] | None = None
        self._images: dict[ImageId, ImageInfo] = {}
        for image in images:
            self._images.setdefault(image.id, image)
        self._backing: dict[ImageId, ImageId] = {}
        self._overlays: dict[ImageId, list[ImageId]] = {}
        for overlay, backing in links:
            self._backing[overlay] = backing
            self._overlays.setdefault(backing, []).append(overlay)
        self.surroundings = surroundings or Surroundings()

    @property
    def digraph(self) -> nx.DiGraph[ImageId]:
        """The graph for networkx's own algorithms, made when it is first asked for; do not change it."""
        if self._digraph is None:
            import networkx as nx

            self._digraph = nx.DiGraph()
            self._digraph.add_nodes_from(self._images)
            self._digraph.add_edges_from(self.links)
        return self._digraph

    @property
    def links(self) -> Iterable[tuple[ImageId, ImageId]]:
        """Every pair (overlay, backing file)."""
        return self._backing.items()

    @property
    def images(self) -> Mapping[ImageId, ImageInfo]:
        """Every image by its identity, in the order in which they were found."""
        return self._images

    @property
    def incomplete(self) -> tuple[str, ...]:
        """What could not be looked at, one line each: overlays may hide there."""
        return self.surroundings.incomplete

    @property
    def interrupted(self) -> tuple[Record, ...]:
        """Operations that died or gave up amid their work, as their journals tell."""
        return tuple(r for r in self.surroundings.journals if r.interrupted)

    @property
    def users(self) -> Mapping[ImageId, tuple[User, ...]]:
        """What else needs a file, besides overlays."""
        return self.surroundings.users

    def __getitem__(self, image: ImageId) -> ImageInfo:
        return self._images[image]

    def __contains__(self, image: object) -> bool:
        return image in self._images

    def __iter__(self) -> Iterator[ImageId]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def backing_of(self, image: ImageId) -> ImageId | None:
        """Give the image that backs `image`, or None for a base."""
        return self._backing.get(image)

    def overlays_of(self, image: ImageId) -> tuple[ImageId, ...]:
        """Give the images that `image` backs directly, by path."""
        return tuple(sorted(self._overlays.get(image, ()), key=lambda i: natural(str(self._images[i].path))))

    def ways_to(self, image: ImageId) -> tuple[Path, ...]:
        """Give the paths by which the overlays of `image` open it."""
        links = (self._images[o].backing for o in self.overlays_of(image))
        return tuple(dict.fromkeys(k.path for k in links if k is not None and k.path is not None))

    def dependents(self, image: ImageId) -> frozenset[ImageId]:
        """Give every image that reads through `image`, at any distance: what would break if it changed."""
        found: set[ImageId] = set()
        above = [image]
        while above:
            fresh = set(self._overlays.get(above.pop(), ())) - found
            found |= fresh
            above += fresh
        return frozenset(found - {image})

    def chain(self, image: ImageId) -> tuple[ImageId, ...]:
        """Give the chain from `image` (first) down to its base (last); a loop ends before it repeats."""
        found: dict[ImageId, None] = {}
        current: ImageId | None = image
        while current is not None and current not in found:
            found[current] = None
            current = self.backing_of(current)
        return tuple(found)

    def between(self, top: ImageId, base: ImageId | None) -> tuple[ImageId, ...] | None:
        """Give the images from `top` (included) down to `base` (excluded), or None if base is not below top."""
        chain = self.chain(top)
        if base is None:
            return chain
        return chain[: chain.index(base)] if base in chain[1:] else None

    def leaves(self) -> tuple[ImageId, ...]:
        """Give the images that back nothing (the active layers), in the order in which they were found."""
        return tuple(i for i in self._images if i not in self._overlays)

    def is_base(self, image: ImageId) -> bool:
        """Whether nothing backs `image`."""
        return image not in self._backing

    def is_active(self, image: ImageId) -> bool:
        """Whether `image` backs nothing: it is the active layer of its chain."""
        return image not in self._overlays

    def is_trusted(self, image: ImageId) -> bool:
        """Whether an image lies in one of the folders that were given, links of folders followed."""
        return self._lies_in(image, self.surroundings.roots)

    def is_named(self, image: ImageId) -> bool:
        """Whether an image, or a folder that it lies in, was given outright, links of folders followed."""
        return self._lies_in(image, self.surroundings.named)

    def _lies_in(self, image: ImageId, places: Collection[Path]) -> bool:
        if not self.surroundings.roots or image not in self._images:
            return True
        info = self._images[image]
        return info.remote is None and is_within(info.path, places)

    def loops(self) -> tuple[frozenset[ImageId], ...]:
        """Give the loops: sets of images that back one another in a circle."""
        if not self._has_loop():
            return ()
        import networkx as nx

        return tuple(
            frozenset(component)
            for component in nx.strongly_connected_components(self.digraph)
            if len(component) > 1 or any(self.digraph.has_edge(i, i) for i in component)
        )

    def _has_loop(self) -> bool:
        """Whether a walk down from any image comes back to where it was."""
        sound: set[ImageId] = set()
        for image in self._backing:
            walked: set[ImageId] = set()
            current: ImageId | None = image
            while current is not None and current not in sound:
                if current in walked:
                    return True
                walked.add(current)
                current = self._backing.get(current)
            sound |= walked
        return False

    def trees(self) -> tuple[frozenset[ImageId], ...]:
        """Give the trees of the forest: sets of images that hang together."""
        import networkx as nx

        return tuple(frozenset(c) for c in nx.weakly_connected_components(self.digraph))

    def with_changes(
        self,
        *,
        relink: Mapping[ImageId, ImageId | None] | None = None,
        replace: Iterable[ImageInfo] = (),
        unlink: Iterable[ImageId] = (),
        add: Iterable[ImageInfo] = (),
        remove: Iterable[ImageId] = (),
    ) -> ChainGraph:
        """Give the graph after an operation.

        Args:
            relink: New backing file per image; None stands for no backing file.
            replace: Records that take the place of those with the same identity.
            unlink: Images whose edge to their backing file is dropped.
            add: New images; `relink` may name them.
            remove: Images that are gone, with their edges.
        """
        changed = dict(relink or {}) | dict.fromkeys(unlink)
        records = {i.id: i for i in replace}
        gone = set(remove)
        images = [*(records.get(i, info) for i, info in self._images.items() if i not in gone), *add]
        links = [(o, b) for o, b in self.links if o not in changed]
        links += [(o, b) for o, b in changed.items() if b is not None]
        return ChainGraph(images, [(o, b) for o, b in links if not gone & {o, b}], self.surroundings)

    def without_invalid_links(self) -> ChainGraph:
        """Give the graph in which an invalid image counts as no overlay: it holds nothing that could be harmed.

        One that a sound overlay is still backed by keeps its link, as that overlay reads on through it.
        """
        invalid = {i for i, info in self._images.items() if info.state is ImageState.INVALID}
        if not invalid:
            return self
        needed = {i for image in self._images.keys() - invalid for i in self.chain(image)}
        return self.with_changes(unlink=invalid - needed)

    def to_json(self) -> dict[str, Any]:
        """Give the graph's JSON document as DESIGN's contract sets it out."""
        return {"images": [self._image_json(i) for i in self._images]}

    def _image_json(self, image: ImageId) -> dict[str, Any]:
        info = self._images[image]
        backing = self.backing_of(image)
        return {
            "path": info.location,
            "format": info.format,
            "virtual_size": info.virtual_size,
            "disk_size": info.disk_size,
            "cluster_size": info.cluster_size,
            "backing": self._images[backing].location if backing is not None else None,
            "overlays": [self._images[o].location for o in self.overlays_of(image)],
            "state": str(info.state),
        }
