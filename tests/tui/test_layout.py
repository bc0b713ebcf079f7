"""Where boxes stand: columns, slots, loops, and how a figure fits its window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backchain.graph import ChainGraph
from backchain.image import ImageId
from backchain_tui.diagram.figure import Figure, Stage, Wire
from backchain_tui.diagram.layout import Placement, Zoom, arrange, fit, lay_out, place
from backchain_tui.diagram.measure import cell_width
from backchain_tui.diagram.staging import concerned, figure

from .builders import FIVE, chain, commit, delete, five, forest, image, pull, rebase, snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence


def columns(placement: Placement) -> dict[str, tuple[int, int]]:
    """Column and slot by name."""
    return {i: (int(placement.column[n]), int(placement.slot[n])) for i, n in placement.index.items()}


@st.composite
def graphs(draw: st.DrawFn) -> ChainGraph:
    """Any graph in which an image has at most one backing file: trees, loops, images that back themselves."""
    size = draw(st.integers(1, 24))
    backing = draw(st.lists(st.none() | st.integers(0, size - 1), min_size=size, max_size=size))
    return forest({f"i{n:02}": None if b is None else f"i{b:02}" for n, b in enumerate(backing)})


def test_a_linear_chain_stays_on_one_row() -> None:
    assert columns(place(five())) == {name: (n, 0) for n, name in enumerate(FIVE)}


def test_an_image_stands_on_the_row_of_its_first_overlay_and_the_others_below() -> None:
    graph = forest({"base": None, "a": "base", "b": "base", "a1": "a", "a2": "a", "b1": "b"})
    assert columns(place(graph)) == {
        "base": (0, 0), "a": (1, 0), "a1": (2, 0), "a2": (2, 1), "b": (1, 2), "b1": (2, 2),
    }  # fmt: skip


def test_a_short_branch_moves_up_beside_a_tall_one() -> None:
    graph = forest({"base": None, "a": "base", "b": "base", "a1": "a", "a2": "a", "a3": "a"})
    assert columns(place(graph))["b"] == (1, 1)


def test_trees_are_stacked_and_do_not_mix() -> None:
    graph = forest({"base": None, "a": "base", "b": "base", "lone": None})
    assert columns(place(graph))["lone"] == (0, 2)


def test_a_loop_is_one_row_with_a_back_edge() -> None:
    graph = forest({"l1": "l3", "l2": "l1", "l3": "l2", "x": "l2", "base": None})
    placement = place(graph)
    assert columns(placement) == {"l1": (0, 0), "l2": (1, 0), "l3": (2, 0), "x": (2, 1), "base": (0, 2)}
    assert placement.back_edges == ((placement.index[ImageId("l1")], placement.index[ImageId("l3")]),)


def test_an_image_that_backs_itself_is_a_loop() -> None:
    placement = place(forest({"me": "me"}))
    assert placement.back_edges == ((0, 0),)


def test_an_empty_forest_has_no_size() -> None:
    layout = lay_out(place(ChainGraph([], [])), Zoom.AUTO, 80, 24, 0)
    assert (layout.width, layout.height) == (0, 0)


@given(graphs(), st.sampled_from([Zoom.CARD, Zoom.BOX, Zoom.PILL]), st.integers(0, 200))
def test_boxes_never_overlap_and_overlays_stand_to_the_right(graph: ChainGraph, zoom: Zoom, width: int) -> None:
    placement = place(graph)
    layout = arrange(placement, fit(placement, zoom, width, 8))
    assert set(placement.images) == set(graph)
    cells = np.zeros((layout.height, layout.width), np.int64)
    for x, y in zip(layout.x, layout.y, strict=True):
        cells[y : y + layout.metrics.height, x : x + layout.metrics.width] += 1
    assert cells.max() == 1
    assert cells.sum() == len(graph) * layout.metrics.width * layout.metrics.height
    back = set(placement.back_edges)
    for number, name in enumerate(placement.images):
        file = graph.backing_of(name)
        if file is None or (number, placement.index[file]) in back:
            assert placement.parent[number] == -1
            continue
        assert placement.images[placement.parent[number]] == file
        assert placement.column[number] == placement.column[placement.index[file]] + 1
        assert placement.slot[number] >= placement.slot[placement.index[file]]


@given(graphs())
def test_every_cell_of_a_box_leads_to_its_image(graph: ChainGraph) -> None:
    layout = lay_out(place(graph), Zoom.AUTO, 100, 30, 3)
    for number, name in enumerate(layout.placement.images):
        x, y = int(layout.x[number]), int(layout.y[number])
        assert layout.at(x, y) == name
        assert layout.at(x + layout.metrics.width - 1, y + layout.metrics.height - 1) == name
        assert layout.at(x - 1, y) != name


@pytest.mark.parametrize(
    ("width", "height", "zoom"), [(120, 30, Zoom.CARD), (76, 20, Zoom.BOX), (40, 20, Zoom.PILL), (120, 2, Zoom.PILL)]
)
def test_auto_takes_the_largest_zoom_that_fits(width: int, height: int, zoom: Zoom) -> None:
    assert lay_out(place(five()), Zoom.AUTO, width, height, 8).metrics.zoom is zoom


def test_a_chain_of_thousands_needs_no_recursion() -> None:
    names = [f"n{n}" for n in range(3000)]
    assert columns(place(chain(*names)))["n2999"] == (2999, 0)


# --- figures ------------------------------------------------------------------------------------------------------


def fitted(plan: object, width: int, height: int) -> Figure:
    """Lay a plan out as the widget does."""
    return figure(plan, Zoom.AUTO, width, height, max(cell_width(plan.info(i).label) for i in concerned(plan)))  # type: ignore[arg-type, attr-defined]


TWO = forest(
    {"o0": None, "o1": "o0", "o2": "o1", "o3": "o2", "o4": "o3", "n0": None, "n1": "n0", "n2": "n1", "n3": "n2"}
)
BRANCHED = forest({"root": None, "b1": "root", "b2": "b1", "b3": "b2", "b4": "b2", "c0": "root", "c1": "c0"})
PLANS = {
    "figure-4": lambda: commit(five(), "RootBase", "Snap-3"),
    "figure-5": lambda: pull(five(), "Snap-4", "RootBase"),
    "alone": lambda: pull(five(), "Snap-4", None),
    "active": lambda: commit(five(), "Snap-2", "Snap-4"),
    "long": lambda: commit(chain(*(f"layer-{n:02}" for n in range(30))), "layer-02", "layer-24"),
    "rebase-ancestor": lambda: rebase(five(), "Snap-4", "Snap-1"),
    "rebase-foreign": lambda: rebase(TWO, "o4", "n2"),
    "rebase-unsafe": lambda: rebase(TWO, "o4", "n2", unsafe=True),
    "rebase-branch": lambda: rebase(BRANCHED, "b3", "c1"),
    "rebase-none": lambda: rebase(five(), "Snap-4", None),
    "snapshot": lambda: snapshot(five(), "Snap-4", "Snap-5"),
    "snapshot-branch": lambda: snapshot(BRANCHED, "root", "d"),
    "delete": lambda: delete(five(), "Snap-4"),
    "siblings": lambda: commit(
        forest({"base": None, "s1": "base", "s2": "s1", "s3": "s2", "x": "base", "y": "s1", "z1": "s2", "z2": "s2"}),
        "base", "s2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(("width", "height"), [(76, 17), (118, 24), (198, 40)])
def test_a_figure_fits_its_window_and_nothing_overlaps(name: str, width: int, height: int) -> None:
    drawn = fitted(PLANS[name](), width, height)
    assert drawn.width <= width
    assert drawn.height <= height
    cells = np.zeros((drawn.height, drawn.width), np.int64)
    for box in drawn.boxes:
        cells[box.rect.y : box.rect.below, box.rect.x : box.rect.right] += 1
    for stream in drawn.streams:
        cells[stream.y1, stream.x1] += 1
    for x, first, last in drawn.stays:
        cells[first : last + 1, x] += 1
    assert cells.max() == 1
    for wire in drawn.arcs:
        above = drawn.boxes[wire.overlay].stage is Stage.BEFORE
        row = drawn.boxes[wire.overlay].rect.y - 1 if above else drawn.channel + 1
        assert not cells[row].any(), "nothing stands in the way of a link that bridges boxes"


def test_images_keep_their_column_from_before_to_after() -> None:
    drawn = fitted(PLANS["figure-4"](), 118, 24)
    rows = {stage: {b.image: b.rect.x for b in drawn.boxes if b.stage is stage} for stage in Stage}
    assert rows[Stage.BEFORE] == rows[Stage.AFTER]


@pytest.mark.parametrize(("name", "target"), [("figure-4", "RootBase"), ("figure-5", "Snap-4")])
def test_data_runs_from_each_source_to_the_target_in_order(name: str, target: str) -> None:
    drawn = fitted(PLANS[name](), 118, 24)
    assert [s.images for s in drawn.streams] == [(i,) for i in ("Snap-1", "Snap-2", "Snap-3")]
    heads = [s.x1 for s in drawn.streams]
    assert heads == sorted(set(heads))
    rect = next(b.rect for b in drawn.boxes if b.image == target and b.stage is Stage.AFTER)
    assert all(rect.x < x < rect.right for x in heads)
    lanes = [s.lane for s in drawn.streams]
    assert lanes == sorted(lanes, reverse=name == "figure-5")


def test_only_the_new_link_is_drawn_along_the_channel() -> None:
    drawn = fitted(PLANS["figure-4"](), 118, 24)
    ends = [(drawn.boxes[w.overlay].image, drawn.boxes[w.backing].image) for w in drawn.relinks]
    assert ends == [("Snap-4", "RootBase")]
    after = [w for w in drawn.wires if drawn.boxes[w.overlay].stage is Stage.AFTER]
    assert after == []


def test_a_pull_leaves_the_links_between_images_that_stay_valid() -> None:
    drawn = fitted(PLANS["figure-5"](), 118, 24)
    after = {drawn.boxes[w.overlay].image for w in drawn.wires if drawn.boxes[w.overlay].stage is Stage.AFTER}
    assert after == {"Snap-1", "Snap-2", "Snap-3"}


def names_on(drawn: Figure, stage: Stage) -> list[str | None]:
    """Give who stands on a row, from left to right; None for those left out."""
    boxes = [b for b in drawn.boxes if b.stage is stage and b.zoom is drawn.zoom]
    return [b.image for b in sorted(boxes, key=lambda b: b.rect.x)]


def links_of(drawn: Figure, wires: Sequence[Wire], stage: Stage) -> set[tuple[str | None, str | None]]:
    ends = [(drawn.boxes[w.overlay], drawn.boxes[w.backing]) for w in wires]
    return {(a.image, b.image) for a, b in ends if a.stage is stage}


def test_a_foreign_base_stands_at_the_left_on_both_rows() -> None:
    drawn = fitted(PLANS["rebase-foreign"](), 198, 40)
    expected = ["n0", "n1", "n2", "o0", "o1", "o2", "o3", "o4"]
    assert names_on(drawn, Stage.BEFORE) == names_on(drawn, Stage.AFTER) == expected
    assert links_of(drawn, drawn.relinks, Stage.AFTER) == {("o4", "n2")}
    assert [s.images for s in drawn.streams] == [(f"o{n}",) for n in range(4)]
    assert not drawn.arcs


def test_what_backs_a_foreign_base_is_left_out_when_it_is_narrow() -> None:
    links = {f"n{n}": f"n{n - 1}" if n else None for n in range(9)}
    drawn = fitted(rebase(forest({**links, "o0": None, "o1": "o0"}), "o1", "n8"), 76, 17)
    assert names_on(drawn, Stage.BEFORE) == names_on(drawn, Stage.AFTER) == ["n0", None, "n8", "o0", "o1"]


def test_an_unsafe_rebase_moves_no_data() -> None:
    drawn = fitted(PLANS["rebase-unsafe"](), 118, 24)
    assert drawn.streams == ()
    assert links_of(drawn, drawn.relinks, Stage.AFTER) == {("o4", "n2")}


def test_what_both_chains_share_comes_first_and_a_link_bridges_the_new_one() -> None:
    drawn = fitted(PLANS["rebase-branch"](), 198, 40)
    assert names_on(drawn, Stage.BEFORE) == ["root", "c0", "c1", "b1", "b2", "b3"]
    assert links_of(drawn, drawn.arcs, Stage.BEFORE) == {("b1", "root")}
    assert links_of(drawn, drawn.arcs, Stage.AFTER) == {("b1", "root")}
    assert ("c0", "root") in links_of(drawn, drawn.wires, Stage.BEFORE)
    assert "b4" in {b.image for b in drawn.boxes if b.zoom is Zoom.PILL}, "whoever still needs b2 is shown"


def test_a_new_overlay_is_there_afterwards_alone() -> None:
    drawn = fitted(PLANS["snapshot"](), 118, 24)
    assert names_on(drawn, Stage.AFTER)[-2:] == ["Snap-4", "Snap-5"]
    assert "Snap-5" not in names_on(drawn, Stage.BEFORE)
    assert ("Snap-5", "Snap-4") in links_of(drawn, drawn.wires, Stage.AFTER)
    assert drawn.streams == drawn.relinks == ()


def test_the_other_overlays_are_siblings_of_a_new_one() -> None:
    drawn = fitted(PLANS["snapshot-branch"](), 118, 24)
    assert {b.image for b in drawn.boxes if b.zoom is Zoom.PILL} == {"b1", "c0"}


def test_a_removed_image_keeps_its_place_and_loses_its_link() -> None:
    drawn = fitted(PLANS["delete"](), 118, 24)
    assert names_on(drawn, Stage.AFTER) == list(FIVE)
    assert ("Snap-4", "Snap-3") not in links_of(drawn, drawn.wires, Stage.AFTER)
    assert all(drawn.boxes[n].image == "Snap-4" for n, _ in drawn.notes)


def test_an_image_that_stands_alone_has_no_new_link() -> None:
    drawn = fitted(PLANS["alone"](), 118, 24)
    assert drawn.relinks == ()
    assert [(drawn.boxes[n].image, t) for n, t in drawn.notes] == [("Snap-4", "no backing file: stands alone")]


def test_what_takes_no_part_is_left_out_before_the_boxes_get_too_narrow() -> None:
    drawn = fitted(PLANS["long"](), 76, 17)
    shown = [b.image for b in drawn.boxes if b.stage is Stage.BEFORE and b.image is not None]
    assert shown == ["layer-02", "layer-24", "layer-25"]
    left_out = [i for b in drawn.boxes if b.stage is Stage.BEFORE and b.image is None for i in b.images]
    assert len(shown) + len(left_out) == 30


def test_a_source_that_is_left_out_still_sends_its_data() -> None:
    plan = PLANS["long"]()
    drawn = fitted(plan, 76, 17)
    assert sum(s.clusters for s in drawn.streams) == plan.clusters


def test_siblings_of_the_target_and_of_the_merged_images_appear() -> None:
    drawn = fitted(PLANS["siblings"](), 118, 24)
    for stage in Stage:
        assert {"x", "y", "z1", "z2"} <= {b.image for b in drawn.boxes if b.stage is stage}


def test_many_siblings_are_counted() -> None:
    links = {"gold": None, **{f"clone-{n:02}": "gold" for n in range(50)}}
    drawn = fitted(commit(forest(links), "gold", "clone-07"), 76, 20)
    groups = [len(b.images) for b in drawn.boxes if b.stage is Stage.BEFORE and b.zoom is Zoom.PILL]
    assert groups == [1, 1, 47]


def test_a_missing_base_can_be_laid_out() -> None:
    graph = forest({"gone": None, "a": "gone"}, gone=image("gone"))
    assert columns(place(graph)) == {"gone": (0, 0), "a": (1, 0)}
