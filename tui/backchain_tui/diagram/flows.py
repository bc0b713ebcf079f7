"""The curves along which data moves from a source down into the target.

A curve is traced once per layout, in braille dots (2 x 4 per cell), into cells with a glyph and a place along the way.
A frame then only looks each cell's ink up: a table of 16 steps that moves along the curve with the phase. The curves
have lanes of their own in the space between the rows, the farthest source lowest, so that they neither cross nor
bunch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain_tui.diagram.ink import FLOW_STEPS, FlowKind, FlowState, flow_ink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.image import ImageId

PULSE = 12.0
"""Cells from one pulse of a flow to the next."""
CALM_SPEED = 0.35
"""Speed of a flow that is only previewed, as a share of a running one's."""

_BRAILLE = 0x2800
_DOT_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
"""Bit of each dot of a braille cell, by row and column (Unicode chapter 21.1)."""
_STAMPS = {
    1: ((0, 0),),
    2: ((0, 0), (1, 0), (0, 1), (1, 1)),
    3: ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)),
}
"""Dots set around a curve's point, by thickness."""


@dataclass(frozen=True, slots=True)
class Span:
    """Between which cells a flow runs.

    Attributes:
        x0, y0: Cell below the source from which it starts.
        x1, y1: Cell above the target in which it ends.
        lane: Where between y0 and y1 its level stretch lies, 0.0 to 1.0.
        thickness: Dots: 1 (nothing to copy), 2 or 3.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    lane: float
    thickness: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A traced curve.

    Attributes:
        source: The image whose data it carries.
        kind: Down (commit) or up (stream).
        share: Its clusters as a share of the plan's, 0.0 to 1.0.
        head: Cell of the arrow head (x, y).
        x, y: int32, shape (n,): cells of the curve.
        glyphs: uint32, shape (n,): code point per cell.
        place: float64, shape (n,): distance along the curve in cells.
        length: Length of the curve in cells.
        thin: Whether there is nothing to copy.
    """

    source: ImageId
    kind: FlowKind
    share: float
    head: tuple[int, int]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    glyphs: NDArray[np.uint32]
    place: NDArray[np.float64]
    length: float
    thin: bool

    def inks(self, phase: float, progress: float | None, *, busy: bool = True) -> NDArray[np.uint16]:
        """Give the ink of every cell for one frame.

        Args:
            phase: Where the colour table stands, in pulses; the same phase gives the same frame.
            progress: 0.0 to 1.0 of this source's clusters copied, or None in a preview.
            busy: Whether data moves just now (False while paused: the pulses stand still and pale).

        Returns:
            uint16, shape (n,).
        """
        if self.thin:
            return np.full(len(self.x), flow_ink(self.kind, FlowState.EMPTY), np.uint16)
        speed = CALM_SPEED if progress is None else 0.6 + 0.8 * self.share
        steps = np.floor((self.place / PULSE - phase * speed) * FLOW_STEPS).astype(np.int64) % FLOW_STEPS
        faint = flow_ink(self.kind, FlowState.FAINT)
        if progress is None:
            return (faint + steps).astype(np.uint16)
        if progress >= 1.0:
            return (flow_ink(self.kind, FlowState.SETTLED) + steps * 0).astype(np.uint16)
        live = flow_ink(self.kind, FlowState.LIVE)
        if not busy:
            steps = steps // 2
        return np.where(self.place <= progress * self.length, live, faint).astype(np.uint16) + steps.astype(np.uint16)


def trace(source: ImageId, kind: FlowKind, share: float, span: Span, *, braille: bool) -> Flow:
    """Trace the curve of one flow.

    Args:
        source: The image whose data it carries.
        kind: Down or up.
        share: Its share of the clusters, 0.0 to 1.0.
        span: Where it runs.
        braille: Dots, or else lines of ASCII.
    """
    column, row, glyphs, where = _dots(span) if braille else _strokes(span)
    inside = (row >= span.y0) & (row < span.y1)
    return Flow(
        source, kind, share, (span.x1, span.y1), column[inside], row[inside], glyphs[inside], where[inside],
        float(where.max(initial=0.0)), span.thickness == 1,
    )  # fmt: skip


def _curve(span: Span) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give points of the curve in dots: down from the source, along its lane, down into the target."""
    x0, x1 = span.x0 * 2 + 0.5, span.x1 * 2 + 0.5
    y0, y1 = span.y0 * 4.0, span.y1 * 4.0 - 1
    height, reach = y1 - y0, x1 - x0
    middle_x, middle_y = (x0 + x1) / 2, y0 + height * span.lane
    slope = min(height * 0.14, abs(reach) * 0.5) * (1 - abs(2 * span.lane - 1))
    pull_x = reach * 0.36
    upper = ((x0, y0), (x0, middle_y - slope * 0.6), (middle_x - pull_x, middle_y - slope), (middle_x, middle_y))
    lower = ((middle_x, middle_y), (middle_x + pull_x, middle_y + slope), (x1, middle_y + slope * 0.6), (x1, y1))
    count = max(32, int(abs(reach) + height) * 2)
    t = np.linspace(0, 1, count)
    points = [_bezier(np.array(p), t) for p in (upper, lower)]
    joined = np.concatenate(points)
    return joined[:, 0], joined[:, 1]


def _bezier(points: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = t[:, None]
    a, b, c, d = points
    return np.asarray(a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3)


_Cells = tuple["NDArray[np.int32]", "NDArray[np.int32]", "NDArray[np.uint32]", "NDArray[np.float64]"]


def _dots(span: Span) -> _Cells:
    """Give the curve in braille."""
    x, y = _curve(span)
    place = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / 2, np.diff(y) / 4))])
    stamp = np.array(_STAMPS[span.thickness])
    if span.thickness == 1:
        keep = np.floor(place * 1.5).astype(int) % 2 == 0
        x, y, place = x[keep], y[keep], place[keep]
    dot_x = np.rint(x).astype(np.int32)[:, None] + stamp[:, 0]
    dot_y = np.rint(y).astype(np.int32)[:, None] + stamp[:, 1]
    column, row = dot_x.ravel() // 2, dot_y.ravel() // 4
    bits = _DOT_BITS[dot_y.ravel() % 4, dot_x.ravel() % 2]
    cells, which = np.unique(np.stack([row, column]), axis=1, return_inverse=True)
    glyphs = np.zeros(cells.shape[1], np.uint8)
    np.bitwise_or.at(glyphs, which.ravel(), bits)
    where = np.full(cells.shape[1], np.inf)
    np.minimum.at(where, which.ravel(), np.repeat(place, len(stamp)))
    return cells[1].astype(np.int32), cells[0].astype(np.int32), glyphs.astype(np.uint32) + _BRAILLE, where


def _strokes(span: Span) -> _Cells:
    """Give an orthogonal way, as the figures are drawn in text: down, along the lane, down."""
    lane = span.y0 + round(span.lane * (span.y1 - 1 - span.y0))
    step = 1 if span.x1 > span.x0 else -1
    down = [(span.x0, y, "|") for y in range(span.y0, lane)]
    along = [(x, lane, "-") for x in range(span.x0, span.x1 + step, step)]
    if span.x0 == span.x1:
        along = [(span.x0, lane, "|")]
    else:
        along[0], along[-1] = (span.x0, lane, "'"), (span.x1, lane, ".")
    cells = [*down, *along, *((span.x1, y, "|") for y in range(lane + 1, span.y1))]
    x, y, glyphs = zip(*cells, strict=True)
    return (
        np.array(x, np.int32), np.array(y, np.int32), np.array([ord(g) for g in glyphs], np.uint32),
        np.arange(len(cells), dtype=np.float64),
    )  # fmt: skip
