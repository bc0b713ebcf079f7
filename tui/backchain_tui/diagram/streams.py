"""The data of a figure: its curves are traced once, then only their colours move; a label says what runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.operations import Commit, Pull, Rebase
from backchain_tui import plan_words
from backchain_tui.diagram.flows import Flow, Span, trace
from backchain_tui.diagram.ink import FlowKind, Ink

if TYPE_CHECKING:
    from backchain.plan import Plan
    from backchain_tui.diagram.canvas import Canvas
    from backchain_tui.diagram.figure import Figure, Stream
    from backchain_tui.diagram.glyphs import GlyphSet
    from backchain_tui.diagram.scene import View

_THICK_SHARE = 0.34
"""A source with at least this share of the clusters has a thicker curve."""
_WORDS: dict[type, tuple[str, str]] = {Commit: (" commit data ", " committed "), Pull: (" stream data ", " streamed ")}
_OTHER_WORDS = (" copy what differs ", " copied ")


class StreamPainter:
    """Paints the flows of one figure."""

    def __init__(self, figure: Figure, top: int, *, braille: bool) -> None:
        """Trace the curves of a figure that stands `top` rows below the upper end of the picture."""
        self._figure = figure
        self._top = top
        total = max(figure.plan.clusters, 1)
        self._flows = [(s, self._trace(s, total, braille=braille)) for s in figure.streams]
        self._running, self._over = _words(figure.plan)
        self._label = self._place_label(max(self._running, self._over, " comparing… ", key=len))

    def _trace(self, stream: Stream, total: int, *, braille: bool) -> Flow:
        share = stream.clusters / total
        thickness = 1 if not stream.clusters else 3 if share >= _THICK_SHARE else 2
        span = Span(
            stream.x0, stream.y0 + self._top, stream.x1, stream.y1 + self._top, stream.lane, thickness
        )  # fmt: skip
        return trace(stream.images[0], self._figure.kind, share, span, braille=braille)

    def paint(self, canvas: Canvas, glyphs: GlyphSet, view: View) -> None:
        """Paint the flows as they are at this moment."""
        commit = self._figure.kind is FlowKind.COMMIT
        head_ink = Ink.HEAD_COMMIT if commit else Ink.HEAD_STREAM
        ordered = sorted(self._flows, key=lambda f: f[0].clusters)
        for stream, flow in ordered:
            progress = self._progress(stream, view)
            canvas.scatter(flow.x, flow.y, flow.glyphs, flow.inks(view.phase, progress, busy=view.busy))
        for stream, flow in ordered:
            done = (self._progress(stream, view) or 0.0) >= 1.0
            ink = Ink.LINK_FAINT if flow.thin else Ink.HEAD_DONE if done else head_ink
            canvas.put(*flow.head, glyphs.heads[2], ink)
        if self._label is not None:
            x, y, width = self._label
            ink = Ink.LABEL_DONE if view.settled else Ink.LABEL_COMMIT if commit else Ink.LABEL_STREAM
            words = self._over if view.settled else f" comparing{glyphs.ellipsis} " if view.pending else self._running
            canvas.put(x + (width - len(words)) // 2, y, words, ink)

    def _progress(self, stream: Stream, view: View) -> float | None:
        if view.settled:
            return 1.0
        if view.progress is None:
            return None
        amount = {c.source: c.clusters for c in self._figure.plan.copies}
        total = sum(amount[i] for i in stream.images)
        return sum(view.progress.get(i, 0.0) * amount[i] for i in stream.images) / total if total else 0.0

    def _place_label(self, text: str) -> tuple[int, int, int] | None:
        """Find the place (x, y, width) that covers the least, near the middle of the flows or of what is to say."""
        figure = self._figure
        if not self._flows and not isinstance(figure.plan.operation, Rebase):
            return None
        first, last = figure.gap
        first, rows = first + self._top, last - first
        width, size = figure.width, len(text)
        if width < size + 2 or rows < 1:
            return None
        taken = np.zeros((rows, width + 1), np.float64)
        for _, flow in self._flows:
            inside = (flow.x >= 0) & (flow.x < width)
            taken[flow.y[inside] - first, flow.x[inside]] += 1.0
        for x, _, _ in figure.stays:
            taken[:, x] += 4.0
        cover = np.cumsum(np.concatenate([np.zeros((rows, 1)), taken], axis=1), axis=1)
        cost = cover[:, size:-1] - cover[:, : -1 - size]
        columns = np.arange(cost.shape[1]) + size / 2
        cost = cost * 3.0 + np.abs(columns - self._middle())[None, :] * 0.35
        cost += np.abs(np.arange(rows) - rows / 2)[:, None]
        row, column = divmod(int(np.argmin(cost)), cost.shape[1])
        return column, row + first, size

    def _middle(self) -> float:
        """Give the column around which the data runs; where none does, that between the ends of the new link."""
        if self._flows:
            return float(np.mean(np.concatenate([f.x for _, f in self._flows])))
        boxes = [self._figure.boxes[n].rect.center for w in self._figure.relinks for n in (w.overlay, w.backing)]
        return sum(boxes) / len(boxes) if boxes else self._figure.width / 2


def _words(plan: Plan) -> tuple[str, str]:
    """Say what runs between the rows, and what has when it is over."""
    operation = plan.operation
    if isinstance(operation, Rebase) and operation.unsafe:
        return " only the link changes ", " link changed "
    running, over = _WORDS.get(type(operation), _OTHER_WORDS)
    if not plan_words.counted(plan):
        return " cannot be counted ", over
    return (running, over) if plan.clusters else (" nothing to copy ", " nothing copied ")
