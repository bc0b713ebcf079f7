"""Hazards of what images hold: encrypted data, damage, data files."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BlockedError, UnsupportedImageError
from backchain.jobs import Job
from backchain.operations import Snapshot
from backchain.plan import Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of
from .planned import codes, commit, hazard, node, pull, rebase, refused

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
MASK = (1 << 56) - (1 << 9)
"""The offset in an entry of an L1 or L2 table."""


def assert_damaged(base: Path, top: Path) -> None:
    """QEMU says that the base is damaged, and a commit into it is refused for that."""
    assert qemu.check(base).corruptions
    plan = commit(base, top)
    assert hazard(plan, "corrupt").severity is Severity.BLOCK
    refused(plan)


def test_encrypted_data_does_not_go_into_a_plain_base(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    secret, top = "secret,id=s,data=key", tmp_path / "top.qcow2"
    qemu.run_patiently(
        "qemu-img", "create", "-q", "--object", secret, "-f", "qcow2", "-b", "root.qcow2", "-F", "qcow2",
        "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", top,
    )  # fmt: skip
    for plan in (commit(root, top), pull(top, None), rebase(top, None)):
        assert hazard(plan, "encryption").severity in {Severity.CONFIRM, Severity.BLOCK}
        refused(plan)
    found = [h for h in commit(root, top).hazards if h.code == "encryption"]
    assert {h.severity for h in found} == {Severity.CONFIRM, Severity.BLOCK}
    assert "plain text" in next(h.message for h in found if h.severity is Severity.CONFIRM)
    with pytest.raises(BlockedError):
        BuiltinEngine().run(commit(root, top), Job(commit(root, top)), frozenset({"encryption"}))


def test_a_new_overlay_of_an_encrypted_image_is_plain(tmp_path: Path) -> None:
    secret, image, new = "secret,id=s,data=key", tmp_path / "image.qcow2", tmp_path / "new.qcow2"
    qemu.run_patiently(
        "qemu-img", "create", "-q", "--object", secret, "-f", "qcow2",
        "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", image, "1M",
    )  # fmt: skip
    graph = discover([image])
    plan = make_plan(graph, Snapshot(node(graph, image), new))
    assert hazard(plan, "encryption").severity is Severity.CONFIRM
    refused(plan)
    BuiltinEngine().run(plan, Job(plan), frozenset({"encryption"}))
    assert "encrypted" not in json.loads(qemu.run("qemu-img", "info", "--output=json", new))
    graph = discover([new])
    assert "encryption" not in codes(make_plan(graph, Snapshot(node(graph, new), tmp_path / "newer.qcow2")))


def test_what_qemu_img_check_would_fault_blocks(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(root, "write -P 1 0 128k")
    qemu.io(one, "write -P 2 0 64k")
    assert "corrupt" not in codes(commit(root, one))
    data = bytearray(root.read_bytes())
    l2 = int.from_bytes(data[int.from_bytes(data[40:48], "big") :][:8], "big") & MASK
    data[l2 + 8 : l2 + 16] = data[l2 : l2 + 8]  # two guest clusters in one host cluster
    root.write_bytes(data)
    assert_damaged(root, one)


def test_an_external_data_file_is_refused(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    top = tmp_path / "top.qcow2"
    qemu.create(top, MIB, backing=root, data_file=str(tmp_path / "top.data"))
    with pytest.raises(UnsupportedImageError, match="external data file"):
        commit(root, top)


def test_what_a_snapshot_uses_is_counted_too(tmp_path: Path) -> None:
    """Its clusters would be given out and written over; several snapshots may share a table, which is sound."""
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(root, "write -P 1 0 256k")
    for name in ("s", "t", "u"):
        qemu.run("qemu-img", "snapshot", "-c", name, root)
    qemu.io(root, "write -P 2 0 256k")
    qemu.io(one, "write -P 3 512k 256k")
    assert qemu.check(root).clean
    assert "corrupt" not in codes(commit(root, one))
    data = bytearray(root.read_bytes())
    table, *_ = struct.unpack_from(">Q", data, int.from_bytes(data[48:56], "big"))
    l1, *_ = struct.unpack_from(">Q", data, int.from_bytes(data[64:72], "big"))
    l2, *_ = struct.unpack_from(">Q", data, l1)
    cluster, *_ = struct.unpack_from(">Q", data, l2 & MASK)
    struct.pack_into(">H", data, table + 2 * ((cluster & MASK) >> 16), 2)  # three snapshots read it
    root.write_bytes(data)
    assert_damaged(root, one)


def test_snapshots_that_have_a_table_in_common_are_damage(tmp_path: Path) -> None:
    """Thousands that name the same one would take as many times as long."""
    root, one = chain_of(tmp_path, "root", "one")
    qemu.run("qemu-img", "snapshot", "-c", "s", root)
    data = bytearray(root.read_bytes())
    place = int.from_bytes(data[64:72], "big")
    entry = bytes(data[place : place + 40]) + bytes(-40 % 8)
    data[60:64] = (2).to_bytes(4, "big")
    again = struct.pack(">QIHH", *struct.unpack_from(">QI", entry), 0, 0) + bytes(24)
    data[place:] = (again * 2).ljust(len(data) - place, b"\0")
    root.write_bytes(data)
    assert qemu.check(root).corruptions
    plan = commit(root, one)
    assert "amid another" in next(h.message for h in plan.hazards if h.code == "corrupt")
