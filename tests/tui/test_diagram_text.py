"""Text goldens: what each diagram looks like, character for character.

``BACKCHAIN_GOLDENS=write`` writes them anew; look at the difference before it is kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from backchain.graph import ChainGraph
from backchain.image import ImageId, ImageState
from backchain.plan import Hazard, Severity
from backchain_tui.diagram.layout import Zoom
from backchain_tui.diagram.scene import View
from backchain_tui.diagram.text import EMPTY, render_text

from .builders import chain, commit, delete, five, forest, image, pull, rebase, sibling_hazard, snapshot, sparklines

if TYPE_CHECKING:
    from collections.abc import Callable

    from backchain.plan import Plan

GOLDENS = Path(__file__).parent / "goldens"


def lab() -> ChainGraph:
    """A linear chain, a tree, a missing base and a loop."""
    return forest(
        {
            "RootBase": None, "Snap-1": "RootBase", "Snap-2": "Snap-1", "Golden": None, "web": "Golden",
            "db": "Golden", "web-2": "web", "web-test": "web", "gone": None, "old": "gone", "l1": "l3", "l2": "l1",
            "l3": "l2", "odd": None,
        },
        gone=image("gone", state=ImageState.MISSING), odd=image("odd", state=ImageState.UNREADABLE),
    )  # fmt: skip


def names(*images: str) -> frozenset[ImageId]:
    return frozenset(ImageId(i) for i in images)


def linear(zoom: Zoom) -> str:
    return render_text(five(), 120, zoom, view=View(sparklines=sparklines(five()), cursor=ImageId("Snap-2")))


def trees(zoom: Zoom, *, ascii_only: bool = False) -> str:
    view = View(cursor=ImageId("web"), lit=names("web", "Golden"), blast=names("web-2", "web-test"), in_use=names("db"))
    return render_text(lab(), 100, zoom, ascii_only=ascii_only, view=view)


def operation(
    make: Callable[[], Plan], width: int = 118, height: int = 24, *, ascii_only: bool = False, **view: object
) -> str:
    plan = make()
    shown = View(sparklines=sparklines(plan.before), **view)  # type: ignore[arg-type]
    return render_text(plan, width, height=height, ascii_only=ascii_only, view=shown)


def figure_4() -> Plan:
    return commit(five(), "RootBase", "Snap-3")


def figure_5() -> Plan:
    return pull(five(), "Snap-4", "RootBase")


def four() -> ChainGraph:
    """The chain of the old text from which sn2 is to go."""
    return chain("base", "sn1", "sn2", "sn3")


def two_chains() -> ChainGraph:
    return forest({"old": None, "web-1": "old", "web-2": "web-1", "new": None, "new-1": "new"})


def branched() -> ChainGraph:
    return forest({"golden": None, "web": "golden", "web-1": "web", "db": "golden"})


def with_siblings() -> Plan:
    graph = forest({"base": None, "s1": "base", "s2": "s1", "s3": "s2", "clone": "base", "other": "s2"})
    return commit(graph, "base", "s2", hazards=[sibling_hazard("clone")])


def long_chain() -> Plan:
    return commit(forest({f"n{n:02}": f"n{n - 1:02}" if n else None for n in range(30)}), "n12", "n14")


def unreadable() -> Plan:
    loop = Hazard("loop", Severity.BLOCK, (), "the chain is a loop")
    return commit(four(), "base", "sn2", [0, 0], hazards=[loop])


PICTURES: dict[str, Callable[[], str]] = {
    "linear-card": lambda: linear(Zoom.CARD),
    "linear-box": lambda: linear(Zoom.BOX),
    "linear-pill": lambda: linear(Zoom.PILL),
    "forest-card": lambda: trees(Zoom.CARD),
    "forest-box": lambda: trees(Zoom.BOX),
    "forest-pill": lambda: trees(Zoom.PILL),
    "forest-box-ascii": lambda: trees(Zoom.BOX, ascii_only=True),
    "figure-4": lambda: operation(figure_4, marks={ImageId("RootBase"): "base", ImageId("Snap-3"): "top"}),
    "figure-4-half-way": lambda: operation(
        figure_4, progress={ImageId("Snap-1"): 1.0, ImageId("Snap-2"): 0.5, ImageId("Snap-3"): 0.0}
    ),
    "figure-4-done": lambda: operation(figure_4, settled=True),
    "figure-4-80": lambda: operation(figure_4, 76, 17),
    "figure-4-low": lambda: operation(figure_4, 76, 12),
    "figure-4-ascii": lambda: operation(figure_4, 76, 18, ascii_only=True),
    "figure-5": lambda: operation(figure_5),
    "figure-5-80": lambda: operation(figure_5, 76, 17),
    "figure-5-ascii": lambda: operation(figure_5, 76, 18, ascii_only=True),
    "figure-6-alone": lambda: operation(lambda: pull(five(), "Snap-4", None)),
    "commit-case-2": lambda: operation(lambda: commit(five(), "RootBase", "Snap-2")),
    "commit-case-3": lambda: operation(lambda: commit(five(), "RootBase", "Snap-1")),
    "commit-case-4": lambda: operation(lambda: commit(five(), "Snap-1", "Snap-2")),
    "commit-case-5": lambda: operation(lambda: commit(five(), "Snap-2", "Snap-3")),
    "commit-case-6": lambda: operation(lambda: commit(five(), "Snap-1", "Snap-3", [0, 30])),
    "commit-active": lambda: operation(lambda: commit(five(), "Snap-2", "Snap-4")),
    "commit-siblings": lambda: operation(with_siblings),
    "rebase-ancestor": lambda: operation(lambda: rebase(four(), "sn3", "sn1")),
    "rebase-ancestor-80": lambda: operation(lambda: rebase(four(), "sn3", "sn1"), 76, 17),
    "rebase-ancestor-ascii": lambda: operation(lambda: rebase(four(), "sn3", "sn1"), 76, 18, ascii_only=True),
    "rebase-ancestor-done": lambda: operation(
        lambda: rebase(four(), "sn3", "sn1"), settled=True, removed=names("sn2"), progress={ImageId("sn2"): 1.0}
    ),
    "rebase-comparing": lambda: operation(lambda: rebase(four(), "sn3", "sn1", [0]), pending=True),
    "rebase-foreign": lambda: operation(lambda: rebase(two_chains(), "web-2", "new-1")),
    "rebase-foreign-80": lambda: operation(lambda: rebase(two_chains(), "web-2", "new-1"), 76, 17),
    "rebase-branch": lambda: operation(lambda: rebase(branched(), "web-1", "db")),
    "rebase-branch-80": lambda: operation(lambda: rebase(branched(), "web-1", "db"), 76, 17),
    "rebase-none": lambda: operation(lambda: rebase(four(), "sn3", None)),
    "rebase-unsafe": lambda: operation(lambda: rebase(four(), "sn3", "sn1", unsafe=True)),
    "rebase-unsafe-foreign": lambda: operation(lambda: rebase(two_chains(), "web-2", "new-1", unsafe=True)),
    "rebase-gives-a-base": lambda: operation(lambda: rebase(two_chains(), "old", "new-1", [])),
    "snapshot": lambda: operation(lambda: snapshot(four(), "sn3", "sn4")),
    "snapshot-80": lambda: operation(lambda: snapshot(five(), "Snap-4", "Snap-5"), 76, 17),
    "snapshot-branch": lambda: operation(lambda: snapshot(four(), "sn1", "sn1-test")),
    "delete": lambda: operation(lambda: delete(four(), "sn3")),
    "delete-80": lambda: operation(lambda: delete(five(), "Snap-4"), 76, 17),
    "delete-alone": lambda: operation(lambda: delete(chain("alone"), "alone"), 98, 20),
    "delete-alone-narrow": lambda: operation(lambda: delete(chain("a"), "a"), 40, 12),
    "commit-not-counted": lambda: operation(unreadable),
    "commit-in-a-long-chain": lambda: operation(long_chain, 76, 18),
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_as_kept(name: str) -> None:
    picture = PICTURES[name]()
    file = GOLDENS / f"{name}.txt"
    if os.environ.get("BACKCHAIN_GOLDENS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(picture, encoding="utf-8")
    assert picture == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in PICTURES if n.endswith("ascii")])
def test_ascii_is_ascii(name: str) -> None:
    assert PICTURES[name]().isascii()


def test_every_golden_has_its_picture() -> None:
    assert {f.stem for f in GOLDENS.glob("*.txt")} == set(PICTURES)


def test_an_empty_forest_says_what_to_do() -> None:
    assert render_text(ChainGraph([], [])) == EMPTY + "\n"


NASTY = (
    "[red]x[end]", "日本語のディスクイメージ名前です", "a\nb\x1b[31m", "e\u0301te\u0301-" + "long-" * 20,
    "\U0001f469\u200d\U0001f467 family", "\udcff",
)  # fmt: skip


@pytest.mark.parametrize("zoom", [Zoom.CARD, Zoom.BOX, Zoom.PILL])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_name_breaks_a_box(zoom: Zoom, *, ascii_only: bool) -> None:
    picture = render_text(forest(dict.fromkeys(NASTY)), 90, zoom, ascii_only=ascii_only)
    lines = [line for line in picture.splitlines() if line]
    assert len(lines) == len(NASTY) * {Zoom.CARD: 5, Zoom.BOX: 3, Zoom.PILL: 1}[zoom]
    assert len({cell_len(line) for line in lines}) == 1
    assert "\x1b" not in picture
    assert picture.isascii() or not ascii_only


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    assert "[red]x[end]" in render_text(forest({"[red]x[end]": None}), 90)


def test_a_long_name_keeps_both_ends() -> None:
    name = "backup-of-the-production-database-2024-01-31"
    picture = render_text(forest({name: None}), 60, Zoom.BOX)
    assert "backup-of" in picture
    assert "…" in picture
    assert "01-31" in picture


def test_where_nothing_was_to_copy_nothing_is_said_to_be_copied() -> None:
    done = operation(lambda: rebase(four(), "sn3", "sn1", [0]), settled=True)
    assert "nothing copied" in done
    assert done.count("copied") == 1
