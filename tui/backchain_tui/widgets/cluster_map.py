"""The cluster map: a guest's disk as a grid of cells, one line-API widget.

Colours come in half blocks, two rows of cells to a line; glyphs (without colours, or on request) one row to a line.
While a job runs only the lines that it touched are drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from backchain_tui import formatting as fmt
from backchain_tui.theme import Depth, depth_of
from backchain_tui.widgets import palette
from backchain_tui.widgets.map_legend import legend
from backchain_tui.widgets.map_words import cell_text, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events
    from textual.color import Color

    from backchain_tui.mapview import MapView

_HALF = "▀"
_LEGEND_FROM = 5
"""Lines from which on the last two are the cell under the cursor and the legend."""


class ClusterMap(Widget, can_focus=True):
    """Shows a `MapView`: cells, the cell under the cursor in words, and a legend."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"cluster-map--ground", "cluster-map--cursor", "cluster-map--note"}

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1, 0)", "Left", show=False),
        Binding("right", "move(1, 0)", "Right", show=False),
        Binding("up", "move(0, -1)", "Up", show=False),
        Binding("down", "move(0, 1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "to_end(False)", "First cluster", show=False),
        Binding("end", "to_end(True)", "Last cluster", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False),
        Binding("minus", "zoom(-1)", "Zoom out", show=False),
    ]

    glyphs: reactive[bool] = reactive(False)
    """Draw a glyph per cell rather than half blocks."""

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        """Make an empty map.

        Args:
            ascii_only: Use ASCII characters alone.
            id: The widget's id.
        """
        super().__init__(id=id)
        self._ascii = ascii_only
        self._view: MapView | None = None
        self._names: Sequence[str] = ()
        self._subject = ""
        self._message = ""
        self._hover: int | None = None
        self._styles: dict[tuple[int, int], Style] = {}

    def on_mount(self) -> None:
        """Choose glyphs where colours would not tell the states apart."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._need_glyphs())
        self._need_glyphs()
        self._hint()

    def _need_glyphs(self) -> None:
        if self._ascii or depth_of(self.app) is not Depth.RGB:
            self.glyphs = True

    # --- what is shown --------------------------------------------------------------------------------------------

    @property
    def view(self) -> MapView | None:
        """The view that is shown, or None."""
        return self._view

    def show(self, view: MapView, names: Sequence[str], subject: str) -> None:
        """Show a map.

        Args:
            view: The map, fed or still being fed.
            names: Names of the layers, top first; for one image's own map just its name.
            subject: What the title calls the map.
        """
        keep = self._view
        if keep is not None and keep.disk.size == view.disk.size and keep.disk.cluster_size == view.disk.cluster_size:
            view.stand_like(keep)
        self._view, self._names, self._subject, self._message = view, names, subject, ""
        self._fit()

    def say(self, message: str) -> None:
        """Show a line in place of a map (reading, or why there is none)."""
        self._view, self._message, self._hover = None, message, None
        self.border_title = "Cluster map"
        self.refresh()

    def read_on(self) -> None:
        """Take in what the map was fed meanwhile."""
        self._reload()
        self._retitle()

    def _reload(self) -> None:
        """Compute and draw all cells again."""
        if self._view is not None:
            self._view.compute()
            self.refresh()

    def advance(self) -> None:
        """Draw the lines again that the job has touched since the last call."""
        lines = self._view.touched() if self._view is not None else None
        if lines is not None:
            self._refresh_lines(lines, (self._grid_lines, self._grid_lines + 1))

    def _refresh_lines(self, *lines: tuple[int, int]) -> None:
        """Draw stretches of lines (first, last) again."""
        self.refresh(*(Region(0, first, self.size.width, last - first + 1) for first, last in lines))

    @property
    def _grid_lines(self) -> int:
        height = self.size.height
        return max(1, height - 2 if height >= _LEGEND_FROM else height - 1)

    def _fit(self) -> None:
        if self._view is None or not self.size.width:
            return
        self._view.resize(self.size.width, self._grid_lines, doubled=not self.glyphs)
        self._reload()
        self._retitle()

    def _retitle(self) -> None:
        view = self._view
        if view is None:
            return
        disk = view.disk
        text = f"{self._subject} · {fmt.counted(disk.clusters, 'cluster')} of {fmt.size(disk.cluster_size)}"
        if view.clusters_per_cell > 1 or view.zoomed:
            text += f" · 1 cell = {fmt.counted(view.clusters_per_cell, 'cluster')}"
        if not disk.complete:
            text += f" · reading, {fmt.percent(disk.reached / disk.size)} so far"
        self.border_title = Content(shorten(text, max(10, self.size.width - 2), ascii_only=self._ascii))

    # --- drawing --------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line: cells, then the cell under the cursor in words, then the legend."""
        width = self.size.width
        ground = self.get_component_rich_style("cluster-map--ground")
        if self._view is None:
            note = self.get_component_rich_style("cluster-map--note")
            text = self._message if y == 0 else ""
            return self._line(text, width, note)
        if y >= self._grid_lines:
            return self._legend(width) if y > self._grid_lines else self._words(width)
        segments = [
            self._segment(span.length, span.upper, span.lower)
            for span in self._view.spans(y, cursor=self.has_focus)
        ]  # fmt: skip
        return Strip(segments).adjust_cell_length(width, ground)

    def _segment(self, length: int, upper: int, lower: int) -> Segment:
        style = self._styles.get((upper, lower))
        if style is None:
            style = self._styles[upper, lower] = self._make_style(upper, lower)
        half = _HALF if upper != lower else " "
        return Segment((self._glyph(upper) if self.glyphs else half) * length, style)

    def _make_style(self, upper: int, lower: int) -> Style:
        from backchain_tui.mapview import CURSOR_LOOK

        ground = self.get_component_styles("cluster-map--ground").background
        if self.glyphs:
            if upper == CURSOR_LOOK:
                return self.get_component_rich_style("cluster-map--cursor") + Style(bold=True, reverse=True)
            return self.get_component_rich_style("cluster-map--ground") + self._ink(upper)
        top, bottom = self._color(upper) or ground, self._color(lower) or ground
        return Style(color=top.rich_color, bgcolor=bottom.rich_color)

    def _ink(self, look: int) -> Style:
        """Give the colour of a glyph: mixed, one of the terminal's 16, or none."""
        depth = depth_of(self.app)
        if depth is Depth.RGB:
            color = self._color(look)
            return Style(color=color.rich_color) if color is not None else Style()
        name = self._state_name(look)
        if depth is Depth.MONO or not name:
            return Style()
        return Style(color=palette.ansi_state(name) if isinstance(name, str) else palette.ansi_layer(*name))

    def _state_name(self, look: int) -> str | tuple[int, int]:
        """Name what a look stands for: a state, or a layer and the number of layers; empty for nothing."""
        from backchain_tui.mapgrid import Kind
        from backchain_tui.mapview import PAST_LOOK, is_work, split_kind, split_work

        if look >= PAST_LOOK:
            return ""
        if is_work(look):
            return split_work(look)[0].name.lower()
        kind, share = split_kind(look)
        if share == 0:
            return ""
        if kind >= Kind.LAYER and self._view is not None and not self._view.disk.own:
            return kind - Kind.LAYER, len(self._names)
        return {int(Kind.ZERO): "zero", int(Kind.COMPRESSED): "compressed"}.get(kind, "data")

    def _color(self, look: int) -> Color | None:
        """Give the colour of a look, or None for the ground's own."""
        from backchain_tui.mapview import CURSOR_LOOK, PAST_LOOK, is_work, split_kind, split_work

        dark = self.app.current_theme.dark
        ground = self.get_component_styles("cluster-map--ground").background
        if look == PAST_LOOK:
            return None
        if look == CURSOR_LOOK:
            return self.get_component_styles("cluster-map--cursor").color
        if is_work(look):
            work, share = split_work(look)
            name = work.name.lower()
            color = palette.state_color(name, dark=dark)
            if name == "waiting":
                return color.blend(palette.state_color("done", dark=dark), share / 6)
            return color
        kind, share = split_kind(look)
        if share == 0:
            return ground.blend(self.get_component_styles("cluster-map--note").color, 0.35 if self.glyphs else 0.10)
        return ground.blend(self._kind_color(kind, dark=dark), 0.40 + 0.15 * share)

    def _kind_color(self, kind: int, *, dark: bool) -> Color:
        from backchain_tui.mapgrid import Kind

        if kind == Kind.ZERO:
            return palette.state_color("zero", dark=dark)
        if kind == Kind.COMPRESSED:
            return palette.state_color("compressed", dark=dark)
        if self._view is None or self._view.disk.own:
            return palette.state_color("data", dark=dark)
        return palette.layer_color(kind - Kind.LAYER, len(self._names), dark=dark)

    def _glyph(self, look: int) -> str:
        from backchain_tui.mapgrid import Kind
        from backchain_tui.mapview import CURSOR_LOOK, PAST_LOOK, is_work, split_kind, split_work

        glyphs = palette.ASCII if self._ascii else palette.UNICODE
        if look == PAST_LOOK:
            return " "
        if look == CURSOR_LOOK and self._view is not None:
            look = self._view.look_at(self._view.cursor)
        if is_work(look):
            work, share = split_work(look)
            return (glyphs.partial if share else glyphs.states)[work.name.lower()]
        kind, share = split_kind(look)
        if share == 0:
            return glyphs.nothing
        if kind >= Kind.LAYER and self._view is not None and not self._view.disk.own:
            return palette.layer_glyph(kind - Kind.LAYER, len(self._names), share)
        name = {Kind.ZERO: "zero", Kind.COMPRESSED: "compressed"}.get(Kind(min(kind, Kind.LAYER)), "data")
        return (glyphs.states if share >= 4 else glyphs.partial)[name]

    # --- words ----------------------------------------------------------------------------------------------------

    def _words(self, width: int) -> Strip:
        assert self._view is not None
        style = self.get_component_rich_style("cluster-map--note")
        cluster = self._hover if self._hover is not None else self._view.cursor
        text = cell_text(self._view.describe(cluster), self._names, own=self._view.disk.own)
        return self._line(text, width, style)

    def _line(self, text: str, width: int, style: Style) -> Strip:
        """Give a line of words, which may hold names out of files, so that it fills the width."""
        return Strip([Segment(shorten(text, width, ascii_only=self._ascii), style)]).adjust_cell_length(width, style)

    def _legend(self, width: int) -> Strip:
        note = self.get_component_rich_style("cluster-map--note")
        segments = []
        assert self._view is not None
        shown = legend(self._view, self._names, width, ascii_only=self._ascii)
        for look, name in shown.entries:
            if look is not None:
                glyph = self._glyph(look) if self.glyphs else "█"
                segments.append(Segment(glyph + " ", note + self._ink(look)))
            segments.append(Segment(name + " " * shown.gap, note))
        return Strip(segments).adjust_cell_length(width, note)

    # --- hands ----------------------------------------------------------------------------------------------------

    def watch_has_focus(self, has_focus: bool) -> None:
        """Tell the keys that hold now, and show the cursor."""
        super().watch_has_focus(has_focus)
        self._hint()
        self.refresh()

    def _hint(self) -> None:
        here = "arrows move · + - zoom · esc back to the diagram"
        text = here if self.has_focus else "2 to explore"
        self.border_subtitle = fmt.ascii_text(text) if self._ascii else text

    def on_resize(self) -> None:
        """Fit the cells into the new size."""
        self._fit()

    def notify_style_update(self) -> None:
        """Forget the colours of the old theme."""
        super().notify_style_update()
        self._styles.clear()

    def watch_glyphs(self) -> None:
        """Lay the cells out anew: glyphs need a line each, and half blocks need mixed colours."""
        self._need_glyphs()
        self._styles.clear()
        self._fit()

    def action_move(self, columns: int, rows: int) -> None:
        """Move the cursor by cells."""
        self._go(lambda view: view.move(columns, rows))

    def action_page(self, pages: int) -> None:
        """Move the cursor by a window."""
        self._go(lambda view: view.move(0, pages * view.rows))

    def action_to_end(self, last: bool) -> None:
        """Move the cursor to the first or the last cluster."""
        self._go(lambda view: view.place_cursor(view.disk.clusters if last else 0))

    def action_zoom(self, steps: int) -> None:
        """Zoom in (above 0) or out around the cursor."""
        if self._view is not None and self._view.zoom(steps):
            self._hover = None
            self._reload()
            self._retitle()

    def _go(self, move: Callable[[MapView], object]) -> None:
        """Move the cursor; as long as the window stays where it is, only the lines of the cursor are drawn again."""
        view = self._view
        if view is None:
            return
        window, lines = view.first, view.cursor_lines()
        move(view)
        self._hover = None
        if view.first != window:
            self._reload()
        else:
            self._refresh_lines(lines, view.cursor_lines(), (self._grid_lines, self._grid_lines))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Describe the cell under the mouse."""
        place = event.get_content_offset(self)
        cluster = None
        if self._view is not None and place is not None and place.y < self._grid_lines:
            cluster = self._view.cluster_at(place.x, place.y)
        if cluster != self._hover:
            self._hover = cluster
            self._refresh_lines((self._grid_lines, self._grid_lines))

    def on_leave(self) -> None:
        """Go back to describing the cell under the cursor."""
        self._hover = None
        self._refresh_lines((self._grid_lines, self._grid_lines))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor under the mouse."""
        place = event.get_content_offset(self)
        if self._view is None or place is None or place.y >= self._grid_lines:
            return
        cluster = self._view.cluster_at(place.x, place.y)
        if cluster is not None:
            self._go(lambda view: view.place_cursor(cluster))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move the window down, where it is zoomed in."""
        self._wheel(event, 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move the window up, where it is zoomed in."""
        self._wheel(event, -3)

    def _wheel(self, event: events.MouseEvent, rows: int) -> None:
        if self._view is not None and self._view.zoomed:
            event.stop()
            self._view.scroll(rows)
            self._reload()
