"""The state behind the widget: what is shown, as what scene, and the canvas of a window onto it. No Textual here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain_tui.diagram.canvas import Canvas
from backchain_tui.diagram.glyphs import UNICODE
from backchain_tui.diagram.ink import Ink
from backchain_tui.diagram.scene import View
from backchain_tui.diagram.text import EMPTY, make_scene
from backchain_tui.formatting import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Plan
    from backchain_tui.diagram.boxes import Sparkline
    from backchain_tui.diagram.glyphs import GlyphSet
    from backchain_tui.diagram.layout import Zoom
    from backchain_tui.diagram.scene import Scene

_NAMED = 12
"""Images that were left out and are named at most where the mouse is over them."""


class Picture:
    """A forest, or an operation on it, and how far its job is.

    Attributes:
        graph: The forest, or None before there is one.
        plan: The operation that is shown instead, or None.
        scene: The layout, or None when there is nothing to lay out.
        glyphs: The characters it is drawn in.
        sparklines, marks, progress, phase, busy, settled, pending, removed, size: As in `View`.
    """

    def __init__(self) -> None:
        self.graph: ChainGraph | None = None
        self.plan: Plan | None = None
        self.scene: Scene | None = None
        self.glyphs: GlyphSet = UNICODE
        self.sparklines: Mapping[ImageId, Sparkline] = {}
        self.marks: Mapping[ImageId, str] = {}
        self.phase = 0.0
        self.pending = False
        self.forget_job()

    def forget_job(self) -> None:
        """Show no job."""
        self.progress: Mapping[ImageId, float] | None = None
        self.busy = True
        self.settled = False
        self.removed: frozenset[ImageId] = frozenset()
        self.size: int | None = None

    def lay_out(self, zoom: Zoom, width: int, height: int, cursor: ImageId | None = None) -> None:
        """Make the scene for a window, in which the cursor is seen; none while the window has no size."""
        subject = self.plan or self.graph
        self.scene = None
        if subject is not None and width > 0 and height > 0:
            self.scene = make_scene(subject, zoom, width, height, self.glyphs, cursor)

    def hides(self, image: ImageId) -> bool:
        """Say whether an image belongs into the picture, but was left out of it for want of room."""
        scene = self.scene
        return scene is not None and scene.rect(image) is not None and not scene.boxed(image)

    @property
    def waiting(self) -> bool:
        """Whether there is something to lay out that had no window so far."""
        return self.scene is None and (self.plan is not None or bool(self.graph))

    def view(self, cursor: ImageId | None, *, blast: bool, in_use: frozenset[ImageId]) -> View:
        """Give what is shown now, apart from the layout.

        Args:
            cursor: The image under the cursor.
            blast: Whether to light what would break if it changed.
            in_use: Images that another process holds open.
        """
        lit: frozenset[ImageId] = frozenset()
        breaks: frozenset[ImageId] = frozenset()
        if self.graph is not None and cursor is not None and cursor in self.graph:
            lit = frozenset(self.graph.chain(cursor)) if self.plan is None else lit
            breaks = self.graph.without_invalid_links().dependents(cursor) if blast else breaks
        return View(
            cursor, lit, breaks, self.marks, in_use, self.sparklines, self.progress, self.phase, self.busy,
            self.settled, self.pending, self.removed, self.size,
        )  # fmt: skip

    def draw(self, view: View, width: int, height: int, left: int, top: int) -> Canvas:
        """Draw a window of width x height cells whose top left cell is (left, top) of the picture."""
        canvas = Canvas(width, height, left, top)
        if self.scene is not None:
            self.scene.paint(canvas, self.glyphs, view)
        elif self.graph is not None and not len(self.graph):
            text = EMPTY[: max(width - 2, 0)]
            canvas.put(left + (width - len(text)) // 2, top + height // 2, text, Ink.NOTE)
        return canvas

    def at(self, x: int, y: int) -> tuple[ImageId, ...]:
        """Give the image whose box holds a cell of the picture, or those that were left out there."""
        return self.scene.at(x, y) if self.scene is not None else ()

    def words(self, images: tuple[ImageId, ...]) -> str:
        """Say which images stand at one place: the path of one, the names of those that were left out."""
        infos = [
            self.plan.info(i) if self.plan is not None else self.graph[i] for i in images if self.graph is not None
        ]
        if len(infos) == 1:
            return infos[0].display_path
        return f"{names([i.label for i in infos], at_most=_NAMED)}. A click shows the next."
