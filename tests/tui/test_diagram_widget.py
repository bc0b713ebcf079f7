"""The diagram in a running application: keys, mouse, messages, themes, and frames that depend on nothing but input."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from textual.app import App, ComposeResult

from backchain.graph import ChainGraph
from backchain.image import ImageId
from backchain_tui.diagram.layout import Zoom
from backchain_tui.diagram.text import EMPTY
from backchain_tui.diagram.widget import ChainDiagram
from backchain_tui.theme import THEMES, Depth

from .builders import chain, commit, five, forest, snapshot, sparklines

if TYPE_CHECKING:
    from textual.strip import Strip


class Stage(App[None]):
    """An application that is all diagram, and writes down what it hears."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self, graph: ChainGraph | None = None) -> None:
        super().__init__()
        self.diagram = ChainDiagram()
        self.graph = graph
        self.heard: list[tuple[str, str | None]] = []

    def compose(self) -> ComposeResult:
        yield self.diagram

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "backchain-dark"
        if self.graph is not None:
            self.diagram.show_graph(self.graph)
        self.diagram.focus()

    def on_chain_diagram_cursor_moved(self, message: ChainDiagram.CursorMoved) -> None:
        self.heard.append(("moved", message.image))

    def on_chain_diagram_activated(self, message: ChainDiagram.Activated) -> None:
        self.heard.append(("activated", message.image))

    def on_chain_diagram_hovered(self, message: ChainDiagram.Hovered) -> None:
        self.heard.append(("hovered", message.image))


def tree() -> ChainGraph:
    return forest({"base": None, "a": "base", "b": "base", "a1": "a", "a2": "a", "lone": None})


def lines(diagram: ChainDiagram) -> list[Strip]:
    return [diagram.render_line(y) for y in range(diagram.size.height)]


def text(diagram: ChainDiagram) -> str:
    return "\n".join(strip.text for strip in lines(diagram))


async def test_a_place_that_is_asked_for_early_leaves_no_empty_picture() -> None:
    """Textual sends no resize to a widget whose region was asked for between its mounting and the next layout."""
    app = Stage()
    async with app.run_test(size=(100, 30)) as pilot:
        late = ChainDiagram()
        await app.diagram.remove()
        app.screen.mount(late)
        await asyncio.sleep(0)
        app.screen._compositor._full_map_invalidated = True  # as after a scroll
        assert late.region.width
        late.show_graph(tree())
        await pilot.pause()
        await pilot.pause()
        assert "base" in text(late)
        assert late.virtual_size.width


async def test_keys_walk_along_links_and_between_siblings() -> None:
    app = Stage(tree())
    async with app.run_test(size=(100, 30)) as pilot:
        seen = []
        for key in ("right", "right", "down", "left", "down", "left", "end", "home", "down", "up"):
            await pilot.press(key)
            seen.append(app.diagram.cursor)
        assert seen == ["a", "a1", "a2", "a", "b", "base", "b", "base", "lone", "base"]


async def test_right_goes_back_to_the_overlay_one_came_from() -> None:
    app = Stage(tree())
    async with app.run_test(size=(100, 30)) as pilot:
        app.diagram.cursor = ImageId("a2")
        await pilot.press("left", "left", "right", "right")
        assert app.diagram.cursor == "a2"


async def test_a_loop_can_be_walked_and_does_not_catch_the_cursor() -> None:
    app = Stage(forest({"l1": "l3", "l2": "l1", "l3": "l2"}))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("end", "home", "right", "left", "left")
        assert app.diagram.cursor in {"l1", "l2", "l3"}


async def test_messages_tell_of_the_cursor_of_enter_and_of_the_mouse() -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.press("right", "enter")
        await pilot.hover(app.diagram, offset=(5, 2))
        await pilot.click(app.diagram, offset=(5, 2))
        await pilot.click(app.diagram, offset=(5, 2))
        await pilot.pause()
        expected = [("moved", "RootBase"), ("moved", "Snap-1"), ("activated", "Snap-1"), ("hovered", "RootBase")]
        assert app.heard == [*expected, ("moved", "RootBase"), ("activated", "RootBase")]


async def test_the_cursor_is_scrolled_into_view() -> None:
    app = Stage(chain(*(f"n{n:03}" for n in range(60))))
    async with app.run_test(size=(80, 12)) as pilot:
        await pilot.press("end")
        await pilot.pause()
        assert app.diagram.cursor == "n059"
        assert app.diagram.scroll_offset.x > 0
        assert "n059" in text(app.diagram)
        await pilot.press("home")
        await pilot.pause()
        assert app.diagram.scroll_offset.x == 0


async def test_pages_and_ends_take_the_cursor_along() -> None:
    links: dict[str, str | None] = {"base": None}
    for tree in range(60):
        links |= {f"t{tree}": None, f"u{tree}": f"t{tree}"}
    app = Stage(forest(links))
    async with app.run_test(size=(40, 12)) as pilot:
        diagram = app.diagram
        for key, image in (
            ("home", "base"), ("right", "base"), ("pagedown", None), ("pagedown", None), ("pageup", None),
            ("end", None), ("end", "u59"), ("pagedown", "u59"), ("pageup", None), ("home", None), ("home", "base"),
        ):  # fmt: skip
            before = diagram.cursor
            await pilot.press(key)
            assert image is None or diagram.cursor == image, key
            assert image == before or diagram.cursor != before, key
            assert diagram.cursor is not None
            assert diagram.cursor in text(diagram)
            scene = diagram._picture.scene
            assert scene is not None
            rects = scene.rect(before or diagram.cursor), scene.rect(diagram.cursor)
            if image is None and key.startswith("page") and rects[0] is not None and rects[1] is not None:
                assert abs(abs(rects[1].middle - rects[0].middle) - diagram.size.height) <= 2


async def test_dragging_pans_and_does_not_select() -> None:
    app = Stage(chain(*(f"n{n:03}" for n in range(60))))
    async with app.run_test(size=(80, 12)) as pilot:
        await pilot.mouse_down(app.diagram, offset=(60, 0))
        await pilot.hover(app.diagram, offset=(40, 0))
        await pilot.mouse_up(app.diagram, offset=(40, 0))
        await pilot.pause()
        assert app.diagram.scroll_offset.x == 20
        assert app.diagram.cursor == "n000"


async def test_zoom_steps_stop_at_the_ends() -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 30)):
        seen = [app.diagram.shown_zoom]
        for step in (1, -1, -1, -1):
            app.diagram.zoom_by(step)
            seen.append(app.diagram.shown_zoom)
        assert seen == [Zoom.CARD, Zoom.CARD, Zoom.BOX, Zoom.PILL, Zoom.PILL]


async def test_nothing_to_show_is_said() -> None:
    app = Stage(ChainGraph([], []))
    async with app.run_test(size=(80, 24)):
        assert EMPTY in text(app.diagram)


async def test_a_diagram_without_a_graph_and_without_a_size_draws_nothing() -> None:
    app = Stage()
    async with app.run_test(size=(80, 24)):
        fresh = ChainDiagram()
        assert fresh.size.width == 0
        await app.mount(fresh)
        assert text(app.diagram).strip() == ""


async def test_the_same_input_gives_the_same_frame_and_the_phase_moves_only_colours() -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 30)):
        diagram = app.diagram
        diagram.set_sparklines(sparklines(five()))
        diagram.show_plan(commit(five(), "RootBase", "Snap-3"))
        diagram.set_job({ImageId("Snap-1"): 0.5})
        diagram.advance(1.0)
        first, words = lines(diagram), text(diagram)
        diagram.advance(1.4)
        assert lines(diagram) != first
        assert text(diagram) == words
        diagram.advance(1.0)
        assert lines(diagram) == first
        diagram.settle(None)
        assert "committed" in text(diagram)
        settled = lines(diagram)
        diagram.advance(7.3)
        assert lines(diagram) == settled


async def test_going_back_to_the_forest_forgets_the_job() -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 30)):
        diagram = app.diagram
        before = text(diagram)
        diagram.show_plan(commit(five(), "RootBase", "Snap-3"))
        diagram.set_job({})
        assert "AFTER" in text(diagram)
        diagram.show_plan(None)
        assert text(diagram) == before


async def test_only_rows_that_change_are_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 30)) as pilot:
        diagram = app.diagram
        diagram.show_plan(commit(five(), "RootBase", "Snap-3"))
        diagram.advance(0.0)
        await pilot.pause()
        regions: list[Any] = []
        monkeypatch.setattr(diagram, "refresh", lambda *args, **_: regions.extend(args))
        diagram.advance(1.0)
        rows = {row for region in regions for row in range(region.y, region.bottom)}
        shown = text(diagram).splitlines()
        assert rows
        assert all(any(0x2800 < ord(c) <= 0x28FF for c in shown[row]) for row in rows)


@pytest.fixture(params=["backchain-dark", "backchain-light", "nord", "textual-light", "ansi-dark", "ansi-light"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_every_theme_can_draw_everything(theme: str) -> None:
    app = Stage(five())
    async with app.run_test(size=(100, 30)) as pilot:
        app.theme = theme
        app.diagram.show_plan(commit(five(), "RootBase", "Snap-3"))
        await pilot.pause()
        assert (app.diagram.palette.depth is Depth.ANSI) == app.native_ansi_color
        assert "AFTER" in app.export_screenshot()


async def test_a_new_theme_recolours_what_is_shown() -> None:
    app = Stage(five())
    async with app.run_test(size=(100, 30)) as pilot:
        dark = lines(app.diagram)
        app.theme = "backchain-light"
        await pilot.pause()
        assert lines(app.diagram) != dark


async def test_without_colours_states_are_words_and_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Stage(five())
    async with app.run_test(size=(120, 30)) as pilot:
        app.diagram.show_plan(commit(five(), "RootBase", "Snap-3"))
        await pilot.pause()
        assert app.diagram.palette.depth is Depth.MONO
        segments = [s for strip in lines(app.diagram) for s in strip]
        assert all(s.style is not None for s in segments)
        assert len({(s.style.color, s.style.bgcolor) for s in segments if s.style is not None}) == 1
        struck = {s.text.strip() for s in segments if s.style is not None and s.style.strike}
        assert struck == {"Snap-1", "Snap-2", "Snap-3"}
        assert "AFTER" in app.export_screenshot()


def place_of(diagram: ChainDiagram, words: str) -> tuple[int, int]:
    """Give a cell of what the widget shows by the words that begin there."""
    shown = text(diagram).splitlines()
    return next((line.index(words), y) for y, line in enumerate(shown) if words in line)


async def test_a_click_where_images_were_left_out_shows_them_one_after_the_other() -> None:
    graph = chain(*(f"n{n:02}" for n in range(20)))
    app = Stage(graph)
    async with app.run_test(size=(80, 30)) as pilot:
        app.diagram.cursor = ImageId("n18")
        app.diagram.show_plan(commit(graph, "n17", "n18"))
        await pilot.pause()
        closed = text(app.diagram)
        assert "n10" not in closed
        seen = []
        for _ in range(3):
            await pilot.click(app.diagram, offset=place_of(app.diagram, " more"))
            await pilot.pause()
            seen.append(app.diagram.cursor)
            assert str(app.diagram.cursor) in text(app.diagram)
        assert seen == ["n16", "n15", "n14"], "the nearest first"
        assert "n16" not in text(app.diagram)
        await pilot.hover(app.diagram, offset=place_of(app.diagram, " more"))
        assert "n01, n02" in str(app.diagram.tooltip)
        await pilot.click(app.diagram, offset=place_of(app.diagram, "n18"))
        await pilot.pause()
        assert text(app.diagram) == closed, "whoever leaves closes it"


async def test_a_click_on_overlays_that_were_left_out_comes_to_all_of_them() -> None:
    family = [f"s{n}" for n in range(6)]
    graph = forest({"base": None, "mid": "base", "top": "mid", **dict.fromkeys(family, "mid")})
    app = Stage(graph)
    async with app.run_test(size=(100, 40)) as pilot:
        app.diagram.cursor = ImageId("mid")
        app.diagram.show_plan(commit(graph, "base", "mid"))
        await pilot.pause()
        seen = set()
        for _ in range(6):
            await pilot.click(app.diagram, offset=place_of(app.diagram, " more"))
            await pilot.pause()
            seen.add(str(app.diagram.cursor))
        hidden = set(family) - {"s0"}
        assert seen >= hidden - {"s1"}, "s0 and s1 may have a box already"


async def test_the_mouse_over_an_overlay_that_is_to_be_made() -> None:
    app = Stage(five())
    async with app.run_test(size=(120, 40)) as pilot:
        app.diagram.show_plan(snapshot(five(), "Snap-4", "fresh"))
        await pilot.pause()
        place = place_of(app.diagram, "fresh")
        await pilot.hover(app.diagram, offset=place)
        assert str(app.diagram.tooltip) == "/lab/fresh.qcow2"
        await pilot.click(app.diagram, offset=place)
        await pilot.press("left")
        assert app.diagram.cursor == "RootBase"


async def test_a_scroll_bar_that_has_just_appeared_shows_where_the_window_is() -> None:
    graph = chain(*(f"n{n:03}" for n in range(60)))
    app = Stage(graph)
    async with app.run_test(size=(80, 12)) as pilot:
        late = ChainDiagram()
        await app.diagram.remove()
        await app.screen.mount(late)
        late.cursor = ImageId("n059")
        late.show_graph(graph)
        await pilot.pause()
        await pilot.pause()
        assert late.scroll_offset.x > 0
        assert late.horizontal_scrollbar.position == late.scroll_offset.x


async def test_no_scroll_bar_stays_below_a_picture_that_fits() -> None:
    names = tuple(f"an-image-with-a-long-name-{n}" for n in range(5))
    app = Stage(chain(*names))
    async with app.run_test(size=(78, 11)) as pilot:
        await pilot.pause()
        assert app.diagram.show_horizontal_scrollbar
        app.diagram.show_plan(commit(chain(*names), names[0], names[3]))
        await pilot.pause()
        await pilot.pause()
        assert app.diagram.virtual_size == (78, 10), "as large as the room beside a scroll bar"
        assert not app.diagram.show_horizontal_scrollbar
