"""The forest: every image with what backs it, details of the one under the cursor, and the cluster map."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from textual.containers import Container
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from backchain.errors import BackchainError
from backchain.filename import printable
from backchain_tui import collector, describe
from backchain_tui import formatting as fmt
from backchain_tui.actions import Where
from backchain_tui.background import in_background
from backchain_tui.recovery_words import headline
from backchain_tui.screens.picture import PictureScreen
from backchain_tui.session import read_sparkline
from backchain_tui.widgets.bars import KeyBar, TitleBar
from backchain_tui.widgets.panes import Panes

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain_tui.session import Session
    from backchain_tui.watching import Sight
    from backchain_tui.widgets.rows import RowsPanel

_SPARKLINES = 300
"""Images that get a sparkline at most; each costs a look at its tables."""

_SPARKLINES_AT_ONCE = 16

LOOK_EVERY = 2.0
"""Seconds between two looks at whether the files are still as they were read."""

_REST = 20
"""Of the time, at most one part in so many is spent on looking and on reading anew."""


class ForestScreen(PictureScreen):
    """The part of the first screen that reads and shows."""

    @dataclass
    class GraphRead(Message):
        """The forest was read anew.

        Attributes:
            graph: The forest.
            sight: What its files look like.
            asked: Whether the user wanted that; else files have changed.
        """

        graph: ChainGraph
        sight: Sight
        asked: bool

    @dataclass
    class GraphFailed(Message):
        """The forest could not be read."""

        error: BackchainError

    def __init__(self, session: Session) -> None:
        """Make the screen for a session."""
        super().__init__(session)
        self._exact = False
        self._sight: Sight | None = None
        self._looking = False
        self._rest_until = 0.0

    def compose(self) -> ComposeResult:
        """Title, picture, keys, and room for the panes."""
        ascii_only = self.backchain.ascii_only
        yield TitleBar("reading…" if not ascii_only else "reading...")
        with Container(id="picture"):
            yield Static("Reading images…" if not ascii_only else "Reading images...", markup=False, classes="message")
        yield Panes(["Details", "Cluster map"])
        yield KeyBar()

    def on_mount(self) -> None:
        """Paint first; what there is nothing to show in yet comes then."""
        self.call_after_refresh(self._furnish)
        if self.backchain.frames:
            self.set_interval(LOOK_EVERY, self.look)

    async def _furnish(self) -> None:
        """Put in the panes, and read."""
        from backchain_tui.widgets.cluster_map import ClusterMap
        from backchain_tui.widgets.rows import RowsPanel

        cluster_map = ClusterMap(ascii_only=self.backchain.ascii_only, id="map")
        await self.panes.fill([RowsPanel("Details", id="details"), cluster_map])
        self.action_reload()

    # --- reading --------------------------------------------------------------------------------------------------

    def action_reload(self) -> None:
        """Read the files anew."""
        self.run_worker(self._read, thread=True, exclusive=True, group="read", exit_on_error=False)

    def _read(self) -> None:
        try:
            self.post_message(self._reading(asked=True))
        except BackchainError as error:
            self.post_message(self.GraphFailed(error))

    def _reading(self, *, asked: bool) -> GraphRead:
        from backchain_tui.watching import Sight

        begun = time.time_ns()
        graph = self.session.read()
        return self.GraphRead(graph, Sight(graph, self.session.known, begun, self.session.in_use), asked)

    def look(self) -> None:
        """See whether the files are still as they were read, and read them anew if not; nothing waits for it."""
        sight = self._sight
        if sight is None or self._looking or self.app.screen is not self or time.monotonic() < self._rest_until:
            return
        self._looking = True
        begun = time.monotonic()
        in_background(
            self, lambda: None if sight.holds() else self._reading(asked=False), lambda m: self._looked(m, begun),
            lambda e: self._looked(self.GraphFailed(e), begun),
        )  # fmt: skip

    def _looked(self, message: GraphRead | GraphFailed | None, begun: float) -> None:
        self._looking = False
        now = time.monotonic()
        self._rest_until = now + (now - begun) * _REST
        if self.app.screen is self and message is not None:
            self.post_message(message)

    async def on_forest_screen_graph_failed(self, message: GraphFailed) -> None:
        """Say in one line what is wrong."""
        self._sight = None  # until it is read again, which is the user's to ask for
        self.query_one(TitleBar).tell("nothing read")
        if self.graph is None:
            await self.say_in_picture(f"{message.error.title}: {message.error}")
        self.call_after_refresh(collector.resume)
        self.notify(str(message.error), title=message.error.title, severity="error", markup=False)

    async def on_forest_screen_graph_read(self, message: GraphRead) -> None:
        """Show the forest; the cursor stays, or starts on an active layer of the largest tree."""
        old, graph = self.graph, message.graph
        self.graph, self._sight = graph, message.sight
        diagram = self.diagram or await self.mount_diagram()
        if old is not None and not message.asked:
            from backchain_tui.watching import look_alike

            if look_alike(old, graph) and diagram.in_use == self.session.in_use:
                return
        if diagram.cursor is None or diagram.cursor not in graph:
            start = self._beside(old, diagram.cursor) or self._first_image(graph)
            if start is not None:
                diagram.cursor = start
        diagram.in_use = self.session.in_use
        diagram.show_graph(graph)
        self._title(graph)
        self._show_image()
        self.call_after_refresh(collector.resume)
        new = [i for i in graph if message.asked or not _is_as_it_was(graph, old, i)]
        self.run_worker(
            lambda: self._read_sparklines(graph, new), thread=True, exclusive=True, group="spark", exit_on_error=False
        )
        self._tell_around(graph, None if message.asked else old)

    def _tell_around(self, graph: ChainGraph, old: ChainGraph | None) -> None:
        """Say what was not searched, and what was interrupted, unless that was said of the forest before."""
        unseen = [line for line in graph.incomplete if old is None or line not in old.incomplete]
        if unseen:
            self.notify(fmt.heading_of(unseen), title="Not all searched", severity="warning", markup=False)
        if graph.interrupted and (old is None or graph.interrupted != old.interrupted):
            what = fmt.names([headline(r) for r in graph.interrupted], at_most=2)
            self.notify(f"{what}. Press ! to finish or undo it.", title="Interrupted", severity="warning", markup=False)

    def _beside(self, old: ChainGraph | None, image: ImageId | None) -> ImageId | None:
        """Give the image that lay next to one that is gone: an overlay of it, or the nearest below it."""
        if old is None or image is None or image not in old:
            return None
        near = (*old.overlays_of(image), *old.chain(image)[1:])
        return next((i for i in near if self.graph is not None and i in self.graph), None)

    def _first_image(self, graph: ChainGraph) -> ImageId | None:
        """Give the image on which the cursor starts: one that shows as much of the forest as there is room for."""
        from backchain_tui.diagram import walk
        from backchain_tui.diagram.glyphs import glyph_set
        from backchain_tui.diagram.layout import Zoom
        from backchain_tui.diagram.text import make_scene

        room = self.picture.content_size  # that of the diagram, which is not laid out yet
        glyphs = glyph_set(ascii_only=self.backchain.ascii_only)
        scene = make_scene(graph, Zoom.AUTO, room.width, room.height, glyphs) if room.area and len(graph) else None
        return walk.start(graph, scene, room.width)

    def _read_sparklines(self, graph: ChainGraph, images: list[ImageId]) -> None:
        worker = get_current_worker()
        lines: dict[ImageId, list[float]] = {}
        for number, image in enumerate([i for i in images if graph[i].readable][:_SPARKLINES]):
            if worker.is_cancelled:
                return
            try:
                lines[image] = read_sparkline(graph[image])
            except BackchainError:
                continue
            if number % _SPARKLINES_AT_ONCE == _SPARKLINES_AT_ONCE - 1:
                self.app.call_from_thread(self._add_sparklines, dict(lines))
        self.app.call_from_thread(self._add_sparklines, lines)

    def _add_sparklines(self, lines: dict[ImageId, list[float]]) -> None:
        self.session.sparklines.update(lines)
        if self.diagram is not None:
            self.diagram.set_sparklines(lines)

    def _title(self, graph: ChainGraph) -> None:
        trees = len(graph.trees())
        text = f"{fmt.counted(len(graph), 'image')} in {fmt.counted(trees, 'tree')}"
        paths = (p if p.name.strip(".") else p.resolve() for p in self.session.paths)  # not "." for this folder
        places = fmt.names([printable(str(p)) for p in paths], at_most=2)
        broken = fmt.counted(len(graph.interrupted), "interrupted job") if graph.interrupted else ""
        notes = [f"! {broken}" if broken else "", "lab" if self.session.lab else ""]
        self.query_one(TitleBar).tell(f"{places}: {text}", " · ".join(filter(None, notes)))
        alone = graph.chain(graph.leaves()[0]) if trees == 1 and len(graph.leaves()) == 1 else ()
        self.entitle(f"Chain of {fmt.counted(len(alone), 'image')}" if alone else f"Forest: {text}")
        to_try = "try c to merge layers down, p to pull them up · " if self.session.lab else ""
        arrow = "an arrow points to the backing file"
        self.picture.border_subtitle = fmt.ascii_text(to_try + arrow) if self.backchain.ascii_only else to_try + arrow

    # --- the image under the cursor -------------------------------------------------------------------------------

    def on_chain_diagram_cursor_moved(self) -> None:
        """Follow the cursor."""
        self._show_image()

    def on_chain_diagram_activated(self) -> None:
        """Show the details of the chosen image."""
        self.panes.choose(0)

    def _show_image(self) -> None:
        image = self.image()
        details = cast("RowsPanel", self.query_one("#details"))
        if self.graph is None or image is None or image not in self.graph:
            details.show([])
            self.no_map("No image here. Name images or folders on the command line.")
        else:
            in_use = image in self.session.in_use
            details.show(describe.image_rows(self.graph, image, exact=self._exact, in_use=in_use))
            self.update_map()
        self.refresh_bindings()

    def update_map(self) -> None:
        """Map the chain of the image under the cursor, or the image alone."""
        image = self.image()
        if image is not None:
            self.map_image(image, own=self._own_map)

    # --- actions --------------------------------------------------------------------------------------------------

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        now = {Where.BROWSE, Where.IDLE, Where.ZOOM_KEYS, *self.image_where()}
        if self.graph is not None and self.graph.interrupted:
            now.add(Where.INTERRUPTED)
        return frozenset(now)

    def action_exact(self) -> None:
        """Show sizes to the byte, or rounded."""
        self._exact = not self._exact
        self._show_image()

    def action_blast(self) -> None:
        """Light what would break if the image under the cursor changed."""
        diagram = self.diagram
        if diagram is not None and self.graph is not None and diagram.cursor is not None:
            diagram.blast = not diagram.blast
            if diagram.blast:
                self.notify(describe.breaks_row(self.graph, diagram.cursor).text, title="If it changed", markup=False)

    def help_rows(self) -> list[describe.Row]:
        """Say what the image under the cursor is, and what the picture shows."""
        rows = [
            describe.Row("", "Each box is an image file. An arrow points from an overlay to its backing file: "
                             "what the overlay does not hold is read from there."),
        ]  # fmt: skip
        image = self.image()
        if self.graph is not None and image is not None:
            info = self.graph[image]
            rows.append(describe.Row("", f"Under the cursor: {info.label}, {describe.role(self.graph, image)}.",
                                     describe.Tone.STRONG))  # fmt: skip
            rows += [*describe.outside_rows(self.graph, image), describe.breaks_row(self.graph, image)]
        return rows


def _is_as_it_was(graph: ChainGraph, old: ChainGraph | None, image: ImageId) -> bool:
    return old is not None and image in old and old[image].fingerprint == graph[image].fingerprint
