"""What a job that did not come to its end needs is not deleted, and what it has changed in part is not forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain import recovery
from backchain.discover import discover
from backchain.operations import Delete, Pull, Rebase, Snapshot
from backchain.plan import Severity

from . import qemu
from .interruption import interrupted, perform
from .planned import codes, delete, hazard, node, refused, stopping
from .scenes import Scene

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("deed", ["commit-active", "commit-kept"])
def test_the_top_of_a_commit_holds_what_its_base_lacks(tmp_path: Path, deed: str, *, given_up: bool) -> None:
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    if given_up:
        recovery.tidy_up(record)
    base, mid, top = (scene.paths[name] for name in ("base", "mid", "top"))
    plan = delete(top)
    graph = plan.before
    found = hazard(plan, "needed-file")
    assert (found.severity, found.images) == (Severity.BLOCK, (node(graph, top), node(graph, mid), node(graph, base)))
    refused(plan)
    assert "needed-file" not in codes(delete(base, mid, top)), "with all that would read a mix"
    perform(discover([scene.folder]), scene.deed.ask(scene))
    assert qemu.view(base) == scene.views[top.name]
    assert "needed-file" not in codes(delete(top))


def test_the_base_to_be_of_a_rebase(tmp_path: Path) -> None:
    scene = Scene("rebase-elsewhere", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "top")
    other, top = scene.paths["other"], scene.paths["top"]
    graph = discover([scene.folder])
    assert "needed-file" in stopping(graph, Delete((node(graph, other),))), "the rebased image is in the graph, too"
    plan = delete(other)
    assert hazard(plan, "needed-file").severity is Severity.BLOCK
    refused(plan)
    assert codes(delete(top)) == set()
    assert codes(delete(other, top)) == set()
    recovery.tidy_up(record)
    assert codes(delete(other)) == set()


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize("way", ["pulled", "rebased", "removed"])
def test_a_base_reads_a_mix_whatever_becomes_of_the_top(tmp_path: Path, way: str, *, given_up: bool) -> None:
    scene = Scene("commit-next", "4k", tmp_path / "images")
    base, mid, new = scene.paths["base"], scene.paths["mid"], scene.folder / "new.qcow2"
    untouched = qemu.view(base)
    record = interrupted(scene, tmp_path / "pins", "base")
    assert qemu.view(base) not in {untouched, scene.views[mid.name]}
    if given_up:
        recovery.tidy_up(record)
    if way == "removed":
        mid.unlink()
    else:
        graph = discover([scene.folder])
        image = node(graph, mid)
        perform(graph, Pull(image, None) if way == "pulled" else Rebase(image, None))
        assert qemu.view(mid) == scene.views[mid.name]
    for _ in range(2):
        graph = discover([scene.folder])
        assert "corrupt" in stopping(graph, Snapshot(node(graph, base), new))
        for left in graph.interrupted:
            recovery.tidy_up(left)
    if way == "removed":
        return
    assert codes(delete(mid)) == set(), "it stands alone"
    graph = discover([scene.folder])
    perform(graph, Rebase(node(graph, mid), node(graph, base)))
    perform(discover([scene.folder]), scene.deed.ask(scene))
    assert qemu.view(base) == scene.views[mid.name]
    graph = discover([scene.folder])
    assert "corrupt" not in stopping(graph, Snapshot(node(graph, base), new))
