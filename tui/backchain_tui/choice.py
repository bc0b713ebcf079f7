"""The range of an operation on a chain: base and top of a commit, image and base of a pull. No Textual here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backchain.operations import Commit, Pull

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation


class End(StrEnum):
    """The two ends of a range."""

    BASE = "base"
    TOP = "top"


class Choice:
    """The range as chosen so far; it always is one that makes sense.

    Attributes:
        kind: `Commit` or `Pull`.
        top: The uppermost image that a commit merges, or the image that a pull fills.
        base: The image below the range; None for a pull of everything.
        end: The end that is being chosen.
    """

    def __init__(self, graph: ChainGraph, kind: type[Commit | Pull], image: ImageId) -> None:
        """Start with a sensible range.

        Args:
            graph: The forest.
            kind: What is to be done.
            image: The image under the cursor, which has a backing file.
        """
        self.graph = graph
        self.kind = kind
        self.end = End.BASE
        self.top = image
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

    def switch(self) -> None:
        """Choose the other end."""
        self.end = End.TOP if self.end is End.BASE else End.BASE

    def toggle_base(self) -> None:
        """Switch a pull between everything and the chain's base."""
        self.base = self.graph.chain(self.top)[-1] if self.base is None else None
        self.end = End.BASE

    def move(self, image: ImageId) -> str:
        """Put the end that is being chosen on an image.

        Returns:
            Why that cannot be, in one line; empty when it was done.
        """
        return self.set_base(image) if self.end is End.BASE else self.set_top(image)

    def set_base(self, image: ImageId) -> str:
        """Make `image` the base; give the reason when it cannot be."""
        if image == self.top:
            return f"{self._label(image)} is the top of the range; the base lies below it"
        if self.graph.between(self.top, image) is None:
            return f"{self._label(image)} does not lie below {self._label(self.top)}"
        self.base = image
        return ""

    def set_top(self, image: ImageId) -> str:
        """Make `image` the top; a base that is not below it gives way to its backing file."""
        if not self.graph[image].readable:
            return f"{self._label(image)} cannot be read"
        backing = self.graph.backing_of(image)
        if backing is None:
            return f"{self._label(image)} has no backing file"
        self.top = image
        if self.base is not None and self.graph.between(image, self.base) is None:
            self.base = backing
        return ""

    def _label(self, image: ImageId) -> str:
        return self.graph[image].label

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
