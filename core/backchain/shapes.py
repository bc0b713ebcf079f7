"""Which images an operation concerns, and in which part: found on the graph alone, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.errors import UsageError
from backchain.operations import Commit, Rebase

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Pull, Transferring


@dataclass(frozen=True, slots=True)
class Shape:
    """The images that an operation concerns.

    Attributes:
        view: The chain whose view is kept, top first, down to its root.
        target: The image that receives data.
        sources: The images whose data moves, topmost first.
        relinked: Images that get another backing file.
        new_backing: What backs them then, or None.
        invalidated: Images that no longer read as they did.
        emptied: The active layer that a commit empties, or None.
        below: A rebase's new backing chain, top first; None where the target's new backing file is in the view.
    """

    view: tuple[ImageId, ...]
    target: ImageId
    sources: tuple[ImageId, ...]
    relinked: tuple[ImageId, ...]
    new_backing: ImageId | None
    invalidated: tuple[ImageId, ...] = ()
    emptied: ImageId | None = None
    below: tuple[ImageId, ...] | None = None

    @property
    def written(self) -> tuple[ImageId, ...]:
        """The images whose files are written: the target, relinked ones, and the emptied one."""
        emptied = () if self.emptied is None else (self.emptied,)
        return tuple(dict.fromkeys((self.target, *self.relinked, *emptied)))

    @property
    def involved(self) -> tuple[ImageId, ...]:
        """Every image that is read or written."""
        return tuple(dict.fromkeys((*self.view, *(self.below or ()), *self.written)))


def shape_of(graph: ChainGraph, operation: Transferring) -> Shape:
    """Find the images that an operation concerns.

    Raises:
        UsageError: The operation makes no sense on this graph (base not below top, nothing between, no overlay).
    """
    if isinstance(operation, Commit):
        return _commit(graph, operation)
    return _rebase(graph, operation) if isinstance(operation, Rebase) else _pull(graph, operation)


def _commit(graph: ChainGraph, operation: Commit) -> Shape:
    sources = graph.between(operation.top, operation.base)
    if not sources:
        raise _not_below(graph, operation.base, operation.top, "choose a base that the top is backed by")
    overlays = graph.overlays_of(operation.top)
    emptied = operation.top if not overlays and not operation.keep_top else None
    relinked = overlays or ((operation.top,) if emptied and len(sources) > 1 else ())
    return Shape(
        graph.chain(operation.top), operation.base, sources, relinked, operation.base,
        invalidated=sources if overlays else sources[1:], emptied=emptied,
    )  # fmt: skip


def _pull(graph: ChainGraph, operation: Pull) -> Shape:
    above = graph.between(operation.image, operation.base)
    if above is None:
        assert operation.base is not None
        raise _not_below(graph, operation.base, operation.image, "choose a base that the image is backed by")
    if len(above) < 2:
        raise UsageError(
            f"{graph[operation.image].display_path}: nothing lies between the image and its new backing file",
            "the image already stands as the operation would leave it",
        )
    return Shape(graph.chain(operation.image), operation.image, above[1:], (operation.image,), operation.base)


def _rebase(graph: ChainGraph, operation: Rebase) -> Shape:
    image, backing = operation.image, operation.backing
    if graph[image].format == "raw":
        raise UsageError(f"{graph[image].display_path} is raw: only a qcow2 image has a backing file")
    view = graph.chain(image)
    below = graph.chain(backing) if backing is not None else ()
    sources: tuple[ImageId, ...] = ()
    if not operation.unsafe:
        end = view.index(backing) if backing in view[1:] else len(view)
        sources = view[1:end] if len(view) > 1 else view
    return Shape(view, image, sources, (image,), backing, below=below)


def _not_below(graph: ChainGraph, base: ImageId, top: ImageId, hint: str) -> UsageError:
    return UsageError(f"{graph[base].display_path} is not below {graph[top].display_path} in its chain", hint)
