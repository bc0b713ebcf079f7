"""Where the cursor goes: along links to the left and right, to the nearest box above and below.

Along the links it also comes to images that were left out of a figure: their box opens when it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain_tui.diagram.scene import ForestScene

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textual.geometry import Offset, Size

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain_tui.diagram.boxes import Rect
    from backchain_tui.diagram.scene import Scene

_SIDEWAYS = 3
"""Rows that a column to the side counts for: a box further down in line is nearer than one beside it."""


def step(
    where: str, graph: ChainGraph, scene: Scene, image: ImageId | None, visited: Mapping[ImageId, ImageId], rows: int
) -> ImageId | None:  # fmt: skip
    """Give the image to the left or right, up or down of `image`, or at the home or end of its chain; None if none.

    Pages are of `rows` rows. From the base, home leads to the first image of the forest, and likewise end to the last.
    From no image, or one that is not in the picture, every way leads to the first that has a box.
    """
    if image is None or image not in graph or scene.rect(image) is None:
        return next(iter(scene.images()), None)
    match where:
        case "left":
            return backing(graph, scene, image)
        case "right":
            return overlay(graph, scene, image, visited)
        case "home" | "end":
            there = base(graph, scene, image) if where == "home" else leaf(graph, scene, image, visited)
            return outermost(where, scene) or there if there == image else there
        case "pageup" | "pagedown":
            return page(scene, image, -rows if where == "pageup" else rows)
        case _:
            return vertical(scene, image, -1 if where == "up" else 1)


def backing(graph: ChainGraph, scene: Scene, image: ImageId) -> ImageId | None:
    """Give the nearest image below `image` in its chain that is in the picture, or None."""
    return next((i for i in graph.chain(image)[1:] if scene.rect(i) is not None), None)


def overlay(
    graph: ChainGraph, scene: Scene, image: ImageId, visited: Mapping[ImageId, ImageId]
) -> ImageId | None:  # fmt: skip
    """Give the overlay of `image` to step to: the one last visited, else that on its row, else the nearest."""
    shown = [o for o in graph.overlays_of(image) if scene.rect(o) is not None]
    return _preferred(scene, image, shown, visited.get(image)) if shown else None


def _preferred(scene: Scene, image: ImageId, shown: list[ImageId], visited: ImageId | None) -> ImageId:
    here = scene.rect(image)
    if visited in shown or here is None:
        return visited if visited in shown and visited is not None else shown[0]
    middle = here.middle

    def distance(other: ImageId) -> int:
        rect = scene.rect(other)
        return abs(rect.middle - middle) if rect is not None else 0

    return min(shown, key=distance)


def vertical(scene: Scene, image: ImageId, step: int) -> ImageId | None:
    """Give the nearest box above (`step` -1) or below (1), or None."""
    here = scene.rect(image)
    if here is None:
        return None
    best: tuple[float, ImageId] | None = None
    for other in scene.images():
        rect = scene.rect(other)
        if rect is None or (rect.middle - here.middle) * step <= 0:
            continue
        cost = abs(rect.middle - here.middle) / max(here.height, 1)
        cost += _SIDEWAYS * abs(rect.center - here.center) / max(here.width, 1)
        if best is None or cost < best[0]:
            best = (cost, other)
    return best[1] if best is not None else None


def page(scene: Scene, image: ImageId, rows: int) -> ImageId | None:
    """Give the box nearest to the place that many rows below (above when negative), of those on that side, or None."""
    here = scene.rect(image)
    if here is None:
        return None
    costs: dict[ImageId, float] = {}
    for other in scene.images():
        rect = scene.rect(other)
        if rect is not None and (rect.middle - here.middle) * rows > 0:
            away = abs(rect.middle - here.middle - rows) / max(here.height, 1)
            costs[other] = away + _SIDEWAYS * abs(rect.center - here.center) / max(here.width, 1)
    return min(costs, key=lambda i: costs[i], default=None)


def outermost(where: str, scene: Scene) -> ImageId | None:
    """Give the first ("home") or the last image of a forest; None in the picture of an operation."""
    images = scene.images() if isinstance(scene, ForestScene) else ()
    return (images[0] if where == "home" else images[-1]) if images else None


def base(graph: ChainGraph, scene: Scene, image: ImageId) -> ImageId:
    """Give the lowest image of the chain that is in the picture."""
    return next((i for i in reversed(graph.chain(image)) if scene.rect(i) is not None), image)


def leaf(graph: ChainGraph, scene: Scene, image: ImageId, visited: Mapping[ImageId, ImageId]) -> ImageId:
    """Follow the overlays from `image` up to an active layer."""
    seen = {image}
    while (further := overlay(graph, scene, image, visited)) is not None and further not in seen:
        seen.add(further)
        image = further
    return image


def into(fold: tuple[ImageId, ...], graph: ChainGraph, image: ImageId | None) -> ImageId:
    """Give the image, among several that were left out at one place, that comes next from `image`.

    Along a chain that is the nearest one; among overlays of one image the next in line, so that all have their turn.
    """
    if image is not None and image in graph and fold[0] in graph:
        hidden = frozenset(fold)
        if below := next((i for i in graph.chain(image) if i in hidden), None):
            return below
        backing = graph.backing_of(fold[0])
        family = graph.overlays_of(backing) if backing is not None else ()
        if image in family:
            return next((i for i in family[family.index(image) + 1 :] if i in hidden), fold[0])
    return fold[0]


def start(graph: ChainGraph, scene: Scene | None, width: int) -> ImageId | None:
    """Give the image on which the cursor starts: the active layer of the longest chain that is seen from the left.

    Args:
        graph: The forest.
        scene: Its layout, or None before there is one: then the longest chain counts, however far it reaches.
        width: Columns of the window.
    """
    leaves = [i for i in graph.leaves() if graph[i].readable] or list(graph)
    rects = ((i, scene.rect(i)) for i in leaves) if scene is not None else ()
    seen = [image for image, rect in rects if rect is not None and rect.right <= width]
    return max(seen or leaves, key=lambda i: len(graph.chain(i)), default=None)


def window_on(rect: Rect, size: Size, offset: Offset) -> tuple[int, int]:
    """Give the scroll offset (x, y) from which a box is seen with a little around it, as near to `offset` as can be.

    Args:
        rect: The box, in cells of the picture.
        size: The window's, in cells.
        offset: Where the window is now.
    """
    x = _shifted(offset.x, size.width, rect.x - 4, rect.right + 4)
    return x, _shifted(offset.y, size.height, rect.y - 1, rect.below + 1)


def _shifted(offset: int, size: int, first: int, last: int) -> int:
    """Give the scroll offset at which [first, last) is seen, its start when it is larger than the window.

    A window that goes back goes all the way when that shows it, too: a picture is begun to be read at its corner.
    """
    if first < offset or last - first > size:
        return 0 if last <= size else max(first, 0)
    return max(last - size, offset) if last > offset + size else offset
