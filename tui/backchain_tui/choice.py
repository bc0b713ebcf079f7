"""What an operation is to be, as chosen so far. No Textual here.

A choice always is one that makes sense; whatever does not is refused with the reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from backchain.image import ImageState
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain_tui.badges import Mark
from backchain_tui.describe import range_fault
from backchain_tui.formatting import names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation


class End(StrEnum):
    """The two ends of a range."""

    BASE = "base"
    TOP = "top"


class Choice(ABC):
    """An operation that is being chosen.

    Attributes:
        kind: The class of the operation.
        graph: The forest.
        top: The image that it is about; the uppermost one that it concerns.
    """

    kind: type[Operation]

    def __init__(self, graph: ChainGraph, top: ImageId) -> None:
        """Begin with an image of a forest."""
        self.graph = graph
        self.top = top

    @abstractmethod
    def operation(self) -> Operation:
        """Give what is asked for."""

    @abstractmethod
    def told(self) -> str:
        """Say what is chosen, in one line."""

    @property
    def image(self) -> ImageId | None:
        """The image at what is being chosen, where the cursor belongs; None for none."""
        return self.top

    def move(self, image: ImageId) -> str:
        """Put what is being chosen on an image.

        Returns:
            Why that cannot be, in one line; empty when it was done.
        """
        del image
        return ""

    def marks(self) -> Mapping[ImageId, Mark]:
        """Give the words to put on boxes."""
        return {}

    def pointless(self) -> str:
        """Say why nothing would come of it, in one line; empty when there is something to plan."""
        return ""

    def label(self, image: ImageId | None) -> str:
        """Give the name of an image."""
        return self.graph[image].label if image is not None else "none"


class RangeChoice(Choice):
    """The range of a commit (base and top) or of a pull (base and image).

    Attributes:
        top: The uppermost image that a commit merges, or the image that a pull fills.
        base: The image below the range; None for a pull of everything.
        end: The end that is being chosen.
        keep_top: With a commit of an active layer: it stays as it is.
    """

    _TOPS: ClassVar[Mapping[type[Operation], Mark]] = {Commit: Mark.TOP, Pull: Mark.IMAGE}

    def __init__(self, graph: ChainGraph, kind: type[Commit | Pull], image: ImageId) -> None:
        """Start with a sensible range.

        Args:
            graph: The forest.
            kind: What is to be done.
            image: The image under the cursor, which has a backing file.
        """
        super().__init__(graph, image)
        self.kind = kind
        self.end = End.BASE
        self.base: ImageId | None = None
        self.keep_top = False
        if kind is Commit:
            self._default_commit(image)
        else:
            self._default_pull(image)

    @property
    def image(self) -> ImageId | None:
        """The image at the end that is being chosen; None for no base."""
        return self.base if self.end is End.BASE else self.top

    def operation(self) -> Operation:
        """Give what is asked for."""
        if self.kind is Commit and self.base is not None:
            return Commit(self.base, self.top, self.keep_top)
        return Pull(self.top, self.base)

    def told(self) -> str:
        """Say what is chosen, in one line."""
        top = self._TOPS[self.kind]
        base = f"base {self.label(self.base)}" if self.base is not None else "no base"
        choosing = "base" if self.end is End.BASE else top
        return f"{self.kind.name}  ·  {top} {self.label(self.top)}, {base}  ·  choosing the {choosing}"

    def marks(self) -> Mapping[ImageId, Mark]:
        """Give the words to put on the boxes at both ends."""
        words = {self.top: self._TOPS[self.kind]}
        return words if self.base is None else {self.base: Mark.BASE, **words}

    def switch(self) -> None:
        """Choose the other end."""
        self.end = End.TOP if self.end is End.BASE else End.BASE

    def toggle_base(self) -> None:
        """Switch a pull between everything and the chain's base."""
        self.base = self.graph.chain(self.top)[-1] if self.base is None else None
        self.end = End.BASE

    def move(self, image: ImageId) -> str:
        """Put the end that is being chosen on an image; give the reason when that cannot be."""
        return self.set_base(image) if self.end is End.BASE else self.set_top(image)

    def set_base(self, image: ImageId) -> str:
        """Make `image` the base; give the reason when it cannot be."""
        if image == self.top:
            return f"{self.label(image)} is the top of the range; the base lies below it"
        if self.graph.between(self.top, image) is None:
            return f"{self.label(image)} does not lie below {self.label(self.top)}"
        self.base = image
        return ""

    def set_top(self, image: ImageId) -> str:
        """Make `image` the top; a base that is not below it gives way to its backing file."""
        problem = range_fault(self.graph, image)
        if problem:
            return problem
        self.top = image
        if self.base is not None and self.graph.between(image, self.base) is None:
            self.base = self.graph.backing_of(image)
        return ""

    def _default_commit(self, image: ImageId) -> None:
        chain = self.graph.chain(image)
        if self.graph.is_active(image) and len(chain) > 2:
            self.top = chain[1]
        self.base = self._lowest_safe(self.top)

    def _lowest_safe(self, top: ImageId) -> ImageId | None:
        """Give the lowest base that no other branch reads through; the backing file when there is none."""
        chain = self.graph.chain(top)
        best = chain[1] if len(chain) > 1 else None
        if not self.graph.is_active(top) and len(self.graph.chain(top)) == 2:
            return best
        for image in chain[1:]:
            if len(self.graph.overlays_of(image)) > 1 or not self.graph[image].readable:
                break
            best = image
        return best

    def _default_pull(self, image: ImageId) -> None:
        chain = self.graph.chain(image)
        self.base = chain[-1] if len(chain) > 2 else None


class RebaseChoice(Choice):
    """The new backing file of an image: one of its own ancestors, any other image, or none.

    Attributes:
        top: The image.
        backing: Its new backing file, or None for none.
        unsafe: Whether the link alone is changed.
    """

    kind = Rebase

    def __init__(self, graph: ChainGraph, image: ImageId, given: Rebase | None = None) -> None:
        """Start with what gets rid of the backing file: the image is backed by what backs its backing file.

        Args:
            graph: The forest.
            image: The image under the cursor, a qcow2 image.
            given: A rebase of that image to start with; the name and the format that it records are kept with it.
        """
        super().__init__(graph, image)
        self._given = given
        self.backing = given.backing if given is not None else self._default()
        self.unsafe = given is not None and given.unsafe
        self._before = self.backing

    @property
    def image(self) -> ImageId | None:
        """The new backing file."""
        return self.backing

    def operation(self) -> Operation:
        """Give what is asked for."""
        given = self._given
        if given is not None and (given.backing, given.unsafe) == (self.backing, self.unsafe):
            return given
        return Rebase(self.top, self.backing, self.unsafe)

    def told(self) -> str:
        """Say what is chosen, in one line."""
        onto = f"onto {self.label(self.backing)}" if self.backing is not None else "onto no backing file"
        return f"rebase{' -u' if self.unsafe else ''}  ·  {self.label(self.top)} {onto}  ·  choosing the new base"

    def marks(self) -> Mapping[ImageId, Mark]:
        """Give the words to put on the image and on its new backing file."""
        words = {self.top: Mark.IMAGE}
        return words if self.backing is None else {self.backing: Mark.BASE, **words}

    def pointless(self) -> str:
        """Say that nothing would change, or that the old backing file is lost."""
        if self.operation() is self._given or self.backing != self.graph.backing_of(self.top):
            return ""
        name = self.label(self.top)
        if self.backing is None:
            return f"{name} has no backing file; o chooses one"
        if not self.graph[self.backing].readable:
            return (
                f"{self.label(self.backing)} cannot be read; o chooses another base, f in the forest finds a lost one"
            )
        return f"{name} is backed by {self.label(self.backing)} already; the arrows and o choose another base"

    def toggle_base(self) -> None:
        """Switch between no backing file and the one chosen before."""
        if self.backing is None:
            self.backing = self._before if self._before is not None else self.graph.backing_of(self.top)
        else:
            self._before, self.backing = self.backing, None

    def toggle_unsafe(self) -> None:
        """Change the link alone, or copy first what differs."""
        self.unsafe = not self.unsafe

    def move(self, image: ImageId) -> str:
        """Make an image the new backing file; give the reason when it cannot be."""
        problem = self._unfit(image)
        if not problem:
            self.backing = image
        return problem

    def candidates(self) -> tuple[ImageId, ...]:
        """Give every image that may be the new backing file: the image's own chain first."""
        own = self.graph.chain(self.top)[1:]
        return tuple(i for i in dict.fromkeys((*own, *self.graph)) if not self._unfit(i))

    def _unfit(self, image: ImageId) -> str:
        info = self.graph[image]
        if image == self.top:
            return f"{info.label} cannot be its own backing file"
        if self.top in self.graph.chain(image):
            return f"{info.label} is backed by {self.label(self.top)} itself"
        if not info.readable:
            return f"{info.label} cannot be read"
        if info.state is ImageState.INVALID:
            return f"{info.label} is invalid"
        return ""

    def _default(self) -> ImageId | None:
        chain = self.graph.chain(self.top)
        if len(chain) > 2 and not self._unfit(chain[2]):
            return chain[2]
        return None if len(chain) > 1 and self.graph[chain[1]].readable else self.graph.backing_of(self.top)


class SnapshotChoice(Choice):
    """A new overlay.

    Attributes:
        top: The image that backs it.
        overlay: The file that is to be made.
    """

    kind = Snapshot

    def __init__(self, graph: ChainGraph, image: ImageId, overlay: Path) -> None:
        """Take an image and the path of its new overlay."""
        super().__init__(graph, image)
        self.overlay = overlay

    def operation(self) -> Operation:
        """Give what is asked for."""
        return Snapshot(self.top, self.overlay)

    def told(self) -> str:
        """Say what is chosen, in one line."""
        return f"snapshot  ·  a new overlay on {self.label(self.top)}"


class DeleteChoice(Choice):
    """Images that are to be removed.

    Attributes:
        images: They.
    """

    kind = Delete

    def __init__(self, graph: ChainGraph, images: tuple[ImageId, ...]) -> None:
        """Take one image or several."""
        super().__init__(graph, images[0])
        self.images = images

    def operation(self) -> Operation:
        """Give what is asked for."""
        return Delete(self.images)

    def told(self) -> str:
        """Say what is chosen, in one line."""
        return f"delete  ·  {names([self.label(i) for i in self.images])}"


def choice_of(graph: ChainGraph, operation: Operation) -> Choice:
    """Give the choice that has been made already: an operation on the images of a graph."""
    if isinstance(operation, Rebase):
        return RebaseChoice(graph, operation.image, operation)
    if isinstance(operation, Snapshot):
        return SnapshotChoice(graph, operation.image, operation.overlay)
    if isinstance(operation, Delete):
        return DeleteChoice(graph, operation.images)
    choice = RangeChoice(graph, type(operation), operation.subject)
    choice.top, choice.base = operation.subject, operation.base
    choice.keep_top = isinstance(operation, Commit) and operation.keep_top
    return choice


def renewed(choice: Choice, graph: ChainGraph) -> Choice | None:
    """Give the same choice on a graph that was read anew; None when one of its images is gone."""
    operation = choice.operation()
    concerned = operation.images if isinstance(operation, Delete) else (operation.subject, operation.base)
    return choice_of(graph, operation) if all(i is None or i in graph for i in concerned) else None
