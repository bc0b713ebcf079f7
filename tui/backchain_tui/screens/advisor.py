"""The advisor: the ways to get rid of an image that something needs, side by side, each with its price."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from backchain_tui import advice_words
from backchain_tui.background import Latest
from backchain_tui.describe import labels
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from backchain.advice import Advice
    from backchain.errors import BackchainError
    from backchain.graph import ChainGraph
    from backchain.image import ImageId


class WayCard(RowsPanel):
    """One way; it takes the keyboard if it can be chosen."""


class AdvisorScreen(ModalScreen["Advice | None"]):
    """Gives the way that was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back", show=False),
        Binding("left,up", "app.focus_previous", "Previous", show=False, priority=True),
        Binding("right,down", "app.focus_next", "Next", show=False, priority=True),
        Binding("enter", "take", "Preview", show=False),
    ]

    def __init__(self, graph: ChainGraph, image: ImageId) -> None:
        """Advise on getting rid of an image of a forest."""
        super().__init__()
        self._graph, self._image = graph, image
        self._advice: tuple[Advice, ...] = ()
        self._why = ""
        self._counting = Latest(self)

    def compose(self) -> ComposeResult:
        """Three cards, and what they are about."""
        with Vertical(id="advisor") as box:
            box.border_title = Text(f"Get rid of {self._graph[self._image].label}")
            box.border_subtitle = "enter previews a way, esc goes back"
            yield Static("", markup=False, id="advisor-why")
            with Container(id="ways"):
                for number in range(3):
                    yield WayCard("", id=f"way-{number}")

    def on_mount(self) -> None:
        """Count in the background: a way can have to read and compare data."""
        name, overlays = self._graph[self._image].label, self._graph.without_invalid_links().overlays_of(self._image)
        needs = "needs" if len(overlays) == 1 else "need"
        self._why = f"{labels(self._graph, overlays)} {needs} {name}, so that it cannot just be deleted."
        self._say("Counting what each way costs… Nothing is written.")
        self.query_one("#ways").display = False

        from backchain.advice import advise

        self._counting.ask(lambda pause: advise(self._graph, self._image, pause), self._show, self._fail)

    def on_unmount(self) -> None:
        """Have the counting end: nobody waits for it any more."""
        self._counting.forget()

    def _say(self, text: str) -> None:
        self.query_one("#advisor-why", Static).update(f"{self._why}\n{text}")

    def _fail(self, error: BackchainError) -> None:
        if self.is_mounted:
            self._say(str(error))

    def _show(self, advice: Sequence[Advice]) -> None:
        from backchain.advice import recommended

        if not self.is_mounted:
            return
        self._advice = tuple(advice)
        best = recommended(advice)
        self._say(advice_words.verdict(self._graph, best))
        self.query_one("#ways").display = True
        ascii_only, short = self.app.has_class("-ascii"), self.has_class("-narrow")
        for number, way in enumerate(advice):
            card = self.query_one(f"#way-{number}", WayCard)
            star = "* " if ascii_only else "★ "
            card.border_title = (star if way is best else "") + advice_words.name(way)
            card.border_subtitle = "recommended" if way is best else ""
            card.can_focus = bool(way.plans)
            card.set_class(not way.possible, "-impossible")
            card.show(advice_words.rows(self._graph, self._image, way, ascii_only=ascii_only, short=short))
        start = best if best is not None else next((w for w in advice if w.plans), None)
        if start is not None:
            self.query_one(f"#way-{list(advice).index(start)}", WayCard).focus()

    def action_take(self) -> None:
        """Preview the way that has the keyboard."""
        focused = self.focused
        if isinstance(focused, WayCard) and focused.id is not None and self._advice:
            self.dismiss(self._advice[int(focused.id.removeprefix("way-"))])

    def action_leave(self) -> None:
        """Choose no way."""
        self.dismiss(None)
