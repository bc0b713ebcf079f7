"""Plans on images that QEMU made, and what is asked of them: for the tests of hazards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BlockedError
from backchain.jobs import Job, JobState
from backchain.operations import Commit, Delete, Pull, Rebase
from backchain.planning import make_plan

from . import qemu

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation
    from backchain.plan import Hazard, Plan


def node(graph: ChainGraph, path: Path) -> ImageId:
    return next(i for i in graph if graph[i].path == path)


def commit(base: Path, top: Path, *, keep_top: bool = False) -> Plan:
    graph = discover([top.parent])
    return make_plan(graph, Commit(node(graph, base), node(graph, top), keep_top))


def pull(image: Path, base: Path | None) -> Plan:
    graph = discover([image.parent])
    return make_plan(graph, Pull(node(graph, image), node(graph, base) if base else None))


def hazard(plan: Plan, code: str) -> Hazard:
    found = [h for h in plan.hazards if h.code == code]
    assert found, f"{code} not among {[h.code for h in plan.hazards]}"
    return found[0]


def codes(plan: Plan) -> set[str]:
    return {h.code for h in plan.hazards}


def refused(plan: Plan) -> None:
    """A run of the plan is refused with the contract's status, and nothing is written."""
    before = {p.path: qemu.digest(p.path) for p in plan.before.images.values() if p.path.exists()}
    job = Job(plan)
    with pytest.raises(BlockedError) as caught:
        BuiltinEngine().run(plan, job)
    assert caught.value.exit_code == 3
    assert job.state is JobState.FAILED
    assert {path: qemu.digest(path) for path in before} == before


def rebase(image: Path, backing: Path | None, *, unsafe: bool = False, kind: str | None = None) -> Plan:
    graph = discover([image.parent])
    below = node(graph, backing) if backing is not None else None
    return make_plan(graph, Rebase(node(graph, image), below, unsafe, None, kind))


def run(plan: Plan, *forced: str) -> None:
    assert BuiltinEngine().run(plan, Job(plan), frozenset(forced)).status == "done"


def delete(*images: Path, scan: Sequence[Path] = ()) -> Plan:
    graph = discover(images, scan=scan)
    return make_plan(graph, Delete(tuple(node(graph, i) for i in images)))


def stopping(graph: ChainGraph, operation: Operation) -> set[str]:
    """Give the codes of the hazards that stop an operation."""
    return {h.code for h in make_plan(graph, operation).stopping()}
