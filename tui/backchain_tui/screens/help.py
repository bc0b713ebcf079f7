"""Help: what is under the cursor, and every key that is valid now."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from backchain_tui.actions import Where, valid_actions
from backchain_tui.badges import Badge, meanings
from backchain_tui.describe import Row, Tone
from backchain_tui.diagram.glyphs import glyph_set
from backchain_tui.widgets.bars import key_label
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

_DIAGRAM = (
    Row("arrows", "In the diagram: along the links (left: backing file, right: overlay) and between branches."),
    Row("home end", "To the base and to the active layer; once more: to the first and the last image of the forest."),
    Row("page up", "A window up; page down: a window down."),
    Row("⇧ arrows", "Scroll the diagram; so do the wheel and dragging."),
)
_MAP = (
    Row("arrows", "In the cluster map (2, then + and -): move and zoom; the line below tells what the cell is."),
    Row("esc", "In the cluster map or in a text: back to the diagram. There it leaves an operation that does not run."),
)


class HelpScreen(ModalScreen[None]):
    """The keys, with a sentence each."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,f1", "dismiss", "Close", show=False),
    ]

    def __init__(self, subject: Sequence[Row], now: frozenset[Where]) -> None:
        """Make the help.

        Args:
            subject: What is under the cursor.
            now: What is the case on the screen below.
        """
        super().__init__()
        self._subject = subject
        self._now = now

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="help") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc closes"
            yield RowsPanel("", id="help-rows")

    def on_mount(self) -> None:
        """Fill it."""
        signs = glyph_set(ascii_only=self.app.has_class("-ascii")).signs
        keys = [Row(key_label(a), f"{a.text}: {a.help}") for a in valid_actions(self._now)]
        panel = self.query_one("#help-rows", RowsPanel)
        panel.show(
            [
                *self._subject,
                Row("", ""),
                Row("", "Keys that are valid now", Tone.STRONG),
                *keys,
                *_DIAGRAM,
                *_MAP,
                Row("signs", " · ".join(f"{signs[word]} {word.lower()}" for word in Badge)),
                Row("", ""),
                Row("", "Words on the boxes, and the signs of the smallest boxes", Tone.STRONG),
                *(Row(word, meaning) for word, meaning in meanings(signs)),
            ]
        )
        panel.focus()
