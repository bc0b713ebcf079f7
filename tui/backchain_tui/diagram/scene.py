"""What the widget shows: a scene is a layout that can paint itself on a canvas, given a view of it.

The view holds everything that changes while a layout stands: the cursor, what is lit, a job's progress, the phase.
The same scene and view always give the same cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from backchain.pending import half_committed
from backchain_tui.diagram.boxes import BoxPainter, Face, Rect, Sparkline, describe
from backchain_tui.diagram.glyphs import EAST, GlyphSet
from backchain_tui.diagram.ink import Ink, Tone
from backchain_tui.diagram.layout import LOOP_ROWS, Layout, Zoom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain_tui.diagram.canvas import Canvas

FAINT, PLAIN, NEW, LIT, BLAST = 1, 2, 3, 4, 5
"""Levels of a link on a canvas; the higher wins where links meet."""
LINK_INKS = (Ink.BLANK, Ink.LINK_FAINT, Ink.LINK, Ink.RELINK, Ink.LINK_LIT, Ink.LINK_BLAST)
"""Ink per level."""


@dataclass(frozen=True)
class View:
    """What is shown of a scene at one moment.

    Attributes:
        cursor: The image under the cursor.
        lit: Images that are lit: the cursor's ancestry.
        blast: Images that would break if the cursor's image changed; empty unless that is asked for.
        marks: Word on a box's border, such as "base" or "top".
        in_use: Images that another process holds open.
        sparklines: Allocated clusters per image.
        progress: Share copied per source, 0.0 to 1.0, or None while no job runs.
        phase: Where the moving colours stand, in pulses.
        busy: Whether data moves just now.
        settled: Whether the job is done.
        pending: Whether it is still being found out what is to be copied.
        removed: Images that were removed after the job.
        size: Bytes that the target takes on disk after the job; None when nobody has looked.
    """

    cursor: ImageId | None = None
    lit: frozenset[ImageId] = frozenset()
    blast: frozenset[ImageId] = frozenset()
    marks: Mapping[ImageId, str] = field(default_factory=dict)
    in_use: frozenset[ImageId] = frozenset()
    sparklines: Mapping[ImageId, Sparkline] = field(default_factory=dict)
    progress: Mapping[ImageId, float] | None = None
    phase: float = 0.0
    busy: bool = True
    settled: bool = False
    pending: bool = False
    removed: frozenset[ImageId] = frozenset()
    size: int | None = None

    def tone(self, image: ImageId) -> Tone:
        """Say how the box of an image stands out."""
        if image == self.cursor:
            return Tone.CURSOR
        if image in self.blast:
            return Tone.BLAST
        return Tone.LIT if image in self.lit else Tone.PLAIN


class Scene(Protocol):
    """A picture of `width` x `height` cells."""

    width: int
    height: int

    @property
    def zoom(self) -> Zoom:
        """Size of the boxes; never AUTO."""

    def paint(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        """Paint the part that the canvas shows."""

    def at(self, x: int, y: int) -> tuple[ImageId, ...]:
        """Give the image whose box holds a cell, or those that were left out there; nothing beside boxes."""

    def rect(self, image: ImageId) -> Rect | None:
        """Give the place of the box that stands for an image, alone or for several; None when there is none."""

    def boxed(self, image: ImageId) -> bool:
        """Say whether an image has a box of its own."""

    def images(self) -> tuple[ImageId, ...]:
        """Give the images with a box of their own."""


class ForestScene:
    """A forest as laid out."""

    def __init__(self, graph: ChainGraph, layout: Layout) -> None:
        self._graph = graph
        self._layout = layout
        self._middle = layout.middle
        self._loops = frozenset().union(*graph.loops()) if layout.placement.back_edges else frozenset()
        self._mixed = half_committed(graph)
        parent = layout.placement.parent
        self._families = np.unique(parent[parent >= 0])
        self._faces: dict[ImageId, tuple[bool, Sparkline | None, Face]] = {}
        self.width = layout.width
        self.height = layout.height

    @property
    def zoom(self) -> Zoom:
        """Size of the boxes."""
        return self._layout.metrics.zoom

    def at(self, x: int, y: int) -> tuple[ImageId, ...]:
        """Give the image whose box holds a cell, or nothing."""
        image = self._layout.at(x, y)
        return () if image is None else (image,)

    def rect(self, image: ImageId) -> Rect | None:
        """Give the place of an image's box."""
        number = self._layout.placement.index.get(image)
        return None if number is None else self._rect(number)

    def boxed(self, image: ImageId) -> bool:
        """Say whether an image has a box."""
        return image in self._layout.placement.index

    def images(self) -> tuple[ImageId, ...]:
        """Give every image."""
        return self._layout.placement.images

    def paint(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        """Paint the part that the canvas shows."""
        self._links(canvas, glyphs, view)
        painter = BoxPainter(canvas, glyphs)
        metrics = self._layout.metrics
        x, y = self._layout.x, self._layout.y
        visible = (
            (x < canvas.left + canvas.width) & (x + metrics.width > canvas.left)
            & (y < canvas.top + canvas.height) & (y + metrics.height > canvas.top)
        )  # fmt: skip
        for number in np.flatnonzero(visible).tolist():
            image = self._layout.placement.images[number]
            painter.paint(
                self._rect(number), metrics.zoom, self._face(image, view), view.tone(image), view.marks.get(image, "")
            )

    def _face(self, image: ImageId, view: View) -> Face:
        """Give what a box shows; kept, as most boxes stay the same from one painting to the next."""
        in_use, spark = image in view.in_use, view.sparklines.get(image)
        kept = self._faces.get(image)
        if kept is None or kept[0] != in_use or kept[1] is not spark:
            in_loop, mixed = image in self._loops, image in self._mixed
            face = describe(self._graph, image, in_use=in_use, in_loop=in_loop, mixed=mixed, spark=spark)
            kept = self._faces[image] = (in_use, spark, face)
        return kept[2]

    def _rect(self, number: int) -> Rect:
        metrics = self._layout.metrics
        return Rect(int(self._layout.x[number]), int(self._layout.y[number]), metrics.width, metrics.height)

    def _links(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        levels = self._levels(view)
        right = self._layout.x + self._layout.metrics.width
        trunk = right + self._layout.metrics.gap_x // 2
        parent, middle = self._layout.placement.parent, self._middle
        self._trunks(canvas, trunk, levels)
        self._stubs(canvas, right, trunk, levels)
        for child, backing in self._layout.placement.back_edges:
            self._back_edge(canvas, child, backing)
        canvas.finish_lines(glyphs, LINK_INKS, LIT)
        best = np.zeros(len(parent) + 1, np.int64)
        np.maximum.at(best, parent, levels)
        row, column = middle - canvas.top, right - canvas.left
        seen = (best[:-1] > 0) & (row >= 0) & (row < canvas.height) & (column >= 0) & (column < canvas.width)
        for number in np.flatnonzero(seen).tolist():
            canvas.put(int(right[number]), int(middle[number]), glyphs.heads[0], LINK_INKS[int(best[number])])
        for _, backing in self._layout.placement.back_edges:
            rect = self._rect(backing)
            canvas.put(rect.right - 3, rect.y - 1, glyphs.heads[2], Ink.LINK_LOOP)

    def _levels(self, view: View) -> NDArray[np.int64]:
        """Give the level of each image's link to its backing file; int64, shape (n,)."""
        levels = np.full(len(self._layout.placement.images), PLAIN, np.int64)
        index = self._layout.placement.index
        for image in view.lit | view.blast:
            number = index.get(image)
            if number is None:
                continue
            levels[number] = BLAST if image in view.blast else LIT
        return levels

    def _trunks(self, canvas: Canvas, trunk: NDArray[np.int32], levels: NDArray[np.int64]) -> None:
        """Draw the vertical line that the overlays of an image share, down to the last, once per level."""
        parent, middle = self._layout.placement.parent, self._middle
        for level in (PLAIN, LIT, BLAST):
            child = np.flatnonzero((parent >= 0) & (levels == level))
            last = middle.copy()
            np.maximum.at(last, parent[child], middle[child])
            column = trunk - canvas.left
            seen = (last > middle) & (column >= 0) & (column < canvas.width)
            seen &= (last >= canvas.top) & (middle < canvas.top + canvas.height)
            for number in np.flatnonzero(seen).tolist():
                canvas.vertical(int(trunk[number]), int(middle[number]), int(last[number]), level)

    def _stubs(
        self, canvas: Canvas, right: NDArray[np.int32], trunk: NDArray[np.int32], levels: NDArray[np.int64]
    ) -> None:
        """Draw the horizontal lines: from each backing file to its trunk, and from there to each overlay."""
        parent, middle, x = self._layout.placement.parent, self._middle, self._layout.x
        row = middle - canvas.top
        child = np.flatnonzero((parent >= 0) & (row >= 0) & (row < canvas.height))
        backing = parent[child]
        near = (x[child] > canvas.left) & (right[backing] < canvas.left + canvas.width)
        for number, file in zip(child[near].tolist(), backing[near].tolist(), strict=True):
            level = int(levels[number])
            canvas.horizontal(int(trunk[file]), int(x[number]) - 1, int(middle[number]), level)
            canvas.arm(int(x[number]) - 1, int(middle[number]), EAST, level)
        families = self._families
        shown = (row[families] >= 0) & (row[families] < canvas.height)
        best = np.zeros(len(parent) + 1, np.int64)
        np.maximum.at(best, parent, levels)
        for file in families[shown].tolist():
            canvas.horizontal(int(right[file]), int(trunk[file]), int(middle[file]), int(best[file]))

    def _back_edge(self, canvas: Canvas, child: int, backing: int) -> None:
        """Draw the link that closes a loop, above the loop's boxes."""
        first, last = self._rect(child), self._rect(backing)
        start, end, row = first.x + 2, last.right - 3, first.y - LOOP_ROWS
        canvas.horizontal(start, end, row, BLAST)
        canvas.vertical(start, row, first.y - 1, BLAST)
        canvas.vertical(end, row, last.y - 1, BLAST)
