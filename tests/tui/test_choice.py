"""The range of an operation: sensible at first, and never one that makes no sense."""

from __future__ import annotations

import pytest

from backchain.image import ImageId, ImageState
from backchain.operations import Commit, Pull
from backchain_tui.choice import End, RangeChoice
from tests.tui.builders import chain, five, forest, image


def i(name: str) -> ImageId:
    return ImageId(name)


@pytest.mark.parametrize(
    ("cursor", "top", "base"),
    [("Snap-4", "Snap-3", "RootBase"), ("Snap-2", "Snap-2", "RootBase"), ("Snap-1", "Snap-1", "RootBase")],
)
def test_commit_begins_as_figure_4(cursor: str, top: str, base: str) -> None:
    assert RangeChoice(five(), Commit, i(cursor)).operation() == Commit(i(base), i(top))


def test_commit_of_a_lone_overlay() -> None:
    assert RangeChoice(chain("base", "top"), Commit, i("top")).operation() == Commit(i("base"), i("top"))


def test_commit_stops_above_what_another_branch_reads_through() -> None:
    graph = forest({"root": None, "a": "root", "b": "a", "c": "b", "side": "root"})
    assert RangeChoice(graph, Commit, i("c")).operation() == Commit(i("a"), i("b"))


@pytest.mark.parametrize(("cursor", "base"), [("Snap-4", "RootBase"), ("Snap-2", "RootBase"), ("Snap-1", None)])
def test_pull_begins_as_figure_5(cursor: str, base: str | None) -> None:
    assert RangeChoice(five(), Pull, i(cursor)).operation() == Pull(i(cursor), i(base) if base else None)


def test_the_base_stays_below_the_top() -> None:
    choice = RangeChoice(five(), Commit, i("Snap-2"))
    assert "below" in choice.move(i("Snap-4"))
    assert "below" in choice.move(i("Snap-2"))
    assert choice.operation() == Commit(i("RootBase"), i("Snap-2"))
    assert choice.move(i("Snap-1")) == ""
    assert choice.operation() == Commit(i("Snap-1"), i("Snap-2"))


def test_a_top_below_the_base_takes_its_backing_file() -> None:
    choice = RangeChoice(five(), Commit, i("Snap-3"))
    choice.set_base(i("Snap-2"))
    choice.switch()
    assert choice.end is End.TOP
    assert choice.move(i("Snap-1")) == ""
    assert choice.operation() == Commit(i("RootBase"), i("Snap-1"))
    assert "no backing file" in choice.move(i("RootBase"))


def test_no_base_and_back() -> None:
    choice = RangeChoice(five(), Pull, i("Snap-4"))
    choice.toggle_base()
    assert choice.operation() == Pull(i("Snap-4"), None)
    choice.toggle_base()
    assert choice.operation() == Pull(i("Snap-4"), i("RootBase"))


def test_an_unreadable_image_is_no_top() -> None:
    broken = image("broken", state=ImageState.UNREADABLE)
    choice = RangeChoice(forest({"a": None, "b": "a", "broken": "b"}, broken=broken), Commit, i("b"))
    choice.switch()
    assert "cannot be read" in choice.move(i("broken"))
