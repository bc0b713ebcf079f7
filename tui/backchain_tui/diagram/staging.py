"""An operation is brought onto the grid: columns that share the width, two rows, and the ways of data between them.

Overlays beside the chain (siblings) are pills: above the upper row and below the lower one, so that nothing stands in
the way of the data. When the window is narrow the boxes shrink, then images that take no part are left out, then
sources in the middle; never the one under the cursor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.operations import Commit, Delete, Snapshot
from backchain_tui.diagram.boxes import Rect
from backchain_tui.diagram.cast import Cast
from backchain_tui.diagram.figure import CLEAR_OF_LABEL, Figure, Placed, Stage, Stream, Wire
from backchain_tui.diagram.ink import FlowKind
from backchain_tui.diagram.layout import LIMITS, Zoom, share_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backchain.image import ImageId
    from backchain.plan import Plan
    from backchain_tui.diagram.cast import Column

_MARGIN = 1
_GAP_ROWS = {Zoom.CARD: (5, 12), Zoom.BOX: (5, 10), Zoom.PILL: (4, 8)}
"""Least and most rows between the upper boxes and the lower ones."""
_GHOST = {Zoom.CARD: 13, Zoom.BOX: 9, Zoom.PILL: 9}
"""Width of a column of images that were left out."""


def figure(
    plan: Plan, zoom: Zoom, width: int, height: int, longest: int, seen: ImageId | None = None
) -> Figure:  # fmt: skip
    """Lay an operation out for a window.

    Args:
        plan: The operation.
        zoom: AUTO, or one that is asked for.
        width: Columns of the window.
        height: Rows of the window.
        longest: Cells of the longest name among the images concerned.
        seen: An image that is not left out: the one under the cursor; None for none.
    """
    cast = Cast(plan, seen)
    room = width - 2 * _MARGIN
    for candidate, columns, least in _candidates(cast, zoom, longest):
        widths, gap = _share(candidate, columns, room, longest, least)
        rows = cast.sibling_rows(columns)
        tall = 2 * (LIMITS[candidate].height + rows + cast.bridged) + 3 + _GAP_ROWS[candidate][0]
        wide = sum(widths) + gap * (len(widths) - 1)
        if wide <= room and (tall <= height or zoom is not Zoom.AUTO):
            break
    return _Builder(cast, candidate, columns, widths, gap, width, height, rows).build()


def concerned(plan: Plan) -> tuple[ImageId, ...]:
    """Give every image that the figure of a plan can show."""
    cast = Cast(plan)
    return (*cast.path, *(s for family in cast.siblings.values() for s in family))


def _candidates(cast: Cast, zoom: Zoom, longest: int) -> Iterable[tuple[Zoom, tuple[Column, ...], int]]:
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


class _Builder:
    """Puts the parts of one figure on the grid."""

    def __init__(
        self, cast: Cast, zoom: Zoom, columns: tuple[Column, ...], widths: list[int], gap: int, width: int,
        height: int, rows: int,
    ) -> None:  # fmt: skip
        self._cast, self._zoom, self._columns = cast, zoom, columns
        self._widths, self._gap, self._window = widths, gap, width
        wide = sum(widths) + (len(columns) - 1) * gap
        self._left = max(_MARGIN, (width - wide) // 2)
        self.width = self._left + wide + _MARGIN
        tall = LIMITS[zoom].height
        bridge = int(cast.bridged)
        fixed = 2 * (tall + rows + bridge) + 3
        least, most = _GAP_ROWS[zoom]
        still = isinstance(cast.plan.operation, Snapshot | Delete)
        space = max(least, min(least if still else most, height - fixed))
        self._upper = 1 + rows + bridge
        self._heads = self._upper + tall + space - 1
        self._lower = self._heads + 1
        self.channel = self._lower + tall
        self.height = self.channel + 1 + rows + bridge
        self._bridge = bridge
        self._tall = tall
        self._boxes: list[Placed] = []
        self._number: dict[tuple[Stage, ImageId], int] = {}

    def build(self) -> Figure:
        plan = self._cast.plan
        kind = FlowKind.COMMIT if isinstance(plan.operation, Commit) else FlowKind.STREAM
        for stage in Stage:
            for n, column in enumerate(self._columns):
                if column.image is None or stage is Stage.AFTER or column.image in plan.before:
                    self._add(column.images, stage, self._rect(n, stage), self._zoom)
            self._add_siblings(stage)
        wires, arcs, relinks = self._wires()
        notes = tuple(self._notes())
        written = max((len(text) for _, text in notes), default=0)
        self.width = max(self.width, min(self._window, self._left + CLEAR_OF_LABEL + written + _MARGIN))
        return Figure(
            plan, kind, self._zoom, tuple(self._boxes), wires, arcs, relinks, notes,
            tuple(self._stays()), tuple(self._streams()), (self._upper + self._tall, self._heads), self.channel,
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
            groups = self._cast.families(column.image)
            x, box = self._column_x(n) + self._widths[n] + self._gap, max(self._widths)
            above = stage is Stage.BEFORE
            first = self._upper - self._bridge - len(groups) if above else self.channel + self._bridge + 1
            for y, images in enumerate(groups, first):
                self._add(images, stage, Rect(x, y, box, 1), Zoom.PILL)
            if groups:
                self.width = max(self.width, x + box + _MARGIN)

    def _wires(self) -> tuple[tuple[Wire, ...], tuple[Wire, ...], tuple[Wire, ...]]:
        """Give the links: plain ones, those that bridge boxes in between, and new ones."""
        plan = self._cast.plan
        column = {i: n for n, c in enumerate(self._columns) for i in c.images}
        wires: dict[Wire, None] = {}
        arcs: dict[Wire, None] = {}
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
            if stage is Stage.AFTER and image in self._cast.relinked and image in plan.before:
                relinks[wire] = None
            elif column.get(image, 0) - column.get(backing, 0) > 1 and image in column:
                arcs[wire] = None
            else:
                wires[wire] = None
        return tuple(wires), tuple(arcs), tuple(relinks)

    def _notes(self) -> Iterable[tuple[int, str]]:
        """Say below a box what no line can show."""
        plan = self._cast.plan
        texts = {r.image: "no backing file: stands alone" for r in plan.relinked if r.new is None}
        if isinstance(plan.operation, Snapshot):
            texts[plan.target] = "new and empty"
        elif isinstance(plan.operation, Delete):
            texts = dict.fromkeys(plan.operation.images, "file removed")
        yield from ((self._number[Stage.AFTER, i], t) for i, t in texts.items() if (Stage.AFTER, i) in self._number)

    def _stays(self) -> Iterable[tuple[int, int, int]]:
        """Give a dotted line for each image that stays: aside of the data when it takes part."""
        plan = self._cast.plan
        gone = {*plan.invalidated, *plan.removable} - {plan.emptied}
        first, last = self._upper + self._tall, self._heads
        for n, column in enumerate(self._columns):
            image = column.image
            if image is not None and image not in plan.before:
                continue
            if image in gone or set(column.images) & gone or (image in plan.sources and image != plan.emptied):
                continue
            rect = self._rect(n, Stage.BEFORE)
            x = rect.center
            if image == plan.target and plan.copies:
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
