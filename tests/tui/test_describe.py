"""What the screen says about plans and images."""

from __future__ import annotations

from backchain.image import ImageId, ImageState
from backchain.jobs import JobProgress, JobState, Phase
from backchain.plan import Hazard, Severity, gravest_first
from backchain_tui import describe, plan_words
from backchain_tui.describe import Tone
from tests.tui.builders import commit, five, forest, image, pull, sibling_hazard


def test_a_commit_in_plain_words() -> None:
    words = " ".join(plan_words.plan_sentences(commit(five(), "RootBase", "Snap-3", (1, 2, 3))))
    assert "Copies 6 clusters (384 KiB) of Snap-1, Snap-2 and Snap-3 down into RootBase." in words
    assert "Snap-4 is backed by RootBase then." in words
    assert "Snap-1, Snap-2 and Snap-3 are invalid afterwards: they rely on RootBase as it was." in words
    assert "RootBase then reads as Snap-3 does." in words


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
