"""The layout of an operation, as in the two figures: the chain before, the chain after, and what runs between them.

Values alone; `backchain_tui.diagram.staging` makes them. The images concerned stand in columns, base at the left, on a
row BEFORE and again on a row AFTER.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backchain.image import ImageId
    from backchain.plan import Plan
    from backchain_tui.diagram.boxes import Rect
    from backchain_tui.diagram.ink import FlowKind
    from backchain_tui.diagram.layout import Zoom


CLEAR_OF_LABEL = len("AFTER") + 2
"""Columns from the start of a row's label to what may be written behind it."""


class Stage(IntEnum):
    """The two rows."""

    BEFORE = 0
    AFTER = 1


@dataclass(frozen=True, slots=True)
class Placed:
    """A box of the figure; `images` holds one image, or those left out."""

    images: tuple[ImageId, ...]
    stage: Stage
    rect: Rect
    zoom: Zoom

    @property
    def image(self) -> ImageId | None:
        """The image, or None when the box stands for several."""
        return self.images[0] if len(self.images) == 1 else None


@dataclass(frozen=True, slots=True)
class Wire:
    """A link from an overlay's box to its backing file's box, both numbers into `Figure.boxes`."""

    overlay: int
    backing: int


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the data of one source runs.

    Attributes:
        images: The source, or the sources left out that share it.
        clusters: What they contribute.
        x0, y0, x1, y1: First cell below the source, and the cell of the arrow head above the target.
        lane: Height of its level stretch, 0.0 to 1.0.
    """

    images: tuple[ImageId, ...]
    clusters: int
    x0: int
    y0: int
    x1: int
    y1: int
    lane: float


@dataclass(frozen=True, slots=True)
class Figure:
    """An operation on the grid.

    Attributes:
        plan: What is shown.
        kind: Which way the data runs.
        zoom: Zoom of the boxes on the two rows.
        boxes: Every box.
        wires: Links as they were and are, and that of an image that is made.
        arcs: Links over boxes that stand in between: above the upper row, and below `channel`.
        relinks: Links that are new; drawn along `channel`.
        notes: Words to stand in `channel` below a box (its number, text).
        stays: Dotted lines (x, first row, last row) of images that stay as they are.
        streams: The ways of the data.
        gap: First row between the upper and the lower boxes, and the row of the arrow heads above the lower ones.
        channel: Row of the new links.
        labels: Words (x, y, text) naming the rows.
        width, height: Size of the picture.
    """

    plan: Plan
    kind: FlowKind
    zoom: Zoom
    boxes: tuple[Placed, ...]
    wires: tuple[Wire, ...]
    arcs: tuple[Wire, ...]
    relinks: tuple[Wire, ...]
    notes: tuple[tuple[int, str], ...]
    stays: tuple[tuple[int, int, int], ...]
    streams: tuple[Stream, ...]
    gap: tuple[int, int]
    channel: int
    labels: tuple[tuple[int, int, str], ...]
    width: int
    height: int

    def at(self, x: int, y: int) -> tuple[ImageId, ...]:
        """Give the image whose box (on either row) holds a cell, or those left out there; nothing beside boxes."""
        return next((b.images for b in self.boxes if b.rect.holds(x, y)), ())
