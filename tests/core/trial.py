"""One operation on a real forest: what was before, the plan, the run, and what must hold afterwards.

Every judgement here is QEMU's: views by ``qemu-img convert``, soundness by ``qemu-img check``, links by
``qemu-img info``; files are compared byte for byte.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from unittest import mock

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.engines.carriers import DirectCarrier, KernelCarrier, carrier_to
from backchain.image import ImageState
from backchain.jobs import Cell, Job, JobState
from backchain.operations import Commit, Operation, Pull, Rebase
from backchain.plan import Plan, Severity
from backchain.planning import make_plan

from . import qemu

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backchain.engines.base import Result
    from backchain.engines.carriers import Carrier
    from backchain.graph import ChainGraph
    from backchain.image import ImageId

    from .chains import Built


Way = Literal["chosen", "kernel", "direct"]
"""How data is carried into a target: as the engine chooses, by the kernel, past the page cache."""

FORCED = frozenset({"internal-snapshots"})
"""What the tests accept of what a user would have to confirm; `Trial` then expects nothing of those snapshots."""


@contextmanager
def windows_of(table_bytes: int) -> Iterator[None]:
    """Let tables be read in windows of so many bytes, so that small disks meet the edges of windows, too."""
    decoded = max(table_bytes // 4, 64)
    units = max(table_bytes // 32 - 3, 5)  # no power of two, so that parts end amid the clusters of other images
    with (
        mock.patch("backchain.qcow2.image._WINDOW_TABLE_BYTES", table_bytes),
        mock.patch("backchain.qcow2.image._DECODED_TABLE_BYTES", decoded),
        mock.patch("backchain.transfer._MOST_UNITS", units),
    ):
        yield


@contextmanager
def carried(way: Way) -> Iterator[None]:
    """Let data go by one way, on whatever file system the tests are; in memory none would be direct by itself."""

    def choose(target: int, sources: Iterable[int]) -> Carrier:
        if way == "chosen":
            return carrier_to(target, sources)
        if way == "kernel":
            return KernelCarrier(target)
        name, flags = f"/proc/self/fd/{target}", os.O_RDWR | os.O_CLOEXEC
        try:
            direct = os.open(name, flags | os.O_DIRECT)
        except OSError:
            direct = os.open(name, flags)
        return DirectCarrier(target, direct)

    with mock.patch("backchain.engines.copier.carrier_to", choose):
        yield


def graph_of(built: Built) -> ChainGraph:
    """Read the forest as backchain finds it: the folder, with everything in it."""
    return discover([built.folder])


def id_of(graph: ChainGraph, path: Path) -> ImageId:
    """Give the node of a file."""
    return next(i for i in graph if graph[i].path == path)


def links(graph: ChainGraph) -> dict[str, str | None]:
    """Give overlay -> backing file by file name; what a commit has invalidated does not count."""
    found: dict[str, str | None] = {}
    for image in graph:
        if graph[image].state is ImageState.INVALID:
            continue
        backing = graph.backing_of(image)
        found[graph[image].path.name] = graph[backing].path.name if backing is not None else None
    return found


@dataclass
class Before:
    """The forest as it was: views (SHA-256 and bytes of the target's), files, checks."""

    views: dict[Path, bytes] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    allocated: dict[Path, int] = field(default_factory=dict)
    checks: dict[Path, qemu.Check] = field(default_factory=dict)
    snapshots: dict[Path, dict[str, bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, built: Built) -> Before:
        """Take everything down."""
        before = cls()
        for path in built.paths:
            before.views[path] = qemu.view(path)
            before.digests[path] = qemu.digest(path)
            before.sizes[path] = path.stat().st_size
            before.allocated[path] = qemu.allocated(path)
            before.checks[path] = qemu.check(path)
            before.snapshots[path] = snapshots_of(path)
        return before


def snapshots_of(path: Path) -> dict[str, bytes]:
    """Give the view of every internal snapshot of an image, by name."""
    if qemu.format_of(path) == "raw":
        return {}
    return {s["name"]: qemu.view_of_snapshot(path, s["name"]) for s in qemu.info(path).get("snapshots", [])}


class Trial:
    """A plan on a built forest, and the checks of its outcome."""

    def __init__(self, built: Built, operation: Operation, graph: ChainGraph | None = None) -> None:
        self.built = built
        self.graph = graph or graph_of(built)
        self.operation = operation
        self.before = Before.of(built)
        self.plan: Plan = make_plan(self.graph, operation)
        assert {p: qemu.digest(p) for p in built.paths} == self.before.digests, "planning wrote to an image"

    @classmethod
    def commit(cls, built: Built, base: int, top: int, *, keep_top: bool = False) -> Trial:
        """Plan a commit between two layers of the spec."""
        graph = graph_of(built)
        operation = Commit(id_of(graph, built.paths[base]), id_of(graph, built.paths[top]), keep_top)
        return cls(built, operation, graph)

    @classmethod
    def pull(cls, built: Built, image: int, base: int | None) -> Trial:
        """Plan a pull into a layer of the spec."""
        graph = graph_of(built)
        below = id_of(graph, built.paths[base]) if base is not None else None
        return cls(built, Pull(id_of(graph, built.paths[image]), below), graph)

    @classmethod
    def rebase(cls, built: Built, image: int, backing: int | None, *, unsafe: bool = False) -> Trial:
        """Plan a rebase of a layer of the spec."""
        graph = graph_of(built)
        below = id_of(graph, built.paths[backing]) if backing is not None else None
        return cls(built, Rebase(id_of(graph, built.paths[image]), below, unsafe), graph)

    # --- parts of the plan, as paths ------------------------------------------------------------------------------

    def path(self, image: ImageId) -> Path:
        return self.graph[image].path

    @property
    def target(self) -> Path:
        return self.path(self.plan.target)

    @property
    def blocks(self) -> set[str]:
        """Codes of the blocking hazards."""
        return {h.code for h in self.plan.hazards if h.severity is Severity.BLOCK}

    @property
    def codes(self) -> set[str]:
        return {h.code for h in self.plan.hazards}

    @property
    def invalidated(self) -> set[Path]:
        return {self.path(i) for i in self.plan.invalidated}

    @property
    def changed(self) -> set[Path]:
        """The images that the plan says will be written to."""
        paths = {self.path(r.image) for r in self.plan.relinked} | {self.target}
        return paths | ({self.path(self.plan.emptied)} if self.plan.emptied is not None else set())

    @property
    def surviving(self) -> list[Path]:
        """The images whose view must not change: for a commit all but the target and the invalid."""
        return [
            p
            for p in self.built.paths
            if p not in self.invalidated and (p != self.target or not isinstance(self.operation, Commit))
        ]

    # --- running --------------------------------------------------------------------------------------------------

    def run(self, job: Job | None = None) -> Result:
        """Run the plan with the builtin engine and make sure that the whole of it was done and was right."""
        job = job or Job(self.plan)
        result = BuiltinEngine().run(self.plan, job, FORCED)
        assert job.state is JobState.DONE
        assert result.status == "done"
        assert set(job.cells.tolist()) <= {int(Cell.DONE)}
        assert job.cells.size == self.plan.clusters
        assert int(job.source_bytes.sum()) == self.plan.bytes
        assert (result.clusters, result.bytes) == (self.plan.clusters, self.plan.bytes)
        self.assert_done()
        return result

    def assert_done(self) -> None:
        """Everything that must hold after a run that was completed."""
        self.assert_sound()
        self.assert_views_kept()
        self.assert_only_planned_changes()
        self.assert_growth()
        self.assert_links()
        if isinstance(self.operation, Commit):
            self.assert_base_reads_as_top()

    def assert_sound(self, *, leaks_allowed: bool = False) -> None:
        """No image has an error, nor a leak that was not there before."""
        for path in self.built.paths:
            found = qemu.check(path)
            assert found.corruptions == 0, f"{path.name}: {found.text}"
            if not leaks_allowed:
                assert found.leaks <= self.before.checks[path].leaks, f"{path.name}: {found.text}"

    def assert_views_kept(self) -> None:
        """What a guest reads through every surviving image is as it was; so are internal snapshots."""
        for path in self.surviving:
            assert_same_view(path, self.before.views[path], qemu.view(path))
        for path in self.built.paths:
            if path not in self.invalidated and path not in self.snapshots_given_up:
                now, then = snapshots_of(path), self.before.snapshots[path]
                assert now.keys() == then.keys(), f"{path.name}: snapshots changed"
                for name, view in then.items():
                    # QEMU shows a snapshot in the size that the image has now; it may have grown.
                    assert_same_view(path, view, now[name][: len(view)])

    @property
    def snapshots_given_up(self) -> set[Path]:
        """Images whose internal snapshots the plan warned of."""
        return {self.path(i) for h in self.plan.hazards if h.code == "internal-snapshots" for i in h.images}

    def assert_only_planned_changes(self) -> None:
        """Images that the plan does not name as changed are byte for byte as they were."""
        for path in self.built.paths:
            if path not in self.changed:
                assert qemu.digest(path) == self.before.digests[path], f"{path.name} was written to"

    def assert_growth(self) -> None:
        """The target grew no more than was promised, in length and on disk."""
        length = self.target.stat().st_size - self.before.sizes[self.target]
        disk = qemu.allocated(self.target) - self.before.allocated[self.target]
        assert max(length, disk) <= self.plan.growth_bytes, f"grew by {length} and {disk}: {self.plan.growth_bytes}"

    def assert_links(self) -> None:
        """The links are those of the plan's graph, and QEMU can open every chain."""
        assert links(graph_of(self.built)) == links(self.plan.after)
        for path in self.built.paths:
            named = [Path(i["filename"]).name for i in qemu.backing_chain(path)]
            after = self.plan.after
            node = id_of(after, path)
            if after[node].state is ImageState.INVALID:
                continue
            assert named == [after[i].path.name for i in after.chain(node)]

    def assert_base_reads_as_top(self) -> None:
        """The commit's base reads as its top did; what lies beyond the top's end is as it was."""
        assert isinstance(self.operation, Commit)
        top, old = self.before.views[self.path(self.operation.top)], self.before.views[self.target]
        assert_same_view(self.target, top + old[len(top) :], qemu.view(self.target))


def assert_same_view(path: Path, expected: bytes, found: bytes) -> None:
    """Compare two views, and name the first ranges that differ."""
    assert len(expected) == len(found), f"{path.name}: {len(expected)} bytes became {len(found)}"
    if expected != found:
        ranges = differing(expected, found)
        raise AssertionError(f"{path.name} reads differently at (sector, sectors) {ranges[:8]}")


def differing(one: bytes, other: bytes, unit: int = 512) -> list[tuple[int, int]]:
    """Give the ranges (first unit, units) in which two views differ; the shorter is taken to go on as zeros."""
    size = max(len(one), len(other))
    one, other = one.ljust(size, b"\0"), other.ljust(size, b"\0")
    ranges: list[tuple[int, int]] = []
    for start in range(0, size, unit):
        if one[start : start + unit] != other[start : start + unit]:
            number = start // unit
            if ranges and sum(ranges[-1]) == number:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + 1)
            else:
                ranges.append((number, 1))
    return ranges
