"""From a forest or an operation to its scene; and the diagram as plain text, to compare it with what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.graph import ChainGraph
from backchain_tui.diagram.canvas import Canvas
from backchain_tui.diagram.glyphs import glyph_set
from backchain_tui.diagram.layout import Zoom, lay_out, place
from backchain_tui.diagram.measure import cell_width, clean
from backchain_tui.diagram.operation import OperationScene
from backchain_tui.diagram.scene import ForestScene, Scene, View
from backchain_tui.diagram.staging import concerned, figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backchain.image import ImageId
    from backchain.plan import Plan
    from backchain_tui.diagram.glyphs import GlyphSet

EMPTY = "no images here: give an image, or a folder that holds some"
"""What an empty forest says."""
UNBOUNDED = 1_000_000
"""Height of a window for a picture that may be as tall as it wants."""


def longest_name(graph: ChainGraph, images: Iterable[ImageId]) -> int:
    """Give the cells of the longest label among images."""
    return max((cell_width(clean(graph[i].label)) for i in images), default=0)


def make_scene(
    subject: ChainGraph | Plan, zoom: Zoom, width: int, height: int, glyphs: GlyphSet, seen: ImageId | None = None
) -> Scene | None:  # fmt: skip
    """Lay out a forest or an operation for a window; None for a forest without images.

    An operation stands in the middle of a window that is taller; a forest at its top. An operation may leave images
    out, but not the one that is to be seen.
    """
    if isinstance(subject, ChainGraph):
        if not len(subject):
            return None
        layout = lay_out(place(subject), zoom, width, height, longest_name(subject, subject))
        return ForestScene(subject, layout)
    longest = max(cell_width(clean(subject.info(i).label)) for i in concerned(subject))
    drawn = figure(subject, zoom, width, height, longest, seen)
    top = max(0, (height - drawn.height) // 2) if height < UNBOUNDED else 0
    return OperationScene(drawn, braille=glyphs.braille, top=top)


def render_text(
    subject: ChainGraph | Plan,
    width: int = 80,
    zoom: Zoom = Zoom.AUTO,
    *,
    ascii_only: bool = False,
    height: int = UNBOUNDED,
    view: View | None = None,
) -> str:
    """Draw a forest or an operation as text.

    Args:
        subject: A graph, or a plan (drawn as in Figures 4 and 5).
        width: Columns to fit it into; what cannot be made narrower is wider.
        zoom: Size of the boxes; AUTO takes the largest that fits.
        ascii_only: Keep to ASCII.
        height: Rows to fit it into.
        view: Cursor, marks, sparklines and progress.

    Returns:
        Lines, each ended by a newline.
    """
    glyphs = glyph_set(ascii_only=ascii_only)
    scene = make_scene(subject, zoom, width, height, glyphs)
    if scene is None:
        return EMPTY + "\n"
    canvas = Canvas(scene.width, scene.height)
    scene.paint(canvas, glyphs, view or View())
    return canvas.text()
