"""Images that read a mix of before and after, as a commit into them did not come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain import recovery
from backchain.discover import discover
from backchain.errors import StalePlanError
from backchain.journal import read_journals
from backchain.operations import Commit, Operation, Pull, Rebase, Snapshot
from backchain.record import Stage

from . import qemu
from .images import chain_of
from .interruption import interrupted, perform
from .planned import node, stopping
from .scenes import Scene

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("deed", "mixed"), [("commit", {"base", "mid"}), ("commit-active", {"base", "mid"})])
def test_an_image_that_was_committed_in_part_is_not_built_upon(tmp_path: Path, deed: str, mixed: set[str]) -> None:
    """Its own view is a mix of before and after; what reads through the top of that commit is as it was."""
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    graph, new = discover([scene.folder]), scene.folder / "new.qcow2"
    nodes = {name: node(graph, path) for name, path in scene.paths.items()}
    asked: list[tuple[str, Operation]] = [(n, Snapshot(i, new)) for n, i in nodes.items()]
    asked += [(n, Pull(i, None)) for n, i in nodes.items() if n != "base"]
    for name, operation in asked:
        assert ("corrupt" in stopping(graph, operation)) == (name in mixed), (name, operation)
    recovery.finish(record, perform)
    graph = discover([scene.folder])
    assert "corrupt" not in stopping(graph, Snapshot(node(graph, scene.paths["base"]), new))


def test_a_finish_with_one_overlay_less_copies_first(tmp_path: Path) -> None:
    scene = Scene("commit-under-two", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", None)
    scene.paths["over"].unlink()
    assert isinstance(recovery.what_remains(record, recovery.graph_of(record)), Commit)
    assert [p for p in recovery.finish(record, perform).problems if "over.qcow2 is gone" not in p] == []
    over2 = scene.paths["over2"]
    assert qemu.info(over2)["backing-filename"] == "base.qcow2"
    assert qemu.view(over2) == scene.views[over2.name]


@pytest.mark.parametrize("deed", ["commit", "commit-active", "commit-kept"])
def test_a_mix_is_remembered_after_the_commit_was_given_up(tmp_path: Path, deed: str) -> None:
    """Until the same is committed after all, or nothing is left of it."""
    scene = Scene(deed, "4k", tmp_path / "images")
    recovery.tidy_up(interrupted(scene, tmp_path / "pins", "base"))
    (record,) = read_journals([scene.folder])
    assert (record.stage, record.interrupted) == (Stage.UNDONE, False)
    base, new = scene.paths["base"], scene.folder / "new.qcow2"
    mixed = ["base", "mid"]
    graph = discover([scene.folder])
    for name in mixed:
        assert "corrupt" in stopping(graph, Snapshot(node(graph, scene.paths[name]), new))
    other = tmp_path / "images" / "other"
    other.mkdir()
    root, alone = chain_of(other, "root", "alone")
    graph = discover([alone], scan=[scene.folder])
    perform(graph, Pull(node(graph, alone), None))
    assert read_journals([scene.folder]) == (record,), "another chain's change tells nothing of it"
    perform(discover([scene.folder]), scene.deed.ask(scene))
    assert [r.stage for r in read_journals([scene.folder])] == [Stage.LEFT]
    graph = discover([scene.folder])
    assert "corrupt" not in stopping(graph, Snapshot(node(graph, base), new))
    assert root.exists()


@pytest.mark.parametrize("given_up", [True, False])
@pytest.mark.parametrize("way", ["pulled free", "rebased", "removed"])
def test_the_layers_between_stay_a_mix_when_the_top_needs_them_no_more(
    tmp_path: Path, way: str, *, given_up: bool
) -> None:  # fmt: skip
    scene = Scene("commit-active", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    if given_up:
        recovery.tidy_up(record)
    graph = discover([scene.folder])
    base, top = (node(graph, scene.paths[name]) for name in ("base", "top"))
    if way == "removed":
        scene.paths["top"].unlink()
    else:
        perform(graph, Pull(top, None) if way == "pulled free" else Rebase(top, base))
    graph, new = discover([scene.folder]), scene.folder / "new.qcow2"
    for name in ("base", "mid"):
        assert "corrupt" in stopping(graph, Snapshot(node(graph, scene.paths[name]), new)), name


def test_a_commit_into_a_layer_between_does_not_finish_one_into_the_base(tmp_path: Path) -> None:
    scene = Scene("commit", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    view, new = qemu.view(scene.paths["top"]), scene.folder / "new.qcow2"
    graph = discover([scene.folder])
    perform(graph, Commit(node(graph, scene.paths["mid"]), node(graph, scene.paths["top"])))
    with pytest.raises(StalePlanError, match=r"not below .*top\.qcow2"):
        recovery.finish(record, perform)
    recovery.tidy_up(record)
    graph = discover([scene.folder])
    assert "corrupt" in stopping(graph, Snapshot(node(graph, scene.paths["base"]), new))
    assert qemu.view(scene.paths["mid"]) == view, "it holds all that its base may lack"
    assert "corrupt" not in stopping(graph, Snapshot(node(graph, scene.paths["mid"]), new))
