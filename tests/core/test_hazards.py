"""Each hazard of a commit or a pull: found where QEMU's tools made it, and absent where they did not."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import UsageError
from backchain.jobs import Job
from backchain.operations import Commit
from backchain.plan import Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of, overlay
from .planned import codes, commit, hazard, node, pull, refused, run

if TYPE_CHECKING:
    from pathlib import Path


CLUSTER = 65536
MIB = 1 << 20


def test_a_sound_chain_has_no_hazard(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    qemu.io(one, "write -P 1 0 64k")
    qemu.io(two, "write -P 2 64k 64k")
    assert commit(root, one).hazards == ()
    assert commit(root, two).hazards == ()
    assert pull(two, root).hazards == ()


def test_sibling_of_the_target_names_the_damaged_ranges(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    (_, forgotten) = chain_of(tmp_path, "root", "forgotten")
    (_, deeper) = chain_of(tmp_path, "forgotten", "deeper")
    qemu.io(one, "write -P 1 0 256k")
    qemu.io(forgotten, "write -P 9 64k 64k")
    plan = commit(root, one)
    found = hazard(plan, "sibling-corruption")
    assert found.severity is Severity.BLOCK
    assert set(found.images) == {node(plan.before, forgotten), node(plan.before, deeper)}
    assert found.ranges == ((0, CLUSTER), (2 * CLUSTER, 2 * CLUSTER))
    refused(plan)


def test_sibling_of_a_committed_intermediate(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    (_, forgotten) = chain_of(tmp_path, "one", "forgotten")
    qemu.io(two, "write -P 1 0 64k")
    assert hazard(commit(root, two), "sibling-corruption").images == (node(discover([tmp_path]), forgotten),)
    assert "sibling-corruption" not in codes(commit(root, one))  # two and forgotten are relinked then
    assert "sibling-corruption" not in codes(pull(two, root))


def test_two_overlays_of_the_top_are_both_relinked(tmp_path: Path) -> None:
    root, one, _two = chain_of(tmp_path, "root", "one", "two")
    chain_of(tmp_path, "one", "other")
    plan = commit(root, one)
    assert len(plan.relinked) == 2
    assert plan.hazards == ()


def test_missing_backing_file_blocks(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    root.unlink()
    plan = commit(one, two)
    assert hazard(plan, "missing-backing").severity is Severity.BLOCK
    refused(plan)


def test_loop_blocks(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    qemu.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "two.qcow2", "-F", "qcow2", root)
    plan = commit(one, two)
    assert hazard(plan, "loop").severity is Severity.BLOCK
    refused(plan)


@pytest.mark.parametrize(("bit", "code"), [(1, "dirty"), (2, "corrupt")])
def test_dirty_and_corrupt_bits_block(tmp_path: Path, bit: int, code: str) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    assert code not in codes(commit(root, one))
    data = bytearray(root.read_bytes())
    data[79] |= bit  # incompatible_features, lowest byte
    root.write_bytes(data)
    plan = commit(root, one)
    assert hazard(plan, code).severity is Severity.BLOCK
    refused(plan)


def test_a_dirty_image_keeps_its_data_when_it_is_mended_as_advised(tmp_path: Path) -> None:
    root, one = tmp_path / "root.qcow2", tmp_path / "one.qcow2"
    qemu.create(root, 8 * MIB, lazy_refcounts="on")
    qemu.create(one, None, backing=root)
    qemu.attempt("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "flush", "-c", "abort", root)
    found = re.search(r"run (qemu-img .*) on it", hazard(commit(root, one), "dirty").message)
    assert found is not None
    qemu.attempt(*found[1].split(), root)
    qemu.io(root, "write -P 2 4M 1M")
    assert qemu.check(root).clean
    assert qemu.view(root) == b"".join(bytes([n]) * MIB for n in (1, 0, 0, 0, 2, 0, 0, 0))
    assert "dirty" not in codes(commit(root, one))


def test_internal_snapshots_need_a_deliberate_yes(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    qemu.run("qemu-img", "snapshot", "-c", "kept", root)
    assert "internal-snapshots" not in codes(commit(root, two))  # the base's own snapshots survive
    qemu.run("qemu-img", "snapshot", "-c", "lost", two)
    plan = pull(two, root)
    assert hazard(plan, "internal-snapshots").severity is Severity.CONFIRM
    refused(plan)
    assert BuiltinEngine().run(plan, Job(plan), frozenset({"internal-snapshots"})).status == "done"
    assert "internal-snapshots" not in codes(pull(one, None))


def test_no_space_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 1 0 512k")
    real = os.statvfs(tmp_path)
    for free, severity in ((100_000, Severity.BLOCK), (commit(root, one).growth_bytes + 5_000, Severity.WARN)):
        values = list(real)
        values[0] = values[1] = 1
        values[4] = free
        monkeypatch.setattr(os, "statvfs", lambda _path, v=values: os.statvfs_result(v))
        assert hazard(commit(root, one), "no-space").severity is severity
    monkeypatch.undo()
    assert "no-space" not in codes(commit(root, one))


def test_permission_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == root and mode & os.W_OK))
    plan = commit(root, one)
    assert hazard(plan, "permission").images == (plan.target,)
    refused(plan)


def test_wrong_and_absent_formats(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    wrong = overlay(tmp_path / "wrong.qcow2", "root.qcow2", "raw")
    one.unlink()
    assert hazard(commit(root, wrong), "format-mismatch").severity is Severity.BLOCK
    wrong.unlink()
    absent = overlay(tmp_path / "absent.qcow2", "root.qcow2", None)
    assert hazard(commit(root, absent), "format-absent").severity is Severity.WARN
    absent.unlink()
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    probed = overlay(tmp_path / "probed.qcow2", "disk.raw", None)
    assert hazard(commit(tmp_path / "disk.raw", probed), "format-absent").severity is Severity.BLOCK


def test_base_that_grows(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.run("qemu-img", "resize", "-q", one, "3M")
    plan = commit(root, one)
    assert hazard(plan, "base-grows").severity is Severity.WARN
    assert BuiltinEngine().run(plan, Job(plan)).status == "done"
    assert qemu.info(root)["virtual-size"] == 3 << 20


def test_version_2_base_with_snapshots_cannot_grow(tmp_path: Path) -> None:
    root, one = tmp_path / "root.qcow2", tmp_path / "one.qcow2"
    qemu.create(root, 1 << 20, compat="0.10")
    qemu.run("qemu-img", "snapshot", "-c", "kept", root)
    qemu.create(one, 2 << 20, backing=root)
    plan = commit(root, one)
    assert hazard(plan, "base-grows").severity is Severity.BLOCK
    refused(plan)


def test_overlay_longer_than_the_top(tmp_path: Path) -> None:
    root, one, two = (tmp_path / f"{n}.qcow2" for n in ("root", "one", "two"))
    qemu.create(root, 4 << 20)
    qemu.io(root, "write -P 7 0 4M")
    qemu.create(one, 1 << 20, backing=root)
    qemu.create(two, 4 << 20, backing=one)
    plan = commit(root, one)
    assert hazard(plan, "shorter-middle").severity is Severity.BLOCK
    refused(plan)
    qemu.io(two, "write -P 8 1M 3M")  # now the overlay holds the tail itself
    assert "shorter-middle" not in codes(commit(root, one))


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_overlay_longer_than_the_top_of_a_base_without_a_tail(tmp_path: Path, kind: str) -> None:
    """Where the base holds nothing past the top's end, the overlay reads zeros through it as well."""
    root, one, two = tmp_path / f"root.{kind}", tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    qemu.create(root, 4 << 20)
    qemu.io(root, "write -P 7 0 1M", "write -z 2M 64k")
    qemu.create(one, 1 << 20, backing=root)
    qemu.io(one, "write -P 8 64k 64k")
    qemu.create(two, 4 << 20, backing=one)
    qemu.io(two, "write -P 9 3M 64k")
    view = qemu.view(two)
    run(commit(root, one))
    assert qemu.info(two)["backing-filename"] == root.name
    assert qemu.view(two) == view


def test_compressed_data_is_written_plain(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -c -P 3 0 128k", "write -P 4 256k 64k")
    plan = commit(root, one)
    assert hazard(plan, "blow-up").severity is Severity.WARN
    assert "131,072 bytes of plain data" in hazard(plan, "blow-up").message
    assert plan.bytes == 3 * CLUSTER


def test_bitmaps_of_base_and_overlay(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 3 0 128k")
    for path in (root, one):
        qemu.run("qemu-img", "bitmap", "--add", path, "daily")
    plan = commit(root, one)
    assert {h.images for h in plan.hazards if h.code == "bitmaps"} == {(i,) for i in plan.before}
    BuiltinEngine().run(plan, Job(plan))
    flags = qemu.info(root)["format-specific"]["data"]["bitmaps"][0]["flags"]
    assert "in-use" in flags  # the commit was not recorded: the bitmap must not be trusted
    assert qemu.check(root).leaks == 0
    assert qemu.info(one)["format-specific"]["data"]["bitmaps"][0]["flags"] == ["auto"]


def test_what_was_not_looked_at_is_said(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    graph = discover([tmp_path], budget=1)
    assert graph.incomplete
    graph = type(graph)(discover([tmp_path]).images.values(), discover([tmp_path]).digraph.edges, graph.surroundings)
    plan = make_plan(graph, Commit(node(graph, root), node(graph, one)))
    assert hazard(plan, "unknown-overlays").severity is Severity.WARN


def test_operations_that_make_no_sense(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    for wrong in (lambda: commit(two, one), lambda: commit(one, one), lambda: pull(root, two), lambda: pull(two, one)):
        with pytest.raises(UsageError):
            wrong()


def test_a_chain_that_changed_is_planned_again(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 1 0 64k")
    plan = commit(root, one)
    qemu.io(one, "write -P 2 64k 64k")
    refused(plan)
