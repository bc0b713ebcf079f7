"""Loops of images that back one another: nothing is built on them, none is closed, and one can be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.operations import Snapshot
from backchain.plan import Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of, overlay
from .planned import codes, hazard, node, rebase, refused, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_loop_that_the_new_link_would_close(tmp_path: Path, unsafe: bool) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    for image, backing in ((root, two), (one, two), (one, one)):
        plan = rebase(image, backing, unsafe=unsafe)
        assert hazard(plan, "loop").severity is Severity.BLOCK
        refused(plan)
    assert "loop" not in codes(rebase(two, root))


def looped(folder: Path, *names: str) -> list[Path]:
    """Make images that back one another in a loop, the last one by the first."""
    images = chain_of(folder, *names)
    qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", images[-1].name, images[0])
    return images


def test_nothing_is_built_on_a_loop(tmp_path: Path) -> None:
    images = looped(tmp_path, "one", "two")
    for image in (*images, overlay(tmp_path / "above.qcow2", "two.qcow2", "qcow2")):
        graph = discover([tmp_path])
        plan = make_plan(graph, Snapshot(node(graph, image), tmp_path / "new.qcow2"))
        assert {graph[i].label for i in hazard(plan, "loop").images} == {"one", "two"}
        refused(plan)


@pytest.mark.parametrize("names", [("one",), ("one", "two"), ("one", "two", "three")])
def test_a_loop_is_opened_by_another_link(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Nothing can be compared, so it needs a deliberate yes; then the chain can be read again."""
    images = looped(tmp_path, *names)
    (base, above) = chain_of(tmp_path, "base")[0], tmp_path / "above.qcow2"
    qemu.io(base, "write -q -P 5 0 64k")
    above = overlay(above, images[-1].name, "qcow2")
    for backing in (*images, above):
        plan = rebase(images[0], backing, unsafe=True)
        assert hazard(plan, "loop").severity is Severity.BLOCK
        refused(plan)
    assert hazard(rebase(images[0], base), "loop").severity is Severity.BLOCK
    refused(rebase(base, images[0], unsafe=True))
    for image, backing in ((above, base), (images[0], None), (images[0], base)):
        plan = rebase(image, backing, unsafe=True)
        assert codes(plan) == {"unsafe-rebase"}
        found = hazard(plan, "unsafe-rebase")
        assert (found.severity, set(found.images)) == (
            Severity.CONFIRM, {node(plan.before, i) for i in (image, *images)}
        )  # fmt: skip
        refused(plan)
    run(plan, "unsafe-rebase")
    assert {str(plan.after[i].state) for i in plan.after} == {"ok"}
    assert {str(i.state) for i in discover([tmp_path]).images.values()} == {"ok"}
    assert qemu.view(images[-1])[:1] == b"\5"
