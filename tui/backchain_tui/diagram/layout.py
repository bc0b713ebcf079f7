"""The layout of a forest: which cell each box takes. Neither Textual nor rich here, and no drawing.

It happens in two steps. `place` finds each image's column (its generation: bases left, overlays to the right) and slot
(its row of boxes) and does not know about cells; `arrange` turns columns and slots into cells for a zoom, which is
cheap, so that zooming in a forest of thousands is immediate.

The graph is a forest in which every image has at most one backing file, so a tidy tree suffices: an image stands on
the row of its first overlay, and the subtrees of its other overlays move up below it as far as they can (Reingold and
Tilford's contours, with the smaller contour merged into the larger, which makes the whole linear). A component may
hold one loop; its images then form the first row of their tree, and the link that closes the loop is a back edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from backchain.sorting import natural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from backchain.graph import ChainGraph
    from backchain.image import ImageId

LOOP_ROWS = 2
"""Rows above a loop's boxes for the link that closes it."""


class Zoom(StrEnum):
    """How large the boxes are; AUTO takes the largest that fits."""

    AUTO = "auto"
    CARD = "card"
    BOX = "box"
    PILL = "pill"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sizes in cells.

    Attributes:
        zoom: CARD, BOX or PILL.
        width, height: Size of a box.
        gap_x: Columns between boxes, for the arrow (at least 3).
        gap_y: Rows between boxes.
        tree_gap: Further rows between trees.
        margin: Columns left free at the left and at the right.
    """

    zoom: Zoom
    width: int
    height: int
    gap_x: int
    gap_y: int
    tree_gap: int
    margin: int = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a zoom's boxes may shrink and grow to use the width that there is."""

    height: int
    least: int
    most: int
    padding: int
    gap_y: int
    tree_gap: int


LIMITS: Mapping[Zoom, Limits] = {
    Zoom.CARD: Limits(5, 16, 30, 11, 1, 1),
    Zoom.BOX: Limits(3, 10, 22, 4, 0, 1),
    Zoom.PILL: Limits(1, 8, 20, 5, 0, 1),
}
_AROUND_NAME: Mapping[Zoom, int] = {Zoom.CARD: 4, Zoom.BOX: 2, Zoom.PILL: 4}
"""Cells that a box needs around its name."""
_LEAST_NAME = 8
"""Cells that boxes offer to names even when all are shorter, so that the longest badge has room too."""
GAP_USUAL = 6
GAP_LEAST: Mapping[Zoom, int] = {Zoom.CARD: 4, Zoom.BOX: 4, Zoom.PILL: 3}
GAP_MOST: Mapping[Zoom, int] = {Zoom.CARD: 14, Zoom.BOX: 10, Zoom.PILL: 6}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where images stand, in columns and slots.

    Attributes:
        images: The images, a backing file before its overlays.
        index: Number of each image in `images`.
        column, slot, tree: int32, shape (n,): generation, row of boxes, and number of the tree.
        parent: int32, shape (n,): number of the backing file, -1 for none or for the back edge of a loop.
        back_edges: Per loop: numbers of the image whose link closes it and of the backing file that it names.
        columns, trees: How many there are.
    """

    images: tuple[ImageId, ...]
    index: Mapping[ImageId, int]
    column: NDArray[np.int32]
    slot: NDArray[np.int32]
    tree: NDArray[np.int32]
    parent: NDArray[np.int32]
    back_edges: tuple[tuple[int, int], ...]
    columns: int
    trees: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the boxes stand, in cells.

    Attributes:
        placement: What was laid out.
        metrics: The sizes used.
        x, y: int32, shape (n,): top left cell of each box.
        width, height: Size of the whole picture.
    """

    placement: Placement
    metrics: Metrics
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    width: int
    height: int

    @property
    def middle(self) -> NDArray[np.int32]:
        """Row of each box at which its links start and end; int32, shape (n,)."""
        return self.y + self.metrics.height // 2

    def at(self, x: int, y: int) -> ImageId | None:
        """Give the image whose box holds a cell, or None."""
        inside = (self.x <= x) & (x < self.x + self.metrics.width) & (self.y <= y) & (y < self.y + self.metrics.height)
        found = np.flatnonzero(inside)
        return self.placement.images[int(found[0])] if len(found) else None


def place(graph: ChainGraph) -> Placement:
    """Find each image's column and slot."""
    images = list(graph)
    number = {image: n for n, image in enumerate(images)}
    backing = [-1] * len(images)
    for overlay, file in graph.links:
        backing[number[overlay]] = number[file]
    paths = [natural(str(graph[image].path)) for image in images]
    in_loop, closing = _cut_loops(backing, paths)
    for child, _ in closing:
        backing[child] = -1
    children: list[list[int]] = [[] for _ in images]
    for child, parent in enumerate(backing):
        if parent >= 0:
            children[parent].append(child)
    for family in children:
        family.sort(key=lambda n: (n not in in_loop, paths[n]))
    roots = [n for n, parent in enumerate(backing) if parent < 0]
    order, column, tree = _walk(roots, children)
    slot = _slots(order, children, backing, tree)
    rank = {old: new for new, old in enumerate(order)}
    return Placement(
        images=tuple(images[n] for n in order),
        index={images[n]: rank[n] for n in order},
        column=np.array([column[n] for n in order], np.int32),
        slot=np.array([slot[n] for n in order], np.int32),
        tree=np.array([tree[n] for n in order], np.int32),
        parent=np.array([rank[backing[n]] if backing[n] >= 0 else -1 for n in order], np.int32),
        back_edges=tuple((rank[a], rank[b]) for a, b in closing),
        columns=max(column, default=-1) + 1,
        trees=len(roots),
    )


def fit(placement: Placement, zoom: Zoom, width: int, longest: int) -> Metrics:
    """Choose sizes for a zoom so that the picture uses the width that there is; names and badges stay readable.

    Args:
        placement: What shall be shown.
        zoom: CARD, BOX or PILL.
        width: Columns of the window; 0 when it is not known.
        longest: Cells of the longest name.
    """
    limits = LIMITS[zoom]
    least = min(max(longest + _AROUND_NAME[zoom], limits.least), limits.most)
    longest = max(longest, _LEAST_NAME)
    box, gap = share_width(zoom, placement.columns, placement.columns - 1, width - 4, longest, least=least)
    return Metrics(zoom, box, limits.height, gap, limits.gap_y, limits.tree_gap)


def share_width(
    zoom: Zoom, boxes: int, gaps: int, width: int, longest: int, *, least: int | None = None
) -> tuple[int, int]:  # fmt: skip
    """Share a width among boxes and the gaps between them.

    Returns:
        Width of a box and of a gap; together they may be wider than `width` when even the least does not fit.
    """
    limits = LIMITS[zoom]
    floor = limits.least if least is None else least
    wish = min(max(longest + limits.padding, floor), limits.most)
    if not gaps or not boxes:
        return wish, GAP_USUAL
    tight, roomy = ((width - gaps * gap) // boxes for gap in (GAP_LEAST[zoom], GAP_USUAL))
    box = max(floor, min(wish, tight))
    if zoom is Zoom.CARD:
        box = max(box, min(roomy, limits.most))
    gap = (width - boxes * box) // gaps
    return box, max(GAP_LEAST[zoom], min(gap, GAP_MOST[zoom]))


def arrange(placement: Placement, metrics: Metrics) -> Layout:
    """Turn columns and slots into cells."""
    loop_trees = np.zeros(placement.trees, np.int32)
    for child, _ in placement.back_edges:
        loop_trees[placement.tree[child]] = LOOP_ROWS
    above = np.cumsum(loop_trees)
    x = metrics.margin + placement.column * (metrics.width + metrics.gap_x)
    y = placement.slot * (metrics.height + metrics.gap_y) + placement.tree * metrics.tree_gap
    y = y + above[placement.tree] if placement.trees else y
    return Layout(
        placement,
        metrics,
        x.astype(np.int32),
        y.astype(np.int32),
        width=int(x.max()) + metrics.width + metrics.margin if len(x) else 0,
        height=int(y.max()) + metrics.height if len(y) else 0,
    )


def lay_out(placement: Placement, zoom: Zoom, width: int, height: int, longest: int) -> Layout:
    """Lay a forest out for a window; AUTO takes the largest zoom at which all of it fits, PILL when none does."""
    if zoom is not Zoom.AUTO:
        return arrange(placement, fit(placement, zoom, width, longest))
    for candidate in (Zoom.CARD, Zoom.BOX):
        layout = arrange(placement, fit(placement, candidate, width, longest))
        if layout.width <= width and layout.height <= height:
            return layout
    return arrange(placement, fit(placement, Zoom.PILL, width, longest))


def _cut_loops(backing: Sequence[int], paths: Sequence[Any]) -> tuple[frozenset[int], list[tuple[int, int]]]:
    """Find the loops; of each, the image with the first path becomes the root and its link the back edge."""
    seen = [0] * len(backing)
    members: set[int] = set()
    closing: list[tuple[int, int]] = []
    for start in range(len(backing)):
        path: list[int] = []
        node = start
        while node >= 0 and not seen[node]:
            seen[node] = start + 1
            path.append(node)
            node = backing[node]
        if node >= 0 and seen[node] == start + 1 and path:
            loop = path[path.index(node) :]
            root = min(loop, key=lambda n: paths[n])
            members.update(loop)
            closing.append((root, backing[root]))
    return frozenset(members), closing


def _walk(roots: Sequence[int], children: Sequence[Sequence[int]]) -> tuple[list[int], list[int], list[int]]:
    """Walk every tree from its root: the order (backing files first), and column and tree per image."""
    column, tree = [0] * len(children), [0] * len(children)
    order: list[int] = []
    for number, root in enumerate(roots):
        stack = [root]
        while stack:
            node = stack.pop()
            order.append(node)
            tree[node] = number
            for child in reversed(children[node]):
                column[child] = column[node] + 1
                stack.append(child)
    return order, column, tree


def _slots(
    order: Sequence[int], children: Sequence[Sequence[int]], backing: Sequence[int], tree: Sequence[int]
) -> list[int]:
    offset = _pack(order, children)
    slot = [0] * len(order)
    bottom, current, start = -1, -1, 0
    for node in order:
        if tree[node] != current:
            current, start = tree[node], bottom + 1
        slot[node] = slot[backing[node]] + offset[node] if backing[node] >= 0 else start
        bottom = max(bottom, slot[node])
    return slot


@dataclass(slots=True)
class _Contour:
    """First and last slot of a subtree per column, its own column last; `shift` is to be added to both."""

    top: list[int]
    bottom: list[int]
    shift: int = 0


def _pack(order: Sequence[int], children: Sequence[Sequence[int]]) -> list[int]:
    """Give each image's slot relative to its backing file's, subtrees moved up as far as they can."""
    offset = [0] * len(order)
    contours: dict[int, _Contour] = {}
    for node in reversed(order):
        family = children[node]
        if not family:
            contours[node] = _Contour([0], [0])
            continue
        merged = contours.pop(family[0])
        for child in family[1:]:
            contour = contours.pop(child)
            offset[child] = _clearance(merged, contour)
            contour.shift += offset[child]
            merged = _stack(merged, contour)
        merged.top.append(-merged.shift)
        merged.bottom.append(-merged.shift)
        contours[node] = merged
    return offset


def _clearance(upper: _Contour, lower: _Contour) -> int:
    depth = min(len(upper.bottom), len(lower.top))
    return max(upper.bottom[-n] + upper.shift + 1 - lower.top[-n] - lower.shift for n in range(1, depth + 1))


def _stack(upper: _Contour, lower: _Contour) -> _Contour:
    """Merge two contours that do not overlap; the shallower one is written into the deeper one."""
    if len(lower.top) > len(upper.top):
        move = upper.shift - lower.shift
        for n in range(1, len(upper.top) + 1):
            lower.top[-n] = upper.top[-n] + move
        return lower
    move = lower.shift - upper.shift
    for n in range(1, len(lower.top) + 1):
        upper.bottom[-n] = lower.bottom[-n] + move
    return upper
