"""One box of the diagram: what is written on it (`Face`) and how it is painted at each zoom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backchain.image import ImageState
from backchain_tui import formatting
from backchain_tui.badges import Badge
from backchain_tui.diagram.ink import BORDER_STEPS, SPARK_STEPS, Part, Role, Tone, box_ink
from backchain_tui.diagram.layout import Zoom
from backchain_tui.diagram.measure import cell_width, clean, shorten

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain_tui.diagram.canvas import Canvas
    from backchain_tui.diagram.glyphs import Frame, GlyphSet

Sparkline = Sequence[float]
"""Share of allocated clusters, 0.0 to 1.0, in equal parts of the guest's disk from its start to its end."""

_STATE_BADGES = {
    ImageState.MISSING: (Badge.MISSING, Role.BROKEN),
    ImageState.UNREADABLE: (Badge.UNREADABLE, Role.BROKEN),
    ImageState.DIRTY: (Badge.DIRTY, Role.BROKEN),
    ImageState.CORRUPT: (Badge.CORRUPT, Role.BROKEN),
    ImageState.LOOP: (Badge.LOOP, Role.BROKEN),
    ImageState.INVALID: (Badge.INVALID, Role.INVALID),
    ImageState.UNNEEDED: (Badge.UNNEEDED, Role.UNNEEDED),
}


@dataclass(frozen=True, slots=True)
class Face:
    """What a box shows.

    Attributes:
        name: Cleaned name.
        role: Its hue.
        badge: What it is, in capitals, or None.
        size: Size on disk in words, or empty.
        share: Size on disk as a share of the virtual size, 0.0 to 1.0, or None when unknown.
        note: What a card shows where there is no sparkline.
        spark: Allocated clusters, or None.
    """

    name: str
    role: Role
    badge: Badge | None
    size: str
    share: float | None
    note: str
    spark: Sparkline | None


@dataclass(frozen=True, slots=True)
class Rect:
    """A box's place: top left cell, width and height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column to the right of the box."""
        return self.x + self.width

    @property
    def below(self) -> int:
        """First row below the box."""
        return self.y + self.height

    @property
    def center(self) -> int:
        """Middle column."""
        return self.x + self.width // 2

    @property
    def middle(self) -> int:
        """Middle row: where links start and end."""
        return self.y + self.height // 2

    def holds(self, x: int, y: int) -> bool:
        """Whether a cell lies in the box."""
        return self.x <= x < self.right and self.y <= y < self.below


def describe(
    graph: ChainGraph,
    image: ImageId,
    *,
    in_use: bool = False,
    in_loop: bool = False,
    mixed: bool = False,
    spark: Sparkline | None = None,
) -> Face:
    """Say what the box of an image shows in a graph."""
    info = graph[image]
    badge, role = _badge(graph, info, in_use=in_use, in_loop=in_loop)
    if mixed and role in {Role.BASE, Role.OVERLAY, Role.ACTIVE}:
        badge = Badge.MIXED
    share = None
    if info.disk_size is not None and info.virtual_size:
        share = min(info.disk_size / info.virtual_size, 1.0)
    size = "" if info.disk_size is None else formatting.short_size(info.disk_size)
    return Face(clean(info.label), role, badge, size, share, _note(info), spark if info.readable else None)


def _note(info: ImageInfo) -> str:
    if info.state is ImageState.MISSING:
        return "not found"
    if not info.readable or info.virtual_size is None:
        return "cannot be read"
    return clean(f"{info.format} {formatting.short_size(info.virtual_size)}")


def _badge(graph: ChainGraph, info: ImageInfo, *, in_use: bool, in_loop: bool) -> tuple[Badge | None, Role]:
    if info.state in _STATE_BADGES:
        return _STATE_BADGES[info.state]
    if in_loop:
        return Badge.LOOP, Role.BROKEN
    role, badge = Role.OVERLAY, None
    if graph.is_base(info.id):
        role, badge = Role.BASE, Badge.BASE
    elif graph.is_active(info.id):
        role, badge = Role.ACTIVE, Badge.ACTIVE
    if in_use:
        return Badge.IN_USE, role
    return badge if graph.is_trusted(info.id) else Badge.OUTSIDE, role


class BoxPainter:
    """Paints boxes on a canvas with one glyph set."""

    def __init__(self, canvas: Canvas, glyphs: GlyphSet) -> None:
        self._canvas = canvas
        self._glyphs = glyphs

    def paint(self, rect: Rect, zoom: Zoom, face: Face, tone: Tone, mark: str = "") -> None:
        """Paint one box.

        Args:
            rect: Its place.
            zoom: CARD, BOX or PILL.
            face: What it shows.
            tone: How it stands out; BLAST replaces the badge by BREAKS.
            mark: A word on its upper border, such as "top"; empty for none.
        """
        face = replace(face, name=self._glyphs.text(face.name), note=self._glyphs.text(face.note))
        breaks = tone is Tone.BLAST and face.role is not Role.BROKEN
        badge = Badge.BREAKS if breaks else face.badge or ""
        if zoom is Zoom.PILL:
            self._pill(rect, face, tone, badge, mark)
            return
        self._frame(rect, face.role, tone)
        if zoom is Zoom.CARD:
            badge = self._card(rect, face, tone, badge)
        else:
            self._box(rect, face, tone)
        self._on_border(rect, face.role, tone, badge, mark)

    def _pill(self, rect: Rect, face: Face, tone: Tone, badge: str, mark: str) -> None:
        canvas, glyphs = self._canvas, self._glyphs
        left, right = glyphs.caps
        cap, pill = box_ink(face.role, tone, Part.CAP), box_ink(face.role, tone, Part.PILL)
        canvas.put(rect.x, rect.y, left, cap)
        canvas.put(rect.right - 1, rect.y, right, cap)
        sign = mark[:1].upper() if mark else glyphs.sign(badge)
        name = shorten(face.name, rect.width - 4, glyphs.ellipsis)
        canvas.put(rect.x + 1, rect.y, f"{sign} {name}", pill)
        used = 2 + cell_width(name)
        canvas.put(rect.x + 1 + used, rect.y, " " * (rect.width - 2 - used), pill)

    def _frame(self, rect: Rect, role: Role, tone: Tone) -> None:
        canvas, frame = self._canvas, self._frame_of(role, tone)
        inner = rect.width - 2
        for row, left, right in ((rect.y, frame.top_left, frame.top_right),
                                 (rect.below - 1, frame.bottom_left, frame.bottom_right)):  # fmt: skip
            line = left + frame.horizontal * inner + right
            for step in range(BORDER_STEPS):
                first, last = (rect.width * n // BORDER_STEPS for n in (step, step + 1))
                canvas.put(rect.x + first, row, line[first:last], box_ink(role, tone, Part.BORDER + step))
        fill = box_ink(role, tone, Part.FILL)
        for row in range(rect.y + 1, rect.below - 1):
            canvas.put(rect.x, row, frame.vertical, box_ink(role, tone, Part.BORDER))
            canvas.put(rect.x + 1, row, " " * inner, fill)
            canvas.put(rect.right - 1, row, frame.vertical, box_ink(role, tone, Part.BORDER + BORDER_STEPS - 1))

    def _frame_of(self, role: Role, tone: Tone) -> Frame:
        if tone is Tone.CURSOR:
            return self._glyphs.cursor
        return self._glyphs.dashed if role is Role.INVALID else self._glyphs.plain

    def _card(self, rect: Rect, face: Face, tone: Tone, badge: str) -> str:
        """Fill a card; give the badge back when there was no room for it beside the name."""
        canvas, glyphs = self._canvas, self._glyphs
        x, width = rect.x + 2, rect.width - 4
        fits = bool(badge) and min(cell_width(face.name), 8) + 1 + len(badge) <= width
        room = width - len(badge) - 1 if fits else width
        canvas.put(x, rect.y + 1, shorten(face.name, room, glyphs.ellipsis), box_ink(face.role, tone, Part.NAME))
        if fits:
            canvas.put(x + width - len(badge), rect.y + 1, badge, box_ink(face.role, tone, Part.BADGE))
        self._sparkline(x, rect.y + 2, width, face, tone)
        size_x = x + width - len(face.size)
        canvas.put(size_x, rect.y + 3, face.size, box_ink(face.role, tone, Part.META))
        if face.share is not None:
            self._bar(x, rect.y + 3, size_x - 1 - x, face.share, face.role, tone)
        return "" if fits else badge

    def _sparkline(self, x: int, y: int, width: int, face: Face, tone: Tone) -> None:
        if face.spark is None:
            self._canvas.put(x, y, shorten(face.note, width), box_ink(face.role, tone, Part.META))
            return
        glyphs = self._glyphs.spark
        levels = len(glyphs) - 1
        for n, value in enumerate(resample(face.spark, width)):
            height = min(levels, max(1, round(value * levels))) if value > 0 else 0
            shade = min(SPARK_STEPS - 1, int(value * SPARK_STEPS)) if value > 0 else None
            ink = Part.TRACK if shade is None else Part.SPARK + shade
            self._canvas.put(x + n, y, glyphs[height], box_ink(face.role, tone, ink))

    def _bar(self, x: int, y: int, width: int, share: float, role: Role, tone: Tone) -> None:
        full, half, track = self._glyphs.bar
        halves = max(round(share * width * 2), 1 if share > 0 else 0)
        filled = full * (halves // 2) + half * (halves % 2)
        self._canvas.put(x, y, track * width, box_ink(role, tone, Part.TRACK))
        self._canvas.put(x, y, filled, box_ink(role, tone, Part.BAR))

    def _box(self, rect: Rect, face: Face, tone: Tone) -> None:
        width = rect.width - 2
        name = shorten(face.name, width, self._glyphs.ellipsis)
        start = rect.x + 1 + (width - cell_width(name)) // 2
        self._canvas.put(start, rect.y + 1, name, box_ink(face.role, tone, Part.NAME))
        if face.size and width >= len(face.size) + 2:
            text = f" {face.size} "
            x = max(rect.x + 1, rect.right - 2 - len(text))
            self._canvas.put(x, rect.below - 1, text, box_ink(face.role, tone, Part.BORDER_META))

    def _on_border(self, rect: Rect, role: Role, tone: Tone, badge: str, mark: str) -> None:
        room = rect.width - 2
        if mark:
            text = f" {mark} "[:room]
            self._canvas.put(rect.x + 1, rect.y, text, box_ink(role, tone, Part.BADGE))
            room -= len(text)
        if badge:
            texts = (f" {badge} ", f"{badge} ", badge)
            text = next((t for t in texts if len(t) <= room), self._glyphs.sign(badge))
            self._canvas.put(rect.right - 1 - len(text), rect.y, text, box_ink(role, tone, Part.BORDER_BADGE))


def resample(spark: Sparkline, width: int) -> list[float]:
    """Average a sparkline into `width` parts; what is not empty stays visible."""
    values = np.asarray(spark, np.float64)
    if not len(values) or width < 1:
        return [0.0] * max(width, 0)
    edges = np.linspace(0, len(values), width + 1)
    first = np.minimum(edges[:-1].astype(np.int64), len(values) - 1)
    last = np.maximum(np.ceil(edges[1:]).astype(np.int64), first + 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return [float(v) for v in np.clip((total[last] - total[first]) / (last - first), 0.0, 1.0)]
