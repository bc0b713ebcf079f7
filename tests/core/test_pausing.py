"""Plans that read much can be ended between reads, by whoever no longer wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.errors import JobCancelledError
from backchain.operations import Commit, Pull, Rebase
from backchain.planning import make_plan

from . import qemu
from .images import chain_of
from .planned import node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.operations import Operation

MIB = 1 << 20

OPERATIONS: dict[str, Callable[[ChainGraph, Path], Operation]] = {
    "commit": lambda graph, folder: Commit(node(graph, folder / "root.qcow2"), node(graph, folder / "one.qcow2")),
    "pull": lambda graph, folder: Pull(node(graph, folder / "two.qcow2"), None),
    "rebase": lambda graph, folder: Rebase(node(graph, folder / "two.qcow2"), node(graph, folder / "root.qcow2")),
    "unsafe rebase": lambda graph, folder: Rebase(
        node(graph, folder / "two.qcow2"), node(graph, folder / "root.qcow2"), True
    ),
}


@pytest.mark.parametrize(("name", "least"), [("commit", 8), ("pull", 1), ("rebase", 2), ("unsafe rebase", 8)])
def test_a_plan_ends_where_it_is_told_to(tmp_path: Path, name: str, least: int) -> None:
    """The commit has a sibling, whose data is compared with the top's; so does each rebase compare."""
    root, one, _ = chain_of(tmp_path, "root", "one", "two", size=16 * MIB)
    chain_of(tmp_path, "root", "sibling")
    qemu.io(root, "write -q -P 1 0 12M")
    qemu.io(one, "write -q -P 2 0 12M")
    graph = discover([tmp_path])
    operation = OPERATIONS[name](graph, tmp_path)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    plan = make_plan(graph, operation, pause=count)
    assert calls >= least
    assert plan.to_json() == make_plan(graph, operation).to_json()

    def end() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise JobCancelledError("no longer wanted")

    for left in range(1, calls + 1):
        with pytest.raises(JobCancelledError):
            make_plan(graph, operation, pause=end)
        assert not left


def test_the_look_at_a_base_past_the_end_of_the_top_ends_where_it_is_told_to(tmp_path: Path) -> None:
    """The base holds nothing there, which is known only when all of it has been looked at."""
    root, one = tmp_path / "root.qcow2", tmp_path / "one.qcow2"
    qemu.create(root, 64 << 30)
    for place in range(0, 64, 16):
        qemu.io(root, f"write -q -z {place}G 64k")
    qemu.create(one, MIB, backing=root)
    qemu.create(tmp_path / "two.qcow2", 64 << 30, backing=one)
    graph = discover([tmp_path])
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    assert not make_plan(graph, OPERATIONS["commit"](graph, tmp_path), pause=count).stopping()
    assert calls >= 4
