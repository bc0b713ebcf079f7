"""The layout of an operation, as in the two figures: the chain before, the chain after, and what runs between them.

The images concerned stand in columns, base at the left, on a row BEFORE and again on a row AFTER. Overlays beside the
chain (siblings) are pills: above the upper row and below the lower one, so that nothing stands in the way of the data.
When the window is narrow the boxes shrink, then images that take no part are left out, then sources in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from backchain.operations import Commit
from backchain_tui.diagram.boxes import Rect
from backchain_tui.diagram.ink import FlowKind
from backchain_tui.diagram.layout import LIMITS, Zoom, share_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Plan

_MARGIN = 1
_GAP_ROWS = {Zoom.CARD: (5, 12), Zoom.BOX: (5, 10), Zoom.PILL: (4, 8)}
"""Least and most rows between the upper boxes and the lower ones."""
_GHOST = {Zoom.CARD: 13, Zoom.BOX: 9, Zoom.PILL: 9}
"""Width of a column of images that were left out."""
_SIBLINGS = 3
"""Rows of siblings at most; the last then says how many more there are."""


class Stage(IntEnum):
    """The two rows."""

    BEFORE = 0
    AFTER = 1


@dataclass(frozen=True, slots=True)
class Column:
    """What stands in one column: an image, or several that were left out."""

    images: tuple[ImageId, ...]

    @property
    def image(self) -> ImageId | None:
        """The image, or None for a column of left out ones."""
        return self.images[0] if len(self.images) == 1 else None


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
        wires: Links as they were and are.
        relinks: Links that are new; drawn along `channel`.
        detached: Box of an image that loses its backing file, or None.
        stays: Dotted lines (x, first row, last row) of images that stay as they are.
        streams: The ways of the data.
        channel: Row of the new links.
        labels: Words (x, y, text) naming the rows.
        width, height: Size of the picture.
        complete: Whether nothing was left out and no box had to be narrower than it should.
    """

    plan: Plan
    kind: FlowKind
    zoom: Zoom
    boxes: tuple[Placed, ...]
    wires: tuple[Wire, ...]
    relinks: tuple[Wire, ...]
    detached: int | None
    stays: tuple[tuple[int, int, int], ...]
    streams: tuple[Stream, ...]
    channel: int
    labels: tuple[tuple[int, int, str], ...]
    width: int
    height: int

    def at(self, x: int, y: int) -> ImageId | None:
        """Give the image whose box (on either row) holds a cell, or None."""
        return next((b.image for b in self.boxes if b.rect.holds(x, y)), None)


def figure(plan: Plan, zoom: Zoom, width: int, height: int, longest: int) -> Figure:
    """Lay an operation out for a window.

    Args:
        plan: The operation.
        zoom: AUTO, or one that is asked for.
        width: Columns of the window.
        height: Rows of the window.
        longest: Cells of the longest name among the images concerned.
    """
    cast = _Cast(plan)
    room = width - 2 * _MARGIN
    for candidate, columns, least in _candidates(cast, zoom, longest):
        widths, gap = _share(candidate, columns, room, longest, least)
        rows = cast.sibling_rows(columns)
        tall = 2 * LIMITS[candidate].height + 3 + sum(rows) + _GAP_ROWS[candidate][0]
        wide = sum(widths) + gap * (len(widths) - 1)
        if wide <= room and (tall <= height or zoom is not Zoom.AUTO):
            break
    return _Builder(cast, candidate, columns, widths, gap, width, height, rows).build()


def concerned(plan: Plan) -> tuple[ImageId, ...]:
    """Give every image that the figure of a plan can show."""
    cast = _Cast(plan)
    return (*cast.path, *(s for family in cast.siblings.values() for s in family))


def _candidates(cast: _Cast, zoom: Zoom, longest: int) -> Iterable[tuple[Zoom, tuple[Column, ...], int]]:
    """Give what to try, best first; the last is taken, and scrolled, when nothing fits."""
    casts = [cast.columns(thrift) for thrift in range(4)]
    zooms = (Zoom.CARD, Zoom.BOX, Zoom.PILL) if zoom is Zoom.AUTO else (zoom,)
    named = {z: max(LIMITS[z].least, min(longest + (2 if z is Zoom.BOX else 4), 14)) for z in zooms}
    small = zooms[-2:]
    tries: list[tuple[Zoom, int]] = [(z, n) for n in (0, 1) for z in zooms if z is not Zoom.PILL]
    tries += [(z, n) for n in (0, 1) for z in zooms if z is Zoom.PILL] + [(z, 2) for z in small]
    yield from ((z, casts[n], named[z]) for z, n in tries)
    yield from ((z, casts[n], LIMITS[z].least) for z in small for n in (0, 1, 2))
    yield from ((z, casts[3], least[z]) for least in (named, {z: LIMITS[z].least for z in small}) for z in small)


def _share(
    zoom: Zoom, columns: Sequence[Column], room: int, longest: int, least: int
) -> tuple[list[int], int]:  # fmt: skip
    """Give the width of each column and of the gaps."""
    ghosts = sum(c.image is None for c in columns)
    free = room - ghosts * _GHOST[zoom]
    box, gap = share_width(zoom, len(columns) - ghosts, len(columns) - 1, free, longest, least=least)
    return [box if c.image is not None else _GHOST[zoom] for c in columns], gap


class _Cast:
    """Who appears in the figure of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        graph = plan.before
        self.top = plan.operation.subject
        self.path = _path(graph, self.top, {r.image for r in plan.relinked})
        place = {image: n for n, image in enumerate(self.path)}
        first = min((place[i] for i in (plan.target, *plan.sources) if i in place), default=0)
        self.siblings = {
            image: tuple(o for o in graph.overlays_of(image) if o not in place)
            for image in self.path[first : place[self.top] + 1]
        }
        self.relinked = {r.image: r for r in plan.relinked}

    def sibling_rows(self, columns: Sequence[Column]) -> tuple[int, int]:
        """Give how many rows of siblings stand above the upper and below the lower row."""
        shown = [c.image for c in columns if c.image is not None]
        rows = max((min(len(self.siblings.get(i, ())), _SIBLINGS) for i in shown), default=0)
        return rows, rows

    def columns(self, thrift: int) -> tuple[Column, ...]:
        """Give the columns.

        Args:
            thrift: 0 shows every image; 1 leaves out those that take no part, save the base and the active layer;
                2 leaves out these too; 3 also sources between the target and the top.
        """
        if not thrift:
            return tuple(Column((i,)) for i in self.path)
        plan = self.plan
        keep = {plan.target, self.top, *self.relinked}
        if thrift < 3:
            keep.update(plan.sources)
        if thrift < 2:
            keep.update((self.path[0], self.path[-1]))
        if plan.operation.base is not None:
            keep.add(plan.operation.base)
        return _collapse(self.path, keep)


def _path(graph: ChainGraph, top: ImageId, relinked: set[ImageId]) -> tuple[ImageId, ...]:
    """Give the chain from its base through `top` to an active layer."""
    path = list(reversed(graph.chain(top)))
    seen = set(path)
    current = top
    while overlays := [o for o in graph.overlays_of(current) if o not in seen]:
        current = next((o for o in overlays if o in relinked), overlays[0])
        path.append(current)
        seen.add(current)
    return tuple(path)


def _collapse(path: Sequence[ImageId], keep: set[ImageId]) -> tuple[Column, ...]:
    columns: list[Column] = []
    run: list[ImageId] = []
    for image in [*path, None]:
        if image is not None and image not in keep:
            run.append(image)
            continue
        columns += [Column(tuple(run))] if run else []
        run = []
        if image is not None:
            columns.append(Column((image,)))
    return tuple(columns)


class _Builder:
    """Puts the parts of one figure on the grid."""

    def __init__(
        self, cast: _Cast, zoom: Zoom, columns: tuple[Column, ...], widths: list[int], gap: int, width: int,
        height: int, rows: tuple[int, int],
    ) -> None:  # fmt: skip
        self._cast, self._zoom, self._columns = cast, zoom, columns
        self._widths, self._gap = widths, gap
        wide = sum(widths) + (len(columns) - 1) * gap
        self._left = max(_MARGIN, (width - wide) // 2)
        self.width = self._left + wide + _MARGIN
        tall = LIMITS[zoom].height
        fixed = 2 * tall + 3 + sum(rows)
        least, most = _GAP_ROWS[zoom]
        space = max(least, min(most, height - fixed))
        self._upper = 1 + rows[0]
        self._heads = self._upper + tall + space - 1
        self._lower = self._heads + 1
        self.channel = self._lower + tall
        self.height = self.channel + 1 + rows[1]
        self._tall = tall
        self._boxes: list[Placed] = []
        self._number: dict[tuple[Stage, ImageId], int] = {}

    def build(self) -> Figure:
        plan = self._cast.plan
        kind = FlowKind.COMMIT if isinstance(plan.operation, Commit) else FlowKind.STREAM
        for stage in Stage:
            for n, column in enumerate(self._columns):
                self._add(column.images, stage, self._rect(n, stage), self._zoom)
            self._add_siblings(stage)
        wires, relinks = self._wires()
        detached = next((r.image for r in plan.relinked if r.new is None), None)
        return Figure(
            plan, kind, self._zoom, tuple(self._boxes), tuple(wires), tuple(relinks),
            self._number.get((Stage.AFTER, detached)) if detached is not None else None,
            tuple(self._stays()), tuple(self._streams()), self.channel,
            ((self._left, 0, "BEFORE"), (self._left, self.channel, "AFTER")), self.width, self.height,
        )  # fmt: skip

    def _rect(self, column: int, stage: Stage) -> Rect:
        y = self._upper if stage is Stage.BEFORE else self._lower
        return Rect(self._column_x(column), y, self._widths[column], self._tall)

    def _column_x(self, column: int) -> int:
        return self._left + sum(self._widths[:column]) + column * self._gap

    def _add(self, images: tuple[ImageId, ...], stage: Stage, rect: Rect, zoom: Zoom) -> None:
        for image in images:
            self._number[stage, image] = len(self._boxes)
        self._boxes.append(Placed(images, stage, rect, zoom))

    def _add_siblings(self, stage: Stage) -> None:
        for n, column in enumerate(self._columns):
            family = self._cast.siblings.get(column.image, ()) if column.image is not None else ()
            groups: list[tuple[ImageId, ...]] = [(i,) for i in family]
            if len(family) > _SIBLINGS:
                groups = [*groups[: _SIBLINGS - 1], family[_SIBLINGS - 1 :]]
            x, box = self._column_x(n) + self._widths[n] + self._gap, max(self._widths)
            for row, images in enumerate(groups):
                y = self._upper - 1 - row if stage is Stage.BEFORE else self.channel + 1 + row
                self._add(images, stage, Rect(x, y, box, 1), Zoom.PILL)
            if groups:
                self.width = max(self.width, x + box + _MARGIN)

    def _wires(self) -> tuple[list[Wire], list[Wire]]:
        plan = self._cast.plan
        wires: dict[Wire, None] = {}
        relinks: dict[Wire, None] = {}
        for stage, image in self._number:
            graph = plan.before if stage is Stage.BEFORE else plan.after
            backing = graph.backing_of(image) if image in graph else None
            if backing is None or (stage, backing) not in self._number:
                continue
            if stage is Stage.AFTER and (image in plan.invalidated) and image not in self._cast.relinked:
                continue
            wire = Wire(self._number[stage, image], self._number[stage, backing])
            if wire.overlay == wire.backing:
                continue
            changed = stage is Stage.AFTER and image in self._cast.relinked
            (relinks if changed else wires)[wire] = None
        return list(wires), list(relinks)

    def _stays(self) -> Iterable[tuple[int, int, int]]:
        """Give a dotted line for each image that stays: aside of the data when it takes part."""
        plan = self._cast.plan
        gone = {*plan.invalidated, *plan.removable} - {plan.emptied}
        first, last = self._upper + self._tall, self._heads
        for n, column in enumerate(self._columns):
            image = column.image
            if image in gone or set(column.images) & gone or (image in plan.sources and image != plan.emptied):
                continue
            rect = self._rect(n, Stage.BEFORE)
            x = rect.center
            if image == plan.target:
                aside = 2 if rect.width >= 12 else 1
                x = rect.x + aside if isinstance(plan.operation, Commit) else rect.right - 1 - aside
            elif image == plan.emptied:
                x = rect.right - 3
            yield x, first, last

    def _streams(self) -> Iterable[Stream]:
        """Give the ways of the data, in order from left to right at both ends, so that they never cross."""
        plan = self._cast.plan
        amount = {c.source: c.clusters for c in plan.copies}
        columns = [(n, c) for n, c in enumerate(self._columns) if any(i in amount for i in c.images)]
        columns = [(n, c) for n, c in columns if plan.target not in c.images]
        target = self._number.get((Stage.AFTER, plan.target))
        if target is None or not columns:
            return
        rect = self._boxes[target].rect
        from_right = isinstance(plan.operation, Commit)
        heads = _spread(rect, len(columns), from_right=from_right)
        count = len(columns)
        for order, (n, column) in enumerate(columns):
            depth = order if from_right else count - 1 - order
            lane = 0.5 if count == 1 else 0.16 + 0.68 * depth / (count - 1)
            yield Stream(
                tuple(i for i in column.images if i in amount), sum(amount.get(i, 0) for i in column.images),
                self._rect(n, Stage.BEFORE).center, self._upper + self._tall, heads[order], self._heads, lane,
            )  # fmt: skip


def _spread(rect: Rect, count: int, *, from_right: bool) -> list[int]:
    """Spread arrow heads above the target's box, leaving the side of its dotted line free."""
    aside = 5 if rect.width >= 12 else 3
    first, last = (rect.x + aside, rect.right - 2) if from_right else (rect.x + 1, rect.right - 1 - aside)
    if count == 1:
        return [(first + last) // 2]
    room = last - first
    step = min(4.0, room / (count - 1))
    start = first + (room - step * (count - 1)) / 2
    return [round(start + step * n) for n in range(count)]
