"""Scroll bars that keep to ASCII: Textual rounds the ends of the handle off with eighth blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.scrollbar import ScrollBarRender

if TYPE_CHECKING:
    from textual.widget import Widget


class PlainScrollBarRender(ScrollBarRender):
    """Draws the handle in whole cells."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "]
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "]


def keep_to_ascii(widget: Widget) -> None:
    """Draw the scroll bars of a widget in whole cells, if the application keeps to ASCII.

    Args:
        widget: A widget that is mounted and can be scrolled.
    """
    if widget.app.has_class("-ascii"):
        for bar in (widget.vertical_scrollbar, widget.horizontal_scrollbar):
            bar.renderer = PlainScrollBarRender  # type: ignore[misc]
