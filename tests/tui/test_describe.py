"""What the screen says about plans and images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.image import ImageId, ImageState
from backchain.jobs import JobProgress, JobState, Phase
from backchain.plan import Hazard, Severity, gravest_first
from backchain.repair import suggestions
from backchain_tui import describe, plan_words
from backchain_tui.describe import Tone
from backchain_tui.diagram.picture import Picture
from backchain_tui.plan_text import plan_text
from tests.core.images import chain_of
from tests.core.planned import node
from tests.core.users import as_nobody, shared_folder
from tests.tui.builders import commit, five, forest, image, pull, rebase, sibling_hazard

if TYPE_CHECKING:
    from collections.abc import Callable

    from backchain.graph import ChainGraph
    from backchain.plan import Plan


def test_a_commit_in_plain_words() -> None:
    words = " ".join(plan_words.plan_sentences(commit(five(), "RootBase", "Snap-3", (1, 2, 3))))
    assert "Copies 6 clusters (384 KiB) of Snap-1, Snap-2 and Snap-3 down into RootBase." in words
    assert "Snap-4 is backed by RootBase then." in words
    assert "Snap-1, Snap-2 and Snap-3 are invalid afterwards: they rely on RootBase as it was." in words
    assert "RootBase then reads as Snap-3 does." in words


def test_an_invalid_image_is_said_to_be_so_once() -> None:
    reason = "a commit has changed what it relied on"
    spent = replace(image("spent", state=ImageState.INVALID), problem=reason)
    graph = forest({"base": None, "spent": "base"}, spent=spent)
    title, state = describe.image_rows(graph, spent.id)[:2]
    assert title.text == "spent.qcow2 · invalid"
    assert state.text == f"invalid: {reason}"


def test_a_commit_of_the_active_layer_empties_it() -> None:
    words = " ".join(plan_words.plan_sentences(commit(five(), "Snap-3", "Snap-4")))
    assert "Snap-4 is the active layer: it stays, emptied." in words
    assert "invalid" not in words


def test_a_pull_invalidates_nothing() -> None:
    words = " ".join(plan_words.plan_sentences(pull(five(), "Snap-4", "RootBase")))
    assert "up into Snap-4" in words
    assert "still read as before, but nothing needs them" in words
    assert "invalid" not in words
    assert "Snap-4 stands alone then." in plan_words.plan_sentences(pull(five(), "Snap-4", None))


def test_nothing_to_copy_is_said() -> None:
    first = plan_words.plan_sentences(commit(five(), "RootBase", "Snap-1", (0,)))[0]
    assert first == "Copies nothing: no data that RootBase lacks in Snap-1."


@pytest.mark.parametrize(
    ("code", "make", "known"),
    [
        ("loop", lambda g, h: commit(g, "RootBase", "Snap-1", (0,), [h]), False),
        ("missing-backing", lambda g, h: commit(g, "RootBase", "Snap-1", (0,), [h]), False),
        ("encryption", lambda g, h: commit(g, "RootBase", "Snap-1", (0,), [h]), True),
        ("encryption", lambda g, h: replace(rebase(g, "Snap-3", "Snap-1", (0,)), hazards=(h,)), False),
        ("loop", lambda g, h: replace(rebase(g, "Snap-3", "Snap-1", unsafe=True), hazards=(h,)), True),
    ],
)
def test_what_cannot_be_counted_is_not_called_nothing(
    code: str, make: Callable[[ChainGraph, Hazard], Plan], *, known: bool
) -> None:
    plan = make(five(), Hazard(code, Severity.BLOCK, (), "it blocks"))
    rows = {r.label: r.text for r in plan_words.plan_rows(plan, None)}
    assert plan_words.counted(plan) is known
    assert ("cannot be counted" in plan_words.plan_sentences(plan)[0]) is not known
    assert (rows["copies"] == "cannot be counted") is not known
    assert ("unknown" in rows["grows"]) is not known
    assert ("from" in plan_text(plan).split()) is (known and bool(plan.copies))


def test_of_a_chain_that_cannot_be_read_nothing_is_said_to_read_as_before() -> None:
    plan = replace(pull(five(), "Snap-4", None), hazards=(Hazard("missing-backing", Severity.BLOCK, (), "lost"),))
    assert not plan_words.counted(plan)
    assert "as before" not in " ".join(plan_words.plan_sentences(plan))


def test_what_stops_the_run_comes_first() -> None:
    warn = Hazard("base-grows", Severity.WARN, (), "it grows")
    confirm = Hazard("internal-snapshots", Severity.CONFIRM, (), "snapshots")
    block = sibling_hazard("Web")
    assert gravest_first([warn, confirm, block]) == (block, confirm, warn)
    graph = five()
    assert plan_words.hazard_heading(commit(graph, "RootBase", "Snap-1", hazards=[warn, block])).tone is Tone.BAD
    assert "to confirm" in plan_words.hazard_heading(commit(graph, "RootBase", "Snap-1", hazards=[confirm])).text
    assert plan_words.hazard_heading(commit(graph, "RootBase", "Snap-1")).tone is Tone.GOOD
    assert plan_words.hazard_row(block, ascii_only=True).label == "X sibling-corruption"


def test_too_little_space_stands_out() -> None:
    plan = commit(five(), "RootBase", "Snap-3")
    rows = {r.label: r for r in plan_words.plan_rows(plan, plan.growth_bytes - 1)}
    assert rows["free"].tone is Tone.BAD
    assert "free" not in {r.label for r in plan_words.plan_rows(plan, None)}


def test_an_image_with_a_problem_says_so() -> None:
    lost = image("lost", state=ImageState.MISSING)
    graph = forest({"lost": None, "top": "lost"}, lost=lost)
    rows = describe.image_rows(graph, ImageId("lost"))
    assert ("state", "missing", Tone.BAD) in rows
    assert any(r.label == "if changed" and "top would break" in r.text for r in rows)


def test_the_closing_line() -> None:
    progress = JobProgress(JobState.DONE, Phase.VERIFYING, 18, 18, 1_258_291, 1_258_291, 0.0, None, 3.1, True)
    done = plan_words.closing(commit(five(), "RootBase", "Snap-3"), progress)
    assert done == "Done: 18 clusters, 1.2 MiB in 3.1 s. Snap-1, Snap-2 and Snap-3 are invalid now; nothing needs them."
    nothing = replace(progress, clusters=0, bytes=0, seconds=0.1)
    text = plan_words.closing(pull(five(), "Snap-4", "RootBase"), nothing)
    assert text.startswith("Done in 0.1 s: there was nothing to copy. Nothing needs Snap-1")


def test_what_is_invalid_by_now_breaks_no_more() -> None:
    plan = commit(five(), "RootBase", "Snap-3", (1, 2, 3))
    done, base = plan.after, plan.target
    assert len(done.overlays_of(base)) == 2
    assert describe.breaks_row(done, base).text == "Snap-4 would break"
    picture = Picture()
    picture.graph = done
    lit = picture.view(base, blast=True, in_use=frozenset()).blast
    assert {done[i].label for i in lit} == {"Snap-4"}


def test_images_are_named_in_the_order_in_which_people_count_them() -> None:
    graph = forest({"base": None, **{f"web-{n}": "base" for n in range(1, 12)}})
    assert describe.labels(graph, graph.leaves()) == "web-1, web-2, web-3 and 8 more"


def test_a_backing_file_that_may_not_be_read_is_not_called_lost() -> None:
    with shared_folder() as folder:
        base, top = chain_of(folder, "base", "top")
        chain_of(folder, "stranger")
        base.chmod(0)
        with as_nobody():
            graph = discover([folder])
            overlay = node(graph, top)
            told = [describe.link_fault(graph, overlay), *(r.text for r in describe.image_rows(graph, overlay))]
            (offered,) = suggestions(graph, overlay)
        assert told[0] == "its backing file cannot be read"
        assert not any("lost" in line for line in told)
        assert describe.suggestion_text(offered).startswith("possible: it has the same format and virtual size")
        base.unlink()
        graph = discover([folder])
        assert describe.link_fault(graph, node(graph, top)) == "its backing file is lost"
