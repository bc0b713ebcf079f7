"""What an operation is to be, as chosen so far. No Textual here.

A choice always is one that makes sense; whatever does not is refused with the reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from backchain.operations import Commit, Pull

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def marks(self) -> Mapping[ImageId, str]:
        """Give the words to put on boxes."""
        return {}

    def label(self, image: ImageId | None) -> str:
        """Give the name of an image."""
        return self.graph[image].label if image is not None else "none"


class RangeChoice(Choice):
    """The range of a commit (base and top) or of a pull (base and image).

    Attributes:
        top: The uppermost image that a commit merges, or the image that a pull fills.
        base: The image below the range; None for a pull of everything.
        end: The end that is being chosen.
    """

    _TOPS: ClassVar[Mapping[type[Operation], str]] = {Commit: "top", Pull: "image"}

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
            return Commit(self.base, self.top)
        return Pull(self.top, self.base)

    def told(self) -> str:
        """Say what is chosen, in one line."""
        top = self._TOPS[self.kind]
        base = f"base {self.label(self.base)}" if self.base is not None else "no base"
        choosing = "base" if self.end is End.BASE else top
        return f"{self.kind.name}  ·  {top} {self.label(self.top)}, {base}  ·  choosing the {choosing}"

    def marks(self) -> Mapping[ImageId, str]:
        """Give the words to put on the boxes at both ends."""
        words = {self.top: self._TOPS[self.kind]}
        return words if self.base is None else {self.base: "base", **words}

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
        if not self.graph[image].readable:
            return f"{self.label(image)} cannot be read"
        backing = self.graph.backing_of(image)
        if backing is None:
            return f"{self.label(image)} has no backing file"
        self.top = image
        if self.base is not None and self.graph.between(image, self.base) is None:
            self.base = backing
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
