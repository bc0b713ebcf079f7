"""The button of a dialog: it says which key presses it, and a sign, not a colour alone, tells that Enter does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import Button

if TYPE_CHECKING:
    from textual.geometry import Size

_SIGN, _ASCII_SIGN = "▸", ">"
_SIGN_WIDTH = 2
"""Columns of the sign and of the space behind it."""


class AnswerButton(Button):
    """A button with a sign before its text while it has the keyboard."""

    def __init__(self, text: str, *, key: str = "", **options: Any) -> None:
        """Make a button.

        Args:
            text: What it does.
            key: The key that presses it, too; empty for none.
            options: For `Button`: variant, id.
        """
        super().__init__(Content(f"{text}  {key}" if key else text), **options)

    @property
    def words(self) -> str:
        """What is written on the button, without the sign."""
        return Content.from_text(self.label).plain

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002 - Textual's signature
        """Leave room for the sign, so that nothing moves when it comes."""
        return cell_len(self.words) + _SIGN_WIDTH + 2 * self.styles.line_pad

    def render(self) -> Content:
        """Give the text, and the sign before it."""
        sign = _ASCII_SIGN if self.app.has_class("-ascii") else _SIGN
        return Content(f"{sign if self.has_focus else ' '} {self.words}")
