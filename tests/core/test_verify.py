"""Verification and freshness: a wrong result is noticed before a link changes; a chain that moved is planned again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from backchain.discover import discover
from backchain.engines import copier
from backchain.engines.builtin import BuiltinEngine
from backchain.engines.carriers import carrier_to
from backchain.errors import StalePlanError, VerificationError
from backchain.jobs import Job, JobState
from backchain.journal import read_journals
from backchain.operations import Commit, Delete, Operation, Pull, Rebase
from backchain.planning import make_plan
from backchain.record import Stage
from backchain.verify import Extent

from . import qemu
from .images import chain_of
from .planned import node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from backchain.engines.carriers import Load
    from backchain.plan import Plan

MIB = 1 << 20


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    paths = chain_of(tmp_path, "root", "one", "two", "three", size=4 * MIB)
    for number, path in enumerate(paths):
        qemu.io(path, f"write -q -P {number + 1} {number * 300}k 900k")
    return paths


def plan_of(verb: str, chain: list[Path]) -> Plan:
    graph = discover([chain[0].parent])
    root, one, two, three = (node(graph, p) for p in chain)
    operations: dict[str, Operation] = {
        "commit": Commit(root, two), "commit-active": Commit(root, three),
        "commit-kept": Commit(root, three, keep_top=True), "pull": Pull(three, root),
        "rebase": Rebase(three, one), "delete": Delete((three,)),
    }  # fmt: skip
    return make_plan(graph, operations[verb])


VERBS = ("commit", "commit-active", "commit-kept", "pull", "rebase")


class _Clumsy:
    """Carries as another carrier does, and then writes a wrong byte into everything that it has carried."""

    def __init__(self, target: int, sources: Iterable[int]) -> None:
        self._target = target
        self._honest = carrier_to(target, sources)
        self.close, self.expect = self._honest.close, self._honest.expect

    def carry(self, load: Load) -> Sequence[Load]:
        return self._spoil(self._honest.carry(load))

    def finish(self) -> Sequence[Load]:
        return self._spoil(self._honest.finish())

    def _spoil(self, delivered: Sequence[Load]) -> Sequence[Load]:
        for load in delivered:
            os.pwrite(self._target, b"\xee", load.to)
        return delivered


@pytest.fixture
def wrong_copies() -> Iterator[None]:
    """Let the engine write a wrong byte into everything that it copies."""
    with mock.patch.object(copier, "carrier_to", _Clumsy):
        yield


@pytest.mark.usefixtures("wrong_copies")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("extent", [Extent.SAMPLED, Extent.WHOLE])
def test_a_wrong_copy_changes_no_link(chain: list[Path], verb: str, extent: Extent) -> None:
    links = [qemu.info(p).get("backing-filename") for p in chain]
    sizes = qemu.allocated(chain[-1])
    plan, job = plan_of(verb, chain), None
    job = Job(plan)
    with pytest.raises(VerificationError, match="does not read what it should"):
        BuiltinEngine().run(plan, job, verify=extent)
    assert job.state is JobState.FAILED
    assert [qemu.info(p).get("backing-filename") for p in chain] == links
    if verb.startswith("commit"):  # the top was not emptied, and reads as before
        assert qemu.allocated(chain[-1]) == sizes
        assert [r.stage for r in read_journals([chain[0].parent])] == [Stage.ABANDONED]


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_verified_is_said(chain: list[Path], verb: str) -> None:
    plan = plan_of(verb, chain)
    assert BuiltinEngine().run(plan, Job(plan)).verified == "whole"  # small disks are read as a whole


def test_large_disks_are_sampled(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one", size=8 << 30)
    qemu.io(one, "write -q -P 7 5G 70M")
    graph = discover([tmp_path])
    for extent, said in ((Extent.NO, "no"), (Extent.SAMPLED, "sampled")):
        plan = make_plan(graph, Commit(node(graph, root), node(graph, one), keep_top=True))
        assert BuiltinEngine().run(plan, Job(plan), verify=extent).verified == said
        graph = discover([tmp_path])


@pytest.mark.usefixtures("wrong_copies")
def test_samples_meet_what_was_copied(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one", size=8 << 30)
    qemu.io(one, "write -q -P 7 5G 64k")
    graph = discover([tmp_path])
    plan = make_plan(graph, Commit(node(graph, root), node(graph, one)))
    with pytest.raises(VerificationError):
        BuiltinEngine().run(plan, Job(plan), verify=Extent.SAMPLED)


# --- freshness --------------------------------------------------------------------------------------------------------


def forget_an_overlay(chain: list[Path]) -> None:
    qemu.create(chain[0].parent / "late.qcow2", None, backing=chain[0])


def grow_a_branch(chain: list[Path]) -> None:
    qemu.create(chain[0].parent / "late.qcow2", None, backing=chain[3])


CHANGES: dict[str, tuple[str, Callable[[list[Path]], object]]] = {
    "an overlay of the base": ("commit", forget_an_overlay),
    "an overlay of the image": ("delete", grow_a_branch),
    "data in a source": ("pull", lambda chain: qemu.io(chain[2], "write -q -P 9 0 64k")),
    "data in the target": ("rebase", lambda chain: qemu.io(chain[3], "write -q -P 9 0 64k")),
    "a source that is gone": ("commit", lambda chain: chain[1].unlink()),
    "a target that is gone": ("delete", lambda chain: chain[3].unlink()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_chain_that_changed_since_is_planned_again(chain: list[Path], change: str) -> None:
    verb, act = CHANGES[change]
    plan = plan_of(verb, chain)
    act(chain)
    before = {p: qemu.digest(p) for p in chain if p.exists()}
    with pytest.raises(StalePlanError, match="plan again") as caught:
        BuiltinEngine().run(plan, Job(plan))
    assert caught.value.exit_code == 3
    assert {p: qemu.digest(p) for p in chain if p.exists()} == before
    assert read_journals([chain[0].parent]) == ()


def test_a_plan_outlasts_the_clock(chain: list[Path]) -> None:
    """However soon a write follows a plan, the plan is stale: its making ends in another tick of the clock."""
    for n in range(5):
        plan = plan_of("rebase", chain)
        with chain[0].open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes([n]))
        with pytest.raises(StalePlanError):
            BuiltinEngine().run(plan, Job(plan))
