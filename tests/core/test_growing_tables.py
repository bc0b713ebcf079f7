"""Images whose L1 table, refcount table and refcount blocks must grow amid an operation."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.hostfile import write_all
from backchain.image import read_image_info, require_header
from backchain.jobs import Job
from backchain.operations import Commit, Pull
from backchain.planning import make_plan
from backchain.qcow2.writer import Qcow2Writer

from . import qemu
from .images import chain_of

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def tiny_tables(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Make base <- middle <- top with 512-byte clusters and 64-bit refcounts: a table cluster counts 2 MiB."""
    base, middle, top = (tmp_path / f"{name}.qcow2" for name in ("base", "middle", "top"))
    options = {"cluster_size": 512, "refcount_bits": 64}
    qemu.create(base, 4 * MIB, **options)
    qemu.create(middle, 6 * MIB, backing=base, **options)
    qemu.create(top, 12 * MIB, backing=middle, **options)
    qemu.io(base, "write -P 1 0 64k")
    qemu.io(middle, "write -P 2 32k 4M")
    qemu.io(top, "write -P 3 3M 64k", "write -P 4 11M 512k")
    return base, middle, top


@pytest.mark.parametrize("verb", ["commit", "commit the middle", "pull", "pull everything"])
def test_tables_grow(tiny_tables: tuple[Path, Path, Path], verb: str) -> None:
    base, middle, top = tiny_tables
    graph = discover([base.parent])
    nodes = {graph[i].path: i for i in graph}
    operation = {
        "commit": Commit(nodes[base], nodes[top]),
        "commit the middle": Commit(nodes[base], nodes[middle]),
        "pull": Pull(nodes[top], nodes[base]),
        "pull everything": Pull(nodes[top], None),
    }[verb]
    before = qemu.view(top)
    plan = make_plan(graph, operation)
    result = BuiltinEngine().run(plan, Job(plan))
    assert (result.clusters, result.bytes) == (plan.clusters, plan.bytes)
    assert qemu.view(top) == before
    for path in (base, middle, top):
        found = qemu.check(path)
        assert (found.corruptions, found.leaks) == (0, 0), f"{path.name}: {found.text}"
    if isinstance(operation, Commit):
        size = qemu.info(base)["virtual-size"]
        assert size == (12 if verb == "commit" else 6) * MIB
    assert [p["filename"] for p in qemu.backing_chain(top)] == [str(top), *([str(base)] if operation.base else [])]


@pytest.mark.parametrize("verb", ["commit", "pull"])
def test_a_gap_in_the_refcount_table(tmp_path: Path, verb: str) -> None:
    """A run that died may have made its file longer; what comes then lies behind that, and no block counts the gap."""
    base, middle, top = chain_of(tmp_path, "base", "middle", "top", size=8 * MIB, cluster_size=1024)
    qemu.io(base, "write -q -P 1 0 64k")
    qemu.io(middle, "write -q -P 2 32k 700k")
    qemu.io(top, "write -q -P 3 1M 64k")
    target = base if verb == "commit" else top
    with target.open("r+b") as file:
        file.truncate(3 * MIB // 2)
    graph = discover([tmp_path])
    nodes = {graph[i].path: i for i in graph}
    plan = make_plan(graph, Commit(nodes[base], nodes[middle]) if verb == "commit" else Pull(nodes[top], nodes[base]))
    before = qemu.view(top)
    BuiltinEngine().run(plan, Job(plan))
    assert qemu.view(top) == before
    assert (qemu.check(target).corruptions, qemu.check(target).leaks) == (0, 0)
    with target.open("r+b") as file:
        writer = Qcow2Writer(file.fileno(), require_header(read_image_info(target)))
        used = writer.allocator.table != 0
        assert used[0]
        assert not used[1]
        assert used[2:].any()
        writer.check()
        assert writer.release_leaks() == 0


@pytest.mark.parametrize(("bits", "there", "sectors"), [(16, 0, 1), (64, 9400, 2)])
def test_no_refcount_block_is_linked_before_the_one_that_counts_it(
    tmp_path: Path, bits: int, there: int, sectors: int
) -> None:
    """A kill between the writes that link the many new blocks of a batch leaves leaks at worst."""
    base, top, state = (tmp_path / f"{name}.qcow2" for name in ("base", "top", "state"))
    qemu.create(base, 20 * MIB, cluster_size=512)
    qemu.create(top, 20 * MIB, backing=base, cluster_size=512, refcount_bits=bits)
    if there:
        qemu.io(top, f"write -q -P 1 8M {there}k")
    qemu.io(base, "write -q -P 2 0 1100k")
    graph = discover([tmp_path])
    plan = make_plan(graph, Pull(next(i for i in graph if graph[i].path == top), None))
    linked = []

    def write(descriptor: int, data: bytes, offset: int) -> None:
        header = require_header(read_image_info(top))
        place = offset - header.refcount_table_offset
        if 0 <= place < header.refcount_table_clusters * 512:
            linked.append(place // 512)
        shutil.copyfile(top, state)
        found = qemu.check(state)
        assert not found.corruptions, found.text
        write_all(descriptor, data, offset)

    with mock.patch("backchain.qcow2.allocator.write_all", write):
        BuiltinEngine().run(plan, Job(plan))
    assert len(set(linked)) == sectors
    assert qemu.check(top).clean
