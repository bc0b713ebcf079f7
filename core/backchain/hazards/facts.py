"""What the detectors look at, and words that they share."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.image import ImageState
from backchain.operations import Rebase
from backchain.pausing import go_on
from backchain.plan import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Transferring
    from backchain.pausing import Pause
    from backchain.plan import Relink
    from backchain.shapes import Shape

BLOCK, CONFIRM, WARN = Severity.BLOCK, Severity.CONFIRM, Severity.WARN

_MOST_NAMES = 8
"""Names that a message lists at most."""

LOST = frozenset({ImageState.MISSING, ImageState.UNREADABLE})
"""States of an image that cannot be read at all."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the detectors look at: the graph, what is asked for, the images concerned, and the links to be written.

    Those that read much call `pause` between reads.
    """

    graph: ChainGraph
    operation: Transferring
    shape: Shape
    relinks: tuple[Relink, ...]
    pause: Pause = go_on

    @property
    def view(self) -> tuple[ImageId, ...]:
        """The chain whose view is kept, top first."""
        return self.shape.view

    @property
    def target(self) -> ImageId:
        """The image that receives data."""
        return self.shape.target

    @property
    def sources(self) -> tuple[ImageId, ...]:
        """The images whose data moves, topmost first."""
        return self.shape.sources

    @property
    def link_only(self) -> ImageId | None:
        """The image whose link alone is changed (an unsafe rebase), whatever the old one is worth."""
        return self.target if isinstance(self.operation, Rebase) and self.operation.unsafe else None

    def names(self, images: Iterable[ImageId]) -> str:
        """List images for a message, safe to print."""
        return names(self.graph, images)


def names(graph: ChainGraph, images: Iterable[ImageId]) -> str:
    """List images for a message, safe to print; a long list is cut short."""
    every = [graph[i].name for i in images]
    more = len(every) - _MOST_NAMES
    return ", ".join(every) if more <= 0 else ", ".join(every[:_MOST_NAMES]) + f" and {more} more"


def unwritable(path: Path, way_out: str = "change its permissions") -> str:
    """Say of a file or folder that cannot be written why, and what to do."""
    with suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "is on a file system that is mounted read-only; mount it for writing (mount -o remount,rw)"
    return f"cannot be written by this user; {way_out}"
