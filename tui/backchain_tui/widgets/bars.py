"""The line above the picture (what is shown) and the line below it (which keys are valid now)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from backchain_tui.actions import Action, valid_actions
from backchain_tui.formatting import ascii_text

if TYPE_CHECKING:
    from textual import events
    from textual.screen import Screen

    from backchain_tui.screens.picture import PictureScreen


class TitleBar(Widget):
    """One line: the program, what it looks at, and a note at the right."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"title-bar--name", "title-bar--note"}

    def __init__(self, text: str = "", note: str = "") -> None:
        """Make the line.

        Args:
            text: What is looked at.
            note: Shown at the right end.
        """
        super().__init__()
        self._text, self._note = text, note

    def tell(self, text: str, note: str = "") -> None:
        """Change the words."""
        if (text, note) != (self._text, self._note):
            self._text, self._note = text, note
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - Textual's signature
        """Draw the line; what does not fit is cut at the right of the text."""
        name = self.get_component_rich_style("title-bar--name")
        note = self.get_component_rich_style("title-bar--note")
        width = self.size.width
        plain = self.app.has_class("-ascii")
        right = f" {ascii_text(self._note) if plain else self._note} " if self._note else ""
        room = max(0, width - cell_len(right) - 12)
        text = ascii_text(self._text) if plain else self._text
        if cell_len(text) > room:
            text = set_cell_size(text, max(0, room - 1)) + ("~" if plain else "…")
        text = set_cell_size(f" {text}", room + 1)
        segments = [Segment(" backchain ", name), Segment(text, note), Segment(right, note)]
        return Strip(segments).adjust_cell_length(width, note)


class KeyBar(Widget):
    """The footer: the keys that are valid now, as many as fit, the most needed first; a click presses a key.

    Under a dialog, which has keys of its own, it is empty.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-bar--key", "key-bar--text"}

    def __init__(self) -> None:
        super().__init__()
        self._chips: list[tuple[int, int, Action]] = []

    def on_mount(self) -> None:
        """Follow the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen:
            self.refresh()

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - Textual's signature
        """Draw the keys."""
        key = self.get_component_rich_style("key-bar--key")
        text = self.get_component_rich_style("key-bar--text")
        segments, position = [], 0
        self._chips = []
        below = self.app.screen is not self.screen  # a dialog has the keyboard
        for action in [] if below else self._fitting(self.size.width):
            segments += [Segment(f" {self._label(action)} ", key), Segment(f"{action.text} ", text)]
            width = self._chip_width(action)
            self._chips.append((position, position + width, action))
            position += width
        return Strip(segments).adjust_cell_length(self.size.width, text)

    def _fitting(self, width: int) -> list[Action]:
        now = cast("PictureScreen", self.screen).where()
        valid = [a for a in valid_actions(now) if a.rank]
        kept: list[Action] = []
        for action in sorted(valid, key=lambda a: a.rank):
            chip = self._chip_width(action)
            if chip <= width:
                kept.append(action)
                width -= chip
        return [a for a in valid if a in kept]

    def _label(self, action: Action) -> str:
        return ascii_text(key_label(action)) if self.app.has_class("-ascii") else key_label(action)

    def _chip_width(self, action: Action) -> int:
        return len(self._label(action)) + len(action.text) + 3

    def on_click(self, event: events.Click) -> None:
        """Press the key under the mouse."""
        for start, end, action in self._chips:
            if start <= event.x < end:
                self.app.simulate_key(action.keys.split(",")[0])


def key_label(action: Action) -> str:
    """Give what the footer and the help call an action's key."""
    return action.shown or action.keys.split(",")[0]
