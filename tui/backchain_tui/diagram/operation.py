"""The scene of an operation: the figure's boxes, painted for a view, with its links and its data.

It is painted 15 times a second while data flows, and all that changes from one frame to the next are the colours of
the flows and the boxes of the images that are filled and drained. So links and boxes are painted once, each on a canvas
of its own that is kept; a frame puts them together. Only a box that shows something new is painted anew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backchain.operations import Commit, Delete
from backchain.pending import half_committed
from backchain_tui import formatting
from backchain_tui.badges import Badge
from backchain_tui.diagram.boxes import BoxPainter, Face, Rect, describe, resample
from backchain_tui.diagram.canvas import Canvas
from backchain_tui.diagram.figure import Figure, Placed, Stage
from backchain_tui.diagram.glyphs import EAST, WEST, GlyphSet
from backchain_tui.diagram.ink import Ink, Role, Tone
from backchain_tui.diagram.links import LinkPainter
from backchain_tui.diagram.streams import StreamPainter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from backchain.image import ImageId
    from backchain_tui.diagram.boxes import Sparkline
    from backchain_tui.diagram.layout import Zoom
    from backchain_tui.diagram.scene import View

_Cells = tuple["NDArray[np.int32]", "NDArray[np.int32]", "NDArray[np.uint32]", "NDArray[np.uint16]"]
"""Cells as `Canvas.scatter` takes them."""
_SPARK_CELLS = 64
"""Parts into which sparklines are brought before they are merged."""


class OperationScene:
    """An operation as laid out."""

    def __init__(self, figure: Figure, *, braille: bool, top: int = 0) -> None:
        """Trace the curves, once.

        Args:
            figure: The layout.
            braille: Whether curves are dots, or lines of ASCII.
            top: Rows left free above.
        """
        self._figure = figure
        self._top = top
        self.width = figure.width
        self.height = figure.height + top
        self._links = LinkPainter(figure, top)
        self._streams = StreamPainter(figure, top, braille=braille)
        self._lines: tuple[GlyphSet, frozenset[ImageId], _Cells] | None = None
        self._boxes: dict[int, tuple[tuple[object, ...], Canvas]] = {}
        self._faces: dict[tuple[Stage, ImageId], tuple[bool, Sparkline | None, Face]] = {}
        before, operation = figure.plan.before, figure.plan.operation
        done = (operation.top, operation.base) if isinstance(operation, Commit) else None
        self._mixed = {Stage.BEFORE: half_committed(before), Stage.AFTER: half_committed(before, done=done)}
        self._victims = {
            i for h in figure.plan.hazards if h.code == "sibling-corruption" for i in h.images
        } - {figure.plan.target, *figure.plan.sources}  # fmt: skip

    @property
    def zoom(self) -> Zoom:
        """Size of the boxes on the two rows."""
        return self._figure.zoom

    def at(self, x: int, y: int) -> tuple[ImageId, ...]:
        """Give the image whose box, on either row, holds a cell, or those left out there."""
        return self._figure.at(x, y - self._top)

    def rect(self, image: ImageId) -> Rect | None:
        """Give the place of the box on the upper row that stands for an image, alone or for those left out."""
        found = next((b for b in self._figure.boxes if image in b.images), None)
        return None if found is None else self._moved(found.rect)

    def boxed(self, image: ImageId) -> bool:
        """Say whether an image has a box of its own."""
        return any(b.image == image for b in self._figure.boxes)

    def images(self) -> tuple[ImageId, ...]:
        """Give the images with a box of their own on the upper row."""
        return tuple(b.image for b in self._figure.boxes if b.image is not None and b.stage is Stage.BEFORE)

    def paint(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        """Paint the part that the canvas shows."""
        figure = self._figure
        for x, first, last in figure.stays:
            for row in range(first, last):
                canvas.put(x, row + self._top, glyphs.stay, Ink.STAY)
            canvas.put(x, last + self._top, glyphs.heads[2], Ink.STAY)
        self._streams.paint(canvas, glyphs, view)
        canvas.scatter(*self._link_cells(glyphs, view.removed))
        for number, box in enumerate(figure.boxes):
            rect = self._moved(box.rect)
            if not canvas.sees(rect.x - 1, rect.y, rect.width + 8, rect.height):
                continue
            if box.image is None:
                self._paint_ghost(canvas, glyphs, box, rect)
                continue
            face, tone = self._face(box, box.image, view, glyphs)
            mark = view.marks.get(box.image, "") if box.stage is Stage.BEFORE else ""
            self._paint_box(canvas, number, glyphs, (rect, box.zoom, face, tone, mark))
        for x, y, text in figure.labels:
            canvas.put(x, y + self._top, text, Ink.STAGE)

    # --- links ----------------------------------------------------------------------------------------------------

    def _link_cells(self, glyphs: GlyphSet, removed: frozenset[ImageId]) -> _Cells:
        """Give the cells of all links and the words along them."""
        if self._lines is None or self._lines[0] is not glyphs or self._lines[1] != removed:
            canvas = Canvas(self.width, self.height)
            self._links.paint(canvas, glyphs, removed)
            self._lines = glyphs, removed, canvas.written()
        return self._lines[2]

    # --- boxes ----------------------------------------------------------------------------------------------------

    def _paint_box(
        self, canvas: Canvas, number: int, glyphs: GlyphSet, shown: tuple[Rect, Zoom, Face, Tone, str]
    ) -> None:  # fmt: skip
        """Paint box `number`, from what was kept of it when it looks the same (arguments of `BoxPainter.paint`)."""
        rect = shown[0]
        if not canvas.holds(rect.x, rect.y, rect.width, rect.height):
            BoxPainter(canvas, glyphs).paint(*shown)
            return
        kept = self._boxes.get(number)
        if kept is None or kept[0] != (glyphs, *shown):
            kept = (glyphs, *shown), Canvas(rect.width, rect.height, rect.x, rect.y)
            BoxPainter(kept[1], glyphs).paint(*shown)
            self._boxes[number] = kept
        canvas.paste(kept[1])

    def _plain_face(self, stage: Stage, image: ImageId, view: View) -> Face:
        """Give what a box shows before a job comes into it."""
        in_use, spark = image in view.in_use, view.sparklines.get(image)
        kept = self._faces.get((stage, image))
        if kept is None or kept[0] != in_use or kept[1] is not spark:
            plan = self._figure.plan
            graph = plan.before if stage is Stage.BEFORE or image not in plan.after else plan.after
            mixed = image in self._mixed[stage]
            kept = in_use, spark, describe(graph, image, in_use=in_use, mixed=mixed, spark=spark)
            self._faces[stage, image] = kept
        return kept[2]

    def _moved(self, rect: Rect) -> Rect:
        return replace(rect, y=rect.y + self._top)

    def _face(self, box: Placed, image: ImageId, view: View, glyphs: GlyphSet) -> tuple[Face, Tone]:
        plan = self._figure.plan
        face = self._plain_face(box.stage, image, view)
        tone = view.tone(image)
        if box.stage is Stage.BEFORE:
            return face, Tone.FADED if view.settled and tone is not Tone.CURSOR else tone
        if image in view.removed or (isinstance(plan.operation, Delete) and image in plan.operation.images):
            face = replace(face, role=Role.INVALID, badge=Badge.DELETED)
        elif image == plan.emptied:
            face = self._drained(face, view)
        elif image in plan.invalidated:
            face = replace(face, role=Role.INVALID, badge=Badge.INVALID)
        elif image in plan.removable:
            face = replace(face, role=Role.UNNEEDED, badge=Badge.UNNEEDED)
        elif image == plan.target and image in plan.before:
            face = self._filled(face, view, glyphs)
        elif image == plan.target and view.size is None:
            face = replace(face, size=glyphs.bound + face.size)
        elif image == plan.target:
            face = replace(face, size=formatting.short_size(view.size))
        if image in self._victims:
            return face, Tone.BLAST
        stands = face.role not in {Role.INVALID, Role.UNNEEDED}
        return face, Tone.LIT if tone is Tone.CURSOR and stands else Tone.PLAIN

    def _filled(self, face: Face, view: View, glyphs: GlyphSet) -> Face:
        """Show the target with what has arrived: all of it in a preview."""
        plan = self._figure.plan
        info = plan.before[plan.target]
        spark = face.spark
        for copy in plan.copies:
            other = view.sparklines.get(copy.source)
            if spark is not None and other is not None and copy.source != plan.target and copy.clusters:
                spark = _merge(spark, other, 1.0 if view.progress is None else view.progress.get(copy.source, 0.0))
        if info.disk_size is None:
            return replace(face, spark=spark)
        size = view.size
        if size is None:
            size = info.disk_size + int(plan.growth_bytes * self._progress(view))
        share = min(size / info.virtual_size, 1.0) if info.virtual_size else None
        bound = glyphs.bound if plan.growth_bytes and view.progress is None and view.size is None else ""
        return replace(face, spark=spark, share=share, size=bound + formatting.short_size(size))

    def _drained(self, face: Face, view: View) -> Face:
        """Show the active layer that a commit empties."""
        left = 1.0 - self._progress(view)
        spark = None if face.spark is None else [v * left for v in face.spark]
        share = None if face.share is None else face.share * left
        return replace(face, spark=spark, share=share, size=face.size if left else "emptied")

    def _progress(self, view: View) -> float:
        plan = self._figure.plan
        if view.progress is None or view.settled:
            return 1.0
        done = sum(c.clusters * view.progress.get(c.source, 0.0) for c in plan.copies)
        return done / plan.clusters if plan.clusters else 1.0

    def _paint_ghost(self, canvas: Canvas, glyphs: GlyphSet, box: Placed, rect: Rect) -> None:
        count, dots = len(box.images), glyphs.ellipsis
        texts = (f"{dots} {count} more {dots}", f"{dots}{count} more{dots}", f"{count} more", f"+{count}")
        text = next((t for t in texts if len(t) <= rect.width - 2), dots)  # a piece of the line stays on either side
        gone = box.stage is Stage.AFTER and set(box.images) <= set(self._figure.plan.invalidated)
        line = glyphs.dashed.horizontal if gone else glyphs.light[EAST | WEST]
        canvas.put(rect.x, rect.middle, line * rect.width, Ink.LINK_FAINT)
        canvas.put(rect.x + (rect.width - len(text) + 1) // 2, rect.middle, text, Ink.GHOST)


def _merge(spark: Sparkline, other: Sparkline, share: float) -> list[float]:
    """Add another image's clusters to a sparkline, as far as they have been copied (in order of the disk)."""
    one, two = resample(spark, _SPARK_CELLS), resample(other, _SPARK_CELLS)
    arrived = round(share * _SPARK_CELLS)
    return [a + b - a * b if n < arrived else a for n, (a, b) in enumerate(zip(one, two, strict=True))]
