"""What the forest's screen and the operation's screen share: the picture above, panes below, the keys, the maps."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.containers import Container
from textual.content import Content
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import get_current_worker

from backchain.errors import BackchainError
from backchain.image import ImageState
from backchain_tui import describe
from backchain_tui.actions import Where, valid
from backchain_tui.formatting import ascii_text
from backchain_tui.session import read_map
from backchain_tui.widgets.bars import KeyBar
from backchain_tui.widgets.scrollbars import keep_to_ascii

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.timer import Timer
    from textual.widget import Widget

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain_tui.app import BackchainApp
    from backchain_tui.diagram.widget import ChainDiagram
    from backchain_tui.jobgrid import JobGrid
    from backchain_tui.mapgrid import DiskMap
    from backchain_tui.session import Session
    from backchain_tui.widgets.cluster_map import ClusterMap
    from backchain_tui.widgets.panes import Panes

MAP_DELAY = 0.08
"""Seconds that the cursor must rest on an image before its map is read."""

_MAP_REFRESH = 0.2
"""Seconds between two drawings of a map that is still being read."""


class PictureScreen(Screen[bool]):
    """A screen with a diagram; subclasses say what is the case (`where`) and what the cursor does."""

    ESCAPE_TO_MINIMIZE: ClassVar[bool] = False

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """As Textual has it, but for painting the whole screen anew: the two widgets concerned paint themselves."""

    def __init__(self, session: Session) -> None:
        """Make the screen for a session."""
        super().__init__()
        self.session = session
        self.graph: ChainGraph | None = None
        self._own_map = False
        self._map_timer: Timer | None = None
        self._map_subject: tuple[object, ...] = ()

    # --- parts ----------------------------------------------------------------------------------------------------

    @property
    def backchain(self) -> BackchainApp:
        """The application, by its own type."""
        return cast("BackchainApp", self.app)

    @property
    def diagram(self) -> ChainDiagram | None:
        """The diagram, or None before there is a graph to draw."""
        return next(iter(self.query_one("#picture").query("ChainDiagram").results()), None)  # type: ignore[return-value]

    @property
    def map(self) -> ClusterMap:
        """The cluster map."""
        return cast("ClusterMap", self.query_one("#map"))

    @property
    def panes(self) -> Panes:
        """The panes below the picture."""
        return cast("Panes", self.query_one("#panes"))

    @property
    def picture(self) -> Container:
        """The frame of the diagram."""
        return self.query_one("#picture", Container)

    async def mount_diagram(self) -> ChainDiagram:
        """Put a diagram into the frame, in place of the words that were there."""
        from backchain_tui.diagram.widget import ChainDiagram

        diagram = ChainDiagram(ascii_only=self.backchain.ascii_only)
        await self.picture.remove_children()
        await self.picture.mount(diagram)
        keep_to_ascii(diagram)
        diagram.focus(scroll_visible=False)
        return diagram

    def entitle(self, title: str) -> None:
        """Give the picture a title, which may hold names out of files."""
        self.picture.border_title = Content(ascii_text(title) if self.backchain.ascii_only else title)

    async def say_in_picture(self, text: str) -> None:
        """Show words in place of a diagram."""
        await self.picture.remove_children()
        await self.picture.mount(Static(text, markup=False, classes="message"))

    def on_screen_suspend(self) -> None:
        """Show no keys below a dialog, no note above its buttons, and on another screen no notes of before."""
        self.query(KeyBar).refresh()
        if self.app.screen.is_modal:
            self.app.clear_notifications()
        else:
            self.backchain.clear_notes()

    def on_screen_resume(self) -> None:
        """Show the keys again."""
        self.query(KeyBar).refresh()

    # --- a job, on the screens that can have one ---------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return False

    @property
    def cancellable(self) -> bool:
        """Whether leaving would cancel a job."""
        return False

    def leave_job(self) -> None:
        """Cancel the job on the way out, or wait a moment for what follows its end."""

    # --- what is valid now ----------------------------------------------------------------------------------------

    @abstractmethod
    def where(self) -> frozenset[Where]:
        """Say what is the case now."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer an action only where the table says that it is valid."""
        name = f"{action}({parameters[0]})" if parameters and action == "pane" else action
        return valid(name, self.where())

    def image(self) -> ImageId | None:
        """The image under the cursor."""
        diagram = self.diagram
        return diagram.cursor if diagram is not None else None

    def image_where(self) -> set[Where]:
        """Say what the image under the cursor allows."""
        image, graph = self.image(), self.graph
        if image is None or graph is None or image not in graph:
            return set()
        info = graph[image]
        found = {Where.FILE} if info.fingerprint is not None else set()
        if not info.readable:
            return found
        found |= {Where.IMAGE, Where.MAPPED}
        if info.state is ImageState.INVALID:
            return found
        found.add(Where.SOUND)
        if info.format == "qcow2":
            found.add(Where.QCOW2)
        if not describe.range_fault(graph, image):
            found.add(Where.OVERLAY)
        if describe.link_fault(graph, image):
            found.add(Where.FAULTY_LINK)
        return found

    def keyboard_where(self) -> Where:
        """Say whether a pane has the keyboard."""
        ancestors = self.focused.ancestors if self.focused is not None else ()
        return Where.IN_PANE if any(a.id == "panes" for a in ancestors) else Where.IN_DIAGRAM

    # --- the cluster map ------------------------------------------------------------------------------------------

    def map_image(self, image: ImageId, *, own: bool, job: JobGrid | None = None, size: int | None = None) -> None:
        """Ask for the map of an image alone or of its chain; where a layer cannot be read, say so.

        Args:
            image: The image, or the top of the chain.
            own: The image's own states rather than layers.
            job: A job to lay over the map.
            size: Bytes of the disk to show at least.
        """
        graph = self.graph
        if graph is None or image not in graph:
            self.no_map("No map: the image is gone.")
            return
        layers = [graph[i] for i in graph.chain(image)[: 1 if own else None]]
        faults = (describe.unmapped(info, own=own) for info in layers)
        if fault := next(filter(None, faults), ""):
            self.no_map(f"No map: {fault}.")
        else:
            self.request_map(layers, own=own, job=job, size=size)

    def request_map(
        self, images: Sequence[ImageInfo], *, own: bool, job: JobGrid | None = None, size: int | None = None
    ) -> None:
        """Read a map soon; a later request takes the place of this one.

        Args:
            images: The chain, top first; one image when `own`.
            own: The image's own states rather than layers.
            job: A job to lay over the map.
            size: Bytes of the disk to show at least.
        """
        subject = (own, job, size, *((i.id, i.fingerprint) for i in images))
        if subject == self._map_subject:
            return
        self._map_subject = subject
        if self._map_timer is not None:
            self._map_timer.stop()
        self._map_timer = self.set_timer(MAP_DELAY, lambda: self._start_map(images, own, job, size))

    def no_map(self, reason: str) -> None:
        """Say why there is no map."""
        self._map_subject = (reason,)
        if self._map_timer is not None:
            self._map_timer.stop()
        self.workers.cancel_group(self, "map")
        self.map.say(reason)

    def _start_map(self, images: Sequence[ImageInfo], own: bool, job: JobGrid | None, size: int | None) -> None:
        self.run_worker(
            lambda: self._read_map(images, own, job, size), thread=True, exclusive=True, group="map",
            exit_on_error=False,
        )  # fmt: skip

    def _read_map(self, images: Sequence[ImageInfo], own: bool, job: JobGrid | None, size: int | None) -> None:
        worker = get_current_worker()
        shown: float | None = None

        def started(disk: DiskMap) -> bool:
            nonlocal shown
            if worker.is_cancelled:
                return False
            if shown is None or time.monotonic() - shown >= _MAP_REFRESH:
                self.app.call_from_thread(self._show_map, disk, images, own, job, worker, first=shown is None)
                shown = time.monotonic()
            return True

        try:
            disk = read_map(images, own=own, size=size, started=started)
        except BackchainError as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self.no_map, f"No map: {error.message}")
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show_map, disk, images, own, job, worker, first=shown is None)

    def _show_map(
        self, disk: DiskMap, images: Sequence[ImageInfo], own: bool, job: JobGrid | None, worker: Any, *, first: bool
    ) -> None:
        from backchain_tui.mapview import MapView

        if worker.is_cancelled or not self.is_mounted:
            return
        if first:
            top = images[0].label
            subject = top if own or len(images) == 1 else f"Chain of {top}"
            self.map.show(MapView(disk, job=job), [i.label for i in images], subject)
        else:
            self.map.read_on()

    # --- actions that both screens have ---------------------------------------------------------------------------

    def action_pane(self, number: int) -> None:
        """Show a pane and put the keyboard into it."""
        pane = self.panes.choose(number - 1)
        if pane is not None:
            pane.focus()

    def action_focus_diagram(self) -> None:
        """Put the keyboard into the diagram."""
        if self.diagram is not None:
            self.diagram.focus()

    def action_leave_pane(self) -> None:
        """Give the keyboard back to the diagram."""
        self.action_focus_diagram()

    def action_glyphs(self) -> None:
        """Draw the map with glyphs, or in colour."""
        self.map.glyphs = not self.map.glyphs

    def action_map_mode(self) -> None:
        """Map the whole chain, or one image's own clusters."""
        self._own_map = not self._own_map
        self.update_map()

    @abstractmethod
    def update_map(self) -> None:
        """Ask for the map that belongs to what is shown."""

    def action_diagram_zoom(self) -> None:
        """Take the diagram's next zoom."""
        if self.diagram is not None:
            self.diagram.cycle_zoom()

    def action_zoom_in(self) -> None:
        """Draw the diagram larger."""
        if self.diagram is not None:
            self.diagram.zoom_by(1)

    def action_zoom_out(self) -> None:
        """Draw the diagram smaller."""
        if self.diagram is not None:
            self.diagram.zoom_by(-1)

    def action_theme(self) -> None:
        """Switch between dark and light."""
        self.backchain.switch_theme()

    def action_help(self) -> None:
        """Show the help for what is under the cursor."""
        from backchain_tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.help_rows(), self.where()))

    @abstractmethod
    def help_rows(self) -> list[describe.Row]:
        """Give the rows of help on what is under the cursor."""

    async def action_quit(self) -> None:
        """Leave backchain; while a job runs it asks first."""
        await self.app.action_quit()

    def run_action_soon(self, name: str) -> None:
        """Run an action of the table once the command palette has closed."""
        self.call_later(self.run_action, name)
