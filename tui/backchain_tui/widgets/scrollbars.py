"""Scroll bars: in whole cells where Textual would round the handle off beyond ASCII, and where the window is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.scroll_view import ScrollView
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
            bar.refresh()  # it may have been drawn before


class PacedScrollView(ScrollView):
    """Has scroll bars when it needs them, which show where it is.

    Textual does not tell those that come only after the scrolling, and keeps those that are not needed any more when
    what is shown happens to be as large as the room that they leave.
    """

    def watch_virtual_size(self) -> None:
        """Take the bars away when all can be seen."""
        room, wanted = self.container_size, self.virtual_size
        if wanted.width <= room.width and wanted.height <= room.height:
            self.show_horizontal_scrollbar = self.show_vertical_scrollbar = False

    def watch_show_vertical_scrollbar(self) -> None:
        """Tell the vertical one."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = self.scroll_y

    def watch_show_horizontal_scrollbar(self) -> None:
        """Tell the horizontal one."""
        if self.show_horizontal_scrollbar:
            self.horizontal_scrollbar.position = self.scroll_x
