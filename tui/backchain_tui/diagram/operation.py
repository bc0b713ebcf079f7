"""The scene of an operation: the figure's boxes, links and flows, painted for a view."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backchain_tui import formatting
from backchain_tui.diagram.boxes import BoxPainter, Face, Rect, describe, resample
from backchain_tui.diagram.figure import Figure, Placed, Stage, Stream, Wire
from backchain_tui.diagram.flows import Flow, Span, trace
from backchain_tui.diagram.glyphs import EAST, NORTH, WEST, GlyphSet
from backchain_tui.diagram.ink import FlowKind, Ink, Role, Tone
from backchain_tui.diagram.measure import shorten
from backchain_tui.diagram.scene import FAINT, LINK_INKS, LIT, PLAIN, View

if TYPE_CHECKING:
    from backchain.image import ImageId
    from backchain_tui.diagram.boxes import Sparkline
    from backchain_tui.diagram.canvas import Canvas
    from backchain_tui.diagram.layout import Zoom

_SPARK_CELLS = 64
"""Parts into which sparklines are brought before they are merged."""
_THICK_SHARE = 0.34
"""A source with at least this share of the clusters has a thicker curve."""


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
        total = max(figure.plan.clusters, 1)
        self._flows = [(s, self._trace(s, total, braille=braille)) for s in figure.streams]
        self._label = self._place_label()
        self._victims = {
            i for h in figure.plan.hazards if h.code == "sibling-corruption" for i in h.images
        } - {figure.plan.target, *figure.plan.sources}  # fmt: skip

    @property
    def zoom(self) -> Zoom:
        """Size of the boxes on the two rows."""
        return self._figure.zoom

    def at(self, x: int, y: int) -> ImageId | None:
        """Give the image whose box, on either row, holds a cell, or None."""
        return self._figure.at(x, y - self._top)

    def rect(self, image: ImageId) -> Rect | None:
        """Give the place of an image's box on the upper row."""
        found = next((b for b in self._figure.boxes if b.image == image), None)
        return None if found is None else self._moved(found.rect)

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
        self._paint_flows(canvas, glyphs, view)
        self._paint_links(canvas, glyphs)
        self._paint_relinks(canvas, glyphs)
        painter = BoxPainter(canvas, glyphs)
        for box in figure.boxes:
            rect = self._moved(box.rect)
            if not canvas.sees(rect.x - 1, rect.y, rect.width + 8, rect.height):
                continue
            if box.image is None:
                self._paint_ghost(canvas, glyphs, box, rect)
                continue
            face, tone = self._face(box, box.image, view, glyphs)
            mark = view.marks.get(box.image, "") if box.stage is Stage.BEFORE else ""
            painter.paint(rect, box.zoom, face, tone, mark)
        for x, y, text in figure.labels:
            canvas.put(x, y + self._top, text, Ink.STAGE)

    # --- boxes ----------------------------------------------------------------------------------------------------

    def _moved(self, rect: Rect) -> Rect:
        return replace(rect, y=rect.y + self._top)

    def _face(self, box: Placed, image: ImageId, view: View, glyphs: GlyphSet) -> tuple[Face, Tone]:
        plan = self._figure.plan
        graph = plan.before if box.stage is Stage.BEFORE or image not in plan.after else plan.after
        face = describe(graph, image, in_use=image in view.in_use, spark=view.sparklines.get(image))
        tone = view.tone(image)
        if box.stage is Stage.BEFORE:
            return face, Tone.FADED if view.settled and tone is not Tone.CURSOR else tone
        if image == plan.emptied:
            face = self._drained(face, view)
        elif image in plan.invalidated:
            face = replace(face, role=Role.INVALID, badge="INVALID")
        elif image in plan.removable:
            face = replace(face, role=Role.UNNEEDED, badge="UNNEEDED")
        elif image == plan.target:
            face = self._filled(face, view, glyphs)
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
        size = info.disk_size + int(plan.growth_bytes * self._progress(view))
        share = min(size / info.virtual_size, 1.0) if info.virtual_size else None
        bound = glyphs.bound if plan.growth_bytes and view.progress is None else ""
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
        texts = (f"{dots} {count} more {dots}", f"{dots}{count} more{dots}", f"{dots}{count}{dots}", f"+{count}")
        text = next((t for t in texts if len(t) <= rect.width), dots)
        gone = box.stage is Stage.AFTER and set(box.images) <= set(self._figure.plan.invalidated)
        line = glyphs.dashed.horizontal if gone else glyphs.light[EAST | WEST]
        canvas.put(rect.x, rect.middle, line * rect.width, Ink.LINK_FAINT)
        canvas.put(rect.x + (rect.width - len(text) + 1) // 2, rect.middle, text, Ink.GHOST)

    # --- links ----------------------------------------------------------------------------------------------------

    def _paint_links(self, canvas: Canvas, glyphs: GlyphSet) -> None:
        plan = self._figure.plan
        heads: list[tuple[int, int, int]] = []
        for wire in self._figure.wires:
            overlay, backing = (self._figure.boxes[n] for n in (wire.overlay, wire.backing))
            gone = overlay.stage is Stage.AFTER and overlay.image in plan.removable
            level = FAINT if gone else PLAIN
            child, file = self._moved(overlay.rect), self._moved(backing.rect)
            trunk = child.x - 1 - (child.x - file.right) // 2
            canvas.horizontal(file.right, trunk, file.middle, level)
            canvas.vertical(trunk, min(file.middle, child.middle), max(file.middle, child.middle), level)
            canvas.horizontal(trunk, child.x - 1, child.middle, level)
            canvas.arm(child.x - 1, child.middle, EAST, level)
            heads.append((file.right, file.middle, level))
        canvas.finish_lines(glyphs, LINK_INKS, LIT)
        for x, y, level in sorted(heads, key=lambda h: h[2]):
            canvas.put(x, y, glyphs.heads[0], LINK_INKS[level])

    def _paint_relinks(self, canvas: Canvas, glyphs: GlyphSet) -> None:
        figure = self._figure
        row = figure.channel + self._top
        ends = [self._paint_relink(canvas, wire, row) for wire in figure.relinks]
        canvas.finish_lines(glyphs, (Ink.BLANK, Ink.RELINK), 9)
        for start, _ in ends:
            canvas.put(start, row, glyphs.heads[1], Ink.RELINK)
        if ends:
            start, end = max(ends, key=lambda e: e[1] - e[0])
            text = next((t for t in (" new backing file ", " new link ") if len(t) + 4 <= end - start), "")
            canvas.put(start + 1 + (end - start - len(text)) // 2, row, text, Ink.RELINK_LABEL)
        if figure.detached is not None:
            rect = self._moved(figure.boxes[figure.detached].rect)
            text = shorten("no backing file: stands alone", figure.width - 2)
            x = max(8, min(rect.center - len(text) // 2, figure.width - len(text) - 2))
            canvas.put(x, row, text, Ink.RELINK_LABEL)

    def _paint_relink(self, canvas: Canvas, wire: Wire, row: int) -> tuple[int, int]:
        """Draw a new link along its channel; give the channel's columns."""
        child, file = (self._moved(self._figure.boxes[n].rect) for n in (wire.overlay, wire.backing))
        label = self._figure.labels[0][0] + 6
        start = min(max(file.center, label), file.right - 2)
        if child.y < row:
            canvas.horizontal(start, child.center, row, 1)
            canvas.arm(child.center, row, NORTH, 1)
            return start, child.center
        trunk = child.x - 2
        canvas.horizontal(start, trunk, row, 1)
        canvas.vertical(trunk, row, child.middle, 1)
        canvas.horizontal(trunk, child.x - 1, child.middle, 1)
        canvas.arm(child.x - 1, child.middle, EAST, 1)
        return start, trunk

    # --- data -----------------------------------------------------------------------------------------------------

    def _trace(self, stream: Stream, total: int, *, braille: bool) -> Flow:
        share = stream.clusters / total
        thickness = 1 if not stream.clusters else 3 if share >= _THICK_SHARE else 2
        span = Span(
            stream.x0, stream.y0 + self._top, stream.x1, stream.y1 + self._top, stream.lane, thickness
        )  # fmt: skip
        return trace(stream.images[0], self._figure.kind, share, span, braille=braille)

    def _paint_flows(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        commit = self._figure.kind is FlowKind.COMMIT
        head_ink = Ink.HEAD_COMMIT if commit else Ink.HEAD_STREAM
        ordered = sorted(self._flows, key=lambda f: f[0].clusters)
        for stream, flow in ordered:
            progress = self._stream_progress(stream, view)
            canvas.scatter(flow.x, flow.y, flow.glyphs, flow.inks(view.phase, progress, busy=view.busy))
        for stream, flow in ordered:
            done = (self._stream_progress(stream, view) or 0.0) >= 1.0
            ink = Ink.LINK_FAINT if flow.thin else Ink.HEAD_DONE if done else head_ink
            canvas.put(*flow.head, glyphs.heads[2], ink)
        if self._label is not None:
            x, y, text = self._label
            ink = Ink.LABEL_DONE if view.settled else Ink.LABEL_COMMIT if commit else Ink.LABEL_STREAM
            words = " committed " if commit else " streamed "
            canvas.put(x, y, words.center(len(text)) if view.settled else text, ink)

    def _stream_progress(self, stream: Stream, view: View) -> float | None:
        if view.settled:
            return 1.0
        if view.progress is None:
            return None
        amount = {c.source: c.clusters for c in self._figure.plan.copies}
        total = sum(amount[i] for i in stream.images)
        return sum(view.progress.get(i, 0.0) * amount[i] for i in stream.images) / total if total else 0.0

    def _place_label(self) -> tuple[int, int, str] | None:
        """Find the place for the flows' label that covers the least, near the middle of the flows."""
        if not self._flows:
            return None
        figure = self._figure
        text = " commit data " if figure.kind is FlowKind.COMMIT else " stream data "
        if not figure.plan.clusters:
            text = " nothing to copy "
        first = min(s.y0 for s in figure.streams) + self._top
        rows = max(s.y1 for s in figure.streams) + self._top - first
        width = figure.width
        if width < len(text) + 2 or rows < 1:
            return None
        taken = np.zeros((rows, width + 1), np.float64)
        for _, flow in self._flows:
            inside = (flow.x >= 0) & (flow.x < width)
            taken[flow.y[inside] - first, flow.x[inside]] += 1.0
        for x, _, _ in figure.stays:
            taken[:, x] += 4.0
        cover = np.cumsum(np.concatenate([np.zeros((rows, 1)), taken], axis=1), axis=1)
        size = len(text)
        cost = cover[:, size:-1] - cover[:, : -1 - size]
        x_middle = float(np.mean(np.concatenate([f.x for _, f in self._flows])))
        columns = np.arange(cost.shape[1]) + size / 2
        cost = cost * 3.0 + np.abs(columns - x_middle)[None, :] * 0.35 + np.abs(np.arange(rows) - rows / 2)[:, None]
        row, column = divmod(int(np.argmin(cost)), cost.shape[1])
        return column, row + first, text


def _merge(spark: Sparkline, other: Sparkline, share: float) -> list[float]:
    """Add another image's clusters to a sparkline, as far as they have been copied (in order of the disk)."""
    one, two = resample(spark, _SPARK_CELLS), resample(other, _SPARK_CELLS)
    arrived = round(share * _SPARK_CELLS)
    return [a + b - a * b if n < arrived else a for n, (a, b) in enumerate(zip(one, two, strict=True))]
