"""Asks how a new overlay is to be called, and says at once what is wrong with a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from backchain.filename import printable
from backchain_tui import naming
from backchain_tui.widgets.answer import AnswerButton

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from backchain.image import ImageInfo


class NamingScreen(ModalScreen[Path | None]):
    """Gives the path of the overlay, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", show=False)]

    def __init__(self, image: ImageInfo, typed: str = "") -> None:
        """Ask.

        Args:
            image: The image that is to back the overlay.
            typed: What the line holds at first; empty for a proposal.
        """
        super().__init__()
        self._image = image
        self._typed = typed or naming.proposal(image.path)

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="question") as box:
            box.border_title = "Snapshot"
            yield Static(
                f"A new, empty overlay on {self._image.name}, made in {printable(str(self._image.path.parent))} unless "
                "the name has a folder. The machine must use it from then on.",
                markup=False,
            )
            yield Input(self._typed, placeholder="name of the new overlay")
            yield Static("", markup=False, id="naming-problem")
            with Horizontal(id="answers"):
                yield AnswerButton("Preview", variant="primary", id="answer-preview")
                yield AnswerButton("Cancel", id="answer-cancel")

    def on_mount(self) -> None:
        """The keyboard goes to the name."""
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what is wrong with the name."""
        problem = naming.problem_of(self._image.path, event.value)
        self.query_one("#naming-problem", Static).update(problem)
        self.query_one("#answer-preview", Button).disabled = bool(problem)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on, if the name can be used."""
        self._take(event.value)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Go on, or leave."""
        if event.button.id == "answer-preview":
            self._take(self.query_one(Input).value)
        else:
            self.dismiss(None)

    def _take(self, typed: str) -> None:
        if not naming.problem_of(self._image.path, typed):
            self.dismiss(naming.path_of(self._image.path, typed))

    def action_leave(self) -> None:
        """Make no snapshot."""
        self.dismiss(None)
