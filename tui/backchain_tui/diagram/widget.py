"""The diagram as a Textual widget.

`ChainDiagram` shows a forest, or an operation on it (BEFORE and AFTER with the data running between them). It draws
only its window, and refreshes only rows that changed. It owns no timer and reads no clock: the screen's one timer calls
`advance`, and the same calls always give the same picture.

    diagram = ChainDiagram(id="diagram")
    diagram.show_graph(graph, sparklines)        # the forest; sparklines may come later: set_sparklines
    diagram.show_plan(plan)                      # the operation; None goes back to the forest; pending=True: a sketch
    diagram.mark({base: "base", top: "top"})     # words on boxes; {} removes them
    diagram.cursor = image                       # ImageId | None; brought into view; its ancestry is lit
    diagram.blast = True                         # lights what would break if the cursor's image changed
    diagram.zoom = Zoom.AUTO | CARD | BOX | PILL # also zoom_by(1), zoom_by(-1), cycle_zoom(); shown_zoom tells
    diagram.in_use = frozenset({image})          # badge IN USE
    diagram.set_job({source: 0.4}, busy=True)    # share copied per source; busy=False while paused; None: no job;
                                                 # phase=...: advance at the same time
    diagram.advance(phase)                       # float that grows by about 1 a second; moves the colours
    diagram.settle(size)                         # the job is done: flows at rest, the upper row faded
    diagram.strike({image})                      # these were removed afterwards: struck through below
    diagram.ascii = True                         # no Unicode

Messages: `CursorMoved(image)`, `Activated(image)` (enter, or a click on the cursor's box), `Hovered(image | None)`.
All have `.diagram` and `.image`. Setting `cursor` from outside posts CursorMoved only when it changes.
Keys: arrows, page up and down, home, end, enter; shift with arrows, the wheel, and dragging scroll.
A click on "… 5 more …" puts the cursor on the next image left out, which has a box as long as the cursor is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from backchain_tui.diagram import walk
from backchain_tui.diagram.glyphs import glyph_set
from backchain_tui.diagram.ink import Ink
from backchain_tui.diagram.layout import Zoom
from backchain_tui.diagram.picture import Picture
from backchain_tui.theme import Palette
from backchain_tui.widgets.scrollbars import PacedScrollView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from textual import events

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Plan
    from backchain_tui.diagram.boxes import Sparkline
    from backchain_tui.diagram.canvas import Canvas

_SIZES = (Zoom.PILL, Zoom.BOX, Zoom.CARD)
_PAN_COLUMNS, _PAN_ROWS = 8, 3


class ChainDiagram(PacedScrollView, can_focus=True):
    """A forest of images, or an operation on it."""

    DEFAULT_CSS = """
    ChainDiagram {
        overflow: auto auto;
        scrollbar-size: 1 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "walk('left')", "Backing file", show=False, id="diagram.left"),
        Binding("right", "walk('right')", "Overlay", show=False, id="diagram.right"),
        Binding("up", "walk('up')", "Image above", show=False, id="diagram.up"),
        Binding("down", "walk('down')", "Image below", show=False, id="diagram.down"),
        Binding("home", "walk('home')", "Base of the chain", show=False, id="diagram.base"),
        Binding("end", "walk('end')", "Active layer", show=False, id="diagram.active"),
        Binding("pageup", "walk('pageup')", "A window up", show=False, id="diagram.page-up"),
        Binding("pagedown", "walk('pagedown')", "A window down", show=False, id="diagram.page-down"),
        Binding("enter", "activate", "Choose", show=False, id="diagram.activate"),
        Binding("shift+left", "pan(-1, 0)", "Pan left", show=False, id="diagram.pan-left"),
        Binding("shift+right", "pan(1, 0)", "Pan right", show=False, id="diagram.pan-right"),
        Binding("shift+up", "pan(0, -1)", "Pan up", show=False, id="diagram.pan-up"),
        Binding("shift+down", "pan(0, 1)", "Pan down", show=False, id="diagram.pan-down"),
    ]

    cursor: reactive[ImageId | None] = reactive(None, repaint=False)
    zoom: reactive[Zoom] = reactive(Zoom.AUTO, repaint=False)
    blast: reactive[bool] = reactive(False, repaint=False)
    in_use: reactive[frozenset[ImageId]] = reactive(frozenset["ImageId"](), repaint=False)
    ascii: reactive[bool] = reactive(False, repaint=False)

    class DiagramMessage(Message):
        """A message of a diagram."""

        def __init__(self, diagram: ChainDiagram) -> None:
            super().__init__()
            self.diagram = diagram

        @property
        def control(self) -> ChainDiagram:
            """The diagram that sent it."""
            return self.diagram

    class ImageMessage(DiagramMessage):
        """A message about one image of a diagram."""

        def __init__(self, diagram: ChainDiagram, image: ImageId) -> None:
            super().__init__(diagram)
            self.image = image

    class CursorMoved(ImageMessage):
        """The cursor is on another image."""

    class Activated(ImageMessage):
        """The user chose an image: enter, or a click on the box under the cursor."""

    class Hovered(DiagramMessage):
        """The mouse is over another image, or over none."""

        def __init__(self, diagram: ChainDiagram, image: ImageId | None) -> None:
            super().__init__(diagram)
            self.image = image

    def __init__(self, *, ascii_only: bool = False, **options: Any) -> None:
        """Make an empty diagram.

        Args:
            ascii_only: Keep to ASCII.
            options: For `Widget`: name, id, classes, disabled.
        """
        super().__init__(**options)
        self._picture = Picture()
        self._canvas: Canvas | None = None
        self._palette: Palette | None = None
        self._visited: dict[ImageId, ImageId] = {}
        self._hovered: tuple[ImageId, ...] = ()
        self._dragged: tuple[int, int] | None = None
        self._moved = self._opened = False
        self._picture.glyphs = glyph_set(ascii_only=ascii_only)
        self.set_reactive(ChainDiagram.ascii, ascii_only)

    # --- what is shown --------------------------------------------------------------------------------------------

    def show_graph(self, graph: ChainGraph, sparklines: Mapping[ImageId, Sparkline] | None = None) -> None:
        """Show a forest; the cursor stays on its image when that is still there."""
        picture = self._picture
        picture.graph, picture.plan = graph, None
        if sparklines is not None:
            picture.sparklines = dict(sparklines)
        picture.forget_job()
        self._lay_out()
        if self.cursor not in graph:
            self.cursor = next(iter(graph), None)
        self._show_cursor()

    def show_plan(self, plan: Plan | None, *, pending: bool = False) -> None:
        """Show an operation instead of the forest; None goes back.

        Args:
            plan: The operation.
            pending: It is not known yet what is to be copied.
        """
        if plan is None and self.plan is None:
            return
        self._picture.plan, self._picture.pending = plan, pending
        self._picture.forget_job()
        self._lay_out()
        self._show_cursor()

    def set_sparklines(self, sparklines: Mapping[ImageId, Sparkline]) -> None:
        """Add sparklines that were read later."""
        self._picture.sparklines = {**self._picture.sparklines, **sparklines}
        self._paint()

    def mark(self, words: Mapping[ImageId, str]) -> None:
        """Put words on boxes, such as those at the ends of the range that is being chosen, in place of all before."""
        self._picture.marks = dict(words)
        self._paint()

    def set_job(
        self, progress: Mapping[ImageId, float] | None, *, busy: bool = True, phase: float | None = None
    ) -> None:
        """Show how far a job is.

        Args:
            progress: Share copied per source, 0.0 to 1.0; None when there is no job.
            busy: Whether data moves just now.
            phase: As in `advance`, so that a frame is painted once; None leaves it.
        """
        picture = self._picture
        picture.phase = picture.phase if phase is None else phase
        picture.progress = None if progress is None else dict(progress)
        picture.busy, picture.settled = busy, False
        self._paint()

    def advance(self, phase: float) -> None:
        """Move the colours of the flows; of no effect on a forest, or when the job has settled."""
        self._picture.phase = phase
        if self.plan is not None and not self._picture.settled:
            self._paint()

    def settle(self, size: int | None) -> None:
        """Show the operation as done; `size` is what its target takes on disk now, in bytes."""
        self._picture.settled, self._picture.size = True, size
        self._paint()

    def strike(self, images: Iterable[ImageId]) -> None:
        """Strike images through on the lower row: they were removed after the job."""
        self._picture.removed = frozenset(images)
        self._paint()

    def zoom_by(self, step: int) -> None:
        """Make the boxes larger (1) or smaller (-1)."""
        place = _SIZES.index(self.shown_zoom) + step
        self.zoom = _SIZES[max(0, min(place, len(_SIZES) - 1))]

    def cycle_zoom(self) -> None:
        """Go on to the next zoom: auto, card, box, pill."""
        order = list(Zoom)
        self.zoom = order[(order.index(self.zoom) + 1) % len(order)]

    @property
    def shown_zoom(self) -> Zoom:
        """The zoom that is seen now; never AUTO."""
        return Zoom.CARD if self._picture.scene is None else self._picture.scene.zoom

    @property
    def plan(self) -> Plan | None:
        """The operation that is shown, or None."""
        return self._picture.plan

    @property
    def palette(self) -> Palette:
        """The palette for what the application shows now."""
        if self._palette is None:
            self._palette = Palette.of(self.app, self.background_colors[1].hex6)
        return self._palette

    # --- reactives ------------------------------------------------------------------------------------------------

    def watch_cursor(self, old: ImageId | None, new: ImageId | None) -> None:
        """Light the cursor's ancestry, show its box, and tell."""
        del old
        graph = self._picture.graph
        if new is not None and graph is not None and new in graph:
            chain = graph.chain(new)
            self._visited.update(zip(chain[1:], chain, strict=False))
            if (hidden := self._picture.hides(new)) or self._opened:
                self._opened = hidden
                self._lay_out()
            self._show_cursor()
            self.post_message(self.CursorMoved(self, new))
        self._paint()

    def watch_zoom(self) -> None:
        """Lay out anew."""
        self.on_resize()

    def watch_blast(self) -> None:
        """Light what would break."""
        self._paint()

    def watch_in_use(self) -> None:
        """Show other badges."""
        self._paint()

    def watch_ascii(self) -> None:
        """Lay out anew with other glyphs."""
        self._picture.glyphs = glyph_set(ascii_only=self.ascii)
        self._lay_out()

    # --- drawing --------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Follow the application's theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._change_theme())

    def _change_theme(self) -> None:
        self._palette = None
        self.refresh()

    def on_resize(self) -> None:
        """Fit the picture into the new window."""
        self._lay_out()
        self._show_cursor()

    def _lay_out(self) -> None:
        self._canvas = None
        room = self.container_size  # scrollbars included: whether they are needed depends on the layout
        self._picture.lay_out(self.zoom, room.width, room.height, self.cursor)
        scene = self._picture.scene
        self.virtual_size = Size(scene.width, scene.height) if scene is not None else Size(0, 0)
        self.refresh()

    def _draw(self) -> Canvas:
        view = self._picture.view(self.cursor, blast=self.blast, in_use=self.in_use)
        return self._picture.draw(view, *self.size, *self.scroll_offset)

    def _paint(self) -> None:
        """Draw the window and refresh the rows that changed."""
        if not self.is_mounted or not self.size.width or not self.size.height:
            return
        old, self._canvas = self._canvas, self._draw()
        if old is None or not self._same_window(old):
            self.refresh()
        elif rows := self._canvas.changed_rows(old).tolist():
            self.refresh(*(Region(0, row, self.size.width, 1) for row in rows))

    def _same_window(self, canvas: Canvas) -> bool:
        offset, size = self.scroll_offset, self.size
        return (canvas.left, canvas.top, canvas.width, canvas.height) == (offset.x, offset.y, size.width, size.height)

    def render_line(self, y: int) -> Strip:
        """Give one row of the window."""
        if y == 0 and self._picture.waiting and self.container_size.area:
            self.call_next(self.on_resize)  # no resize comes when Textual was asked for the place before it was given
        size = self.size
        if y >= size.height or not size.width:
            return Strip.blank(size.width, self.palette.style(Ink.BLANK))
        if self._canvas is None or not self._same_window(self._canvas):
            self._canvas = self._draw()
        style = self.palette.style
        return Strip([Segment(text, style(ink)) for text, ink in self._canvas.runs(y)], size.width)

    # --- keys -----------------------------------------------------------------------------------------------------

    def action_walk(self, where: str) -> None:
        """Move the cursor: left, right, up, down, home, end, pageup or pagedown."""
        graph, scene = self._picture.graph, self._picture.scene
        if graph is not None and scene is not None and len(graph):
            self.cursor = walk.step(where, graph, scene, self.cursor, self._visited, self.size.height) or self.cursor

    def action_activate(self) -> None:
        """Choose the image under the cursor."""
        if self.cursor is not None:
            self.post_message(self.Activated(self, self.cursor))

    def action_pan(self, columns: int, rows: int) -> None:
        """Scroll the window."""
        self.scroll_relative(columns * _PAN_COLUMNS, rows * _PAN_ROWS, animate=False, force=True)

    def _show_cursor(self) -> None:
        """Scroll until the cursor's box is in the window, with a little around it."""
        scene = self._picture.scene
        rect = scene.rect(self.cursor) if scene is not None and self.cursor is not None else None
        if rect is None:
            return
        x, y = walk.window_on(rect, self.size, self.scroll_offset)
        self.scroll_to(x, y, animate=False, force=True)

    # --- mouse ----------------------------------------------------------------------------------------------------

    def _images_at(self, event: events.MouseEvent) -> tuple[ImageId, ...]:
        offset = self.scroll_offset
        place = event.get_content_offset(self)
        return () if place is None else self._picture.at(place.x + offset.x, place.y + offset.y)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag."""
        self._dragged, self._moved = (event.screen_x, event.screen_y), False
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the picture, or tell over which image the mouse is."""
        if self._dragged is not None and event.button:
            x, y = self._dragged
            if (x, y) != (event.screen_x, event.screen_y):
                self._moved = True
                self.scroll_relative(x - event.screen_x, y - event.screen_y, animate=False, force=True)
                self._dragged = (event.screen_x, event.screen_y)
            return
        self._hover(self._images_at(event))

    def on_mouse_up(self) -> None:
        """End dragging."""
        self._dragged = None
        self.release_mouse()

    def on_leave(self) -> None:
        """The mouse is over no image any more."""
        self._hover(())

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the image, or choose it when it is there; where some were left out, open the next."""
        images, graph = self._images_at(event), self._picture.graph
        if not images or graph is None or self._moved:
            return
        image = walk.into(images, graph, self.cursor) if len(images) > 1 else images[0]
        if image == self.cursor:
            self.action_activate()
        self.cursor = image

    def _hover(self, images: tuple[ImageId, ...]) -> None:
        if images == self._hovered:
            return
        self._hovered = images
        self.tooltip = Text(self._picture.words(images)) if images else None
        self.post_message(self.Hovered(self, images[0] if len(images) == 1 else None))
