"""Hazards of links: each found where QEMU's tools made it, and absent where they did not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.operations import Commit, Pull, Rebase, Snapshot
from backchain.plan import Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of, overlay
from .planned import codes, commit, hazard, node, pull, rebase, refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.plan import Plan

MIB = 1 << 20


# --- rebase -----------------------------------------------------------------------------------------------------------


def test_an_unsafe_rebase_that_would_change_the_view(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    qemu.io(one, "write -P 1 128k 64k")
    plan = rebase(two, root, unsafe=True)
    found = hazard(plan, "unsafe-rebase")
    assert (found.severity, found.ranges) == (Severity.BLOCK, ((128 << 10, 64 << 10),))
    assert "(65,536 bytes in 1 range at least)" in found.message
    refused(plan)
    qemu.io(two, "write -P 2 128k 64k")  # now the overlay holds all that differs
    view = qemu.view(two)
    plan = rebase(two, root, unsafe=True)
    assert codes(plan) == set()
    run(plan)
    assert qemu.view(two) == view
    assert qemu.info(two)["backing-filename"] == "root.qcow2"


def test_equal_data_in_another_image_is_no_change(tmp_path: Path) -> None:
    """The new base is a converted copy: other clusters, the same bytes."""
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(root, "write -P 1 64k 300k", "write -z 512k 64k")
    copy = tmp_path / "copy.qcow2"
    qemu.run("qemu-img", "convert", "-q", "-O", "qcow2", "-o", "cluster_size=4k", root, copy)
    assert codes(rebase(one, copy, unsafe=True)) == set()
    assert rebase(one, copy).clusters == 0
    qemu.io(copy, "write -P 9 100k 512")
    assert hazard(rebase(one, copy, unsafe=True), "unsafe-rebase").ranges == ((100 << 10, 512),)
    assert rebase(one, copy).clusters == 1


def test_an_unsafe_rebase_to_no_backing_file(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    assert codes(rebase(one, None, unsafe=True)) == set()  # all of root reads as zeros
    qemu.io(root, "write -P 1 0 64k")
    assert hazard(rebase(one, None, unsafe=True), "unsafe-rebase").severity is Severity.BLOCK
    qemu.io(one, "write -P 2 0 64k")
    assert codes(rebase(one, None, unsafe=True)) == set()


def test_a_shorter_middle_layer_forbids_the_unsafe_way(tmp_path: Path) -> None:
    root, mid, top = (tmp_path / f"{n}.qcow2" for n in ("root", "mid", "top"))
    qemu.create(root, 2 * MIB)
    qemu.io(root, "write -P 7 0 2M")
    qemu.create(mid, MIB, backing=root)
    qemu.create(top, 2 * MIB, backing=mid)
    plan = rebase(top, root, unsafe=True)
    assert hazard(plan, "shorter-middle").images == (node(plan.before, mid),)
    refused(plan)
    safe = rebase(top, root)
    assert codes(safe) == set()
    view = qemu.view(top)
    run(safe)
    assert qemu.view(top) == view


def test_repair_of_a_lost_base_needs_a_deliberate_yes(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(root, "write -P 1 0 64k")
    view = qemu.view(one)
    moved = root.rename(tmp_path / "moved.qcow2")
    assert hazard(rebase(one, moved), "missing-backing").severity is Severity.BLOCK
    plan = rebase(one, moved, unsafe=True)
    assert hazard(plan, "unsafe-rebase").severity is Severity.CONFIRM
    refused(plan)
    run(plan, "unsafe-rebase")
    assert qemu.view(one) == view


def test_the_format_that_is_asked_for_must_be_right(tmp_path: Path) -> None:
    root, _, two = chain_of(tmp_path, "root", "one", "two")
    plan = rebase(two, root, kind="raw")
    assert hazard(plan, "format-mismatch").severity is Severity.BLOCK
    refused(plan)
    assert codes(rebase(two, root, kind="qcow2")) == set()


def test_a_wrong_recorded_format_is_corrected_on_purpose(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    wrong = overlay(tmp_path / "wrong.qcow2", "root.qcow2", "raw")
    plan = rebase(wrong, root, unsafe=True)
    assert hazard(plan, "format-mismatch").severity is Severity.CONFIRM
    run(plan, "format-mismatch")
    assert qemu.info(wrong)["backing-filename-format"] == "qcow2"


def test_a_missing_format_is_recorded(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    absent = overlay(tmp_path / "absent.qcow2", "root.qcow2", None)
    plan = rebase(absent, root, unsafe=True, kind="qcow2")
    assert codes(plan) == set()
    run(plan)
    assert qemu.info(absent)["backing-filename-format"] == "qcow2"


def test_a_file_that_is_called_qcow2_and_is_none(tmp_path: Path) -> None:
    (one,) = chain_of(tmp_path, "one")
    garbage, disk = tmp_path / "garbage.qcow2", tmp_path / "disk.img"
    for path in (garbage, disk):
        path.write_bytes(b"garbage".ljust(MIB, b"\0"))
    graph = discover([one, garbage, disk])

    def onto(backing: Path, kind: str | None = None) -> Plan:
        return make_plan(graph, Rebase(node(graph, one), node(graph, backing), False, None, kind))

    assert hazard(onto(garbage), "format-mismatch").severity is Severity.CONFIRM
    assert "format-mismatch" not in codes(onto(garbage, "raw")) | codes(onto(disk))


@pytest.mark.parametrize("kind", ["vmdk", "vdi", "vhdx", "vpc", "qed", "parallels", "luks"])
def test_an_image_of_another_format_is_not_taken_as_raw_without_a_yes(tmp_path: Path, kind: str) -> None:
    """An overlay on it would show the guest the file, not the disk; unless an overlay that is there already does."""
    (one,) = chain_of(tmp_path, "one")
    other, new = tmp_path / "disk.img", tmp_path / "new.qcow2"
    secret = ("--object", "secret,id=s,data=x", "-o", "key-secret=s,iter-time=10") if kind == "luks" else ()
    qemu.run_patiently("qemu-img", "create", "-q", "-f", kind, *secret, other, "16M")
    graph = discover([one, other])
    rebased = make_plan(graph, Rebase(node(graph, one), node(graph, other), unsafe=True))
    for plan in (rebased, make_plan(graph, Snapshot(node(graph, other), new))):
        found = hazard(plan, "format-mismatch")
        assert found.severity is Severity.CONFIRM
        assert f"looks like a {kind} image" in found.message
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", other, "-F", "raw", tmp_path / "known.qcow2")
    graph = discover([tmp_path])
    assert codes(make_plan(graph, Snapshot(node(graph, other), new))) == set()


def test_a_format_that_the_content_alone_tells(tmp_path: Path) -> None:
    """A qcow2 header in a file called .raw may be the guest's: it is asked for, unless -F or an overlay says so."""
    (root, one) = chain_of(tmp_path, "root", "one")
    forged, new = tmp_path / "disk.raw", tmp_path / "new.qcow2"
    qemu.create(forged, MIB)
    graph = discover([forged])

    def snapshot(kind: str | None) -> Plan:
        return make_plan(graph, Snapshot(node(graph, forged), new, kind))

    for plan in (rebase(one, forged), snapshot(None)):
        assert hazard(plan, "format-absent").severity is Severity.CONFIRM
    for plan in (rebase(one, forged, kind="qcow2"), rebase(one, root), snapshot("qcow2")):
        assert not {"format-absent", "format-mismatch"} & codes(plan)
    assert hazard(snapshot("raw"), "format-mismatch").severity is Severity.BLOCK


def test_internal_snapshots_of_the_rebased_image(tmp_path: Path) -> None:
    root, _, two = chain_of(tmp_path, "root", "one", "two")
    assert "internal-snapshots" not in codes(rebase(two, root))
    qemu.run("qemu-img", "snapshot", "-c", "kept", two)
    for unsafe in (False, True):
        assert hazard(rebase(two, root, unsafe=unsafe), "internal-snapshots").severity is Severity.CONFIRM


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_that_leads_out_of_the_folders_given(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (base,) = chain_of(outside, "base")
    top = inside / "top.qcow2"
    qemu.create(top, MIB, backing=base)
    graph = discover([inside])
    plan = make_plan(graph, Pull(node(graph, top), None))
    found = hazard(plan, "untrusted-link")
    assert (found.severity, found.images) == (Severity.CONFIRM, (node(graph, top), node(graph, base)))
    refused(plan)
    for given in ({"scan": [outside]}, {"paths": [inside, base]}, {"paths": [tmp_path]}):
        graph = discover(given.get("paths", [inside]), scan=given.get("scan", []))
        assert "untrusted-link" not in codes(make_plan(graph, Pull(node(graph, top), None)))


def test_a_symlink_in_the_folder_is_the_owners_own_word(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (base,) = chain_of(outside, "base")
    (inside / "base.qcow2").symlink_to(base)
    top = inside / "top.qcow2"
    qemu.create(top, MIB, backing=inside / "base.qcow2")
    graph = discover([inside])
    assert "untrusted-link" not in codes(make_plan(graph, Pull(node(graph, top), None)))


@pytest.mark.parametrize(
    "name", ['json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}', "file:{}"]
)
def test_a_link_that_is_no_plain_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is not used without a word, though its file lies beside the overlay: whoever made that chose the options."""
    monkeypatch.chdir(tmp_path)
    (base,) = chain_of(tmp_path, "base")
    top = overlay(tmp_path / "top.qcow2", name.replace("{}", str(base)), "qcow2")
    over = tmp_path / "over.qcow2"
    qemu.create(over, None, backing=top)
    graph = discover([over])
    asked = {i: node(graph, tmp_path / f"{i}.qcow2") for i in ("base", "top", "over")}
    for operation in (
        Pull(asked["over"], None), Commit(asked["base"], asked["top"]), Rebase(asked["over"], asked["base"]),
        Snapshot(asked["over"], tmp_path / "new.qcow2"),
    ):  # fmt: skip
        plan = make_plan(graph, operation)
        found = hazard(plan, "untrusted-link")
        assert (found.severity, found.images) == (Severity.CONFIRM, (asked["top"], asked["base"]))
        assert f"--scan {tmp_path}" in found.message
        refused(plan)
    for given in ({"paths": [over, base]}, {"paths": [tmp_path]}, {"scan": [tmp_path]}):
        graph = discover(given.get("paths", [over]), scan=given.get("scan", []))
        assert "untrusted-link" not in codes(make_plan(graph, Pull(node(graph, over), None)))


def test_a_link_that_is_no_plain_file_name_is_replaced_by_one(tmp_path: Path) -> None:
    """Nothing is read by it then."""
    (base,) = chain_of(tmp_path, "base")
    top = overlay(tmp_path / "top.qcow2", f"file:{base}", "qcow2")
    graph = discover([top])
    run(make_plan(graph, Rebase(node(graph, top), node(graph, base), unsafe=True, backing_name="base.qcow2")))
    assert qemu.info(top)["backing-filename"] == "base.qcow2"


def test_a_link_to_no_file_of_this_machine(tmp_path: Path) -> None:
    top = overlay(tmp_path / "top.qcow2", "nbd://127.0.0.1:1/disk", "raw")
    plan = pull(top, None)
    assert hazard(plan, "untrusted-link").severity is Severity.BLOCK
    refused(plan)


def test_a_base_that_was_written_after_its_overlay(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    assert "base-changed" not in codes(commit(root, one))
    status = one.stat()
    os.utime(root, ns=(status.st_atime_ns, status.st_mtime_ns + 10**10))
    found = hazard(commit(root, one), "base-changed")
    assert found.severity is Severity.WARN
    assert "root.qcow2" in found.message


def test_a_base_that_does_not_hold_what_its_overlay_remembers(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    graph = discover([tmp_path])
    one = tmp_path / "one.qcow2"
    run(make_plan(graph, Snapshot(node(graph, root), one)))
    assert "base-changed" not in codes(commit(root, one))
    status = root.stat()
    qemu.io(root, "write -P 5 0 64k")
    os.utime(root, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hazard(commit(root, one), "base-changed").severity is Severity.WARN


def test_a_commit_of_the_active_layer_leaves_no_stale_memory(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    graph = discover([tmp_path])
    one = tmp_path / "one.qcow2"
    run(make_plan(graph, Snapshot(node(graph, root), one)))
    qemu.io(one, "write -P 5 0 64k")
    run(commit(root, one))
    assert "base-changed" not in codes(commit(root, one))


@pytest.mark.parametrize(
    ("name", "trapped"),
    [
        ("base.qcow2", False),
        ("./base.qcow2", False),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}', True),
        ("file:base.qcow2", True),
        ("./" * 460 + "base.qcow2", True),
    ],
)
def test_fragile_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trapped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (base,) = chain_of(tmp_path, "base")
    top = overlay(tmp_path / "top.qcow2", name, "qcow2")
    plan = commit(base, top, keep_top=True)
    assert ("path-trap" in codes(plan)) == trapped
    if trapped:
        assert hazard(plan, "path-trap").severity is Severity.WARN


def test_a_symlinked_overlay_with_a_relative_name(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.mkdir()
    base, _ = chain_of(real, "base", "top")
    chain_of(link, "base")
    (link / "top.qcow2").symlink_to(real / "top.qcow2")
    graph = discover([link / "top.qcow2"])
    image = node(graph, link / "top.qcow2")
    for operation in (Pull(image, None), Commit(node(graph, link / "base.qcow2"), image)):
        plan = make_plan(graph, operation)
        refused(plan)
        assert str(base) in hazard(plan, "path-trap").message
    assert "path-trap" not in codes(pull(real / "top.qcow2", None))
    base.unlink()
    graph = discover([link / "top.qcow2"])
    plan = make_plan(graph, Pull(node(graph, link / "top.qcow2"), None))
    assert hazard(plan, "path-trap").severity is Severity.WARN


def test_a_name_that_does_not_fit(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(["d" * 200] * 3))
    deep.mkdir(parents=True)
    (base,) = chain_of(deep, "base")
    small = tmp_path / "small.qcow2"
    qemu.create(small, MIB, cluster_size=512)
    graph = discover([small, base])
    plan = make_plan(graph, Rebase(node(graph, small), node(graph, base)))
    assert hazard(plan, "path-trap").severity is Severity.BLOCK
    refused(plan)
    large = tmp_path / "large.qcow2"
    qemu.create(large, MIB)
    graph = discover([large, base])
    assert codes(make_plan(graph, Rebase(node(graph, large), node(graph, base)))) == set()


def test_an_image_with_a_damaged_header_may_be_an_overlay(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    assert "unknown-overlays" not in codes(commit(root, one))
    (riddle,) = chain_of(tmp_path, "riddle")
    data = bytearray(riddle.read_bytes())
    data[20:24] = (99).to_bytes(4, "big")  # cluster_bits
    riddle.write_bytes(data)
    found = hazard(commit(root, one), "unknown-overlays")
    assert "riddle.qcow2" in found.message


@pytest.mark.parametrize("suffix", ["qcow2", "QCOW2", "qcow"])
def test_an_image_whose_magic_is_damaged_may_be_an_overlay(tmp_path: Path, suffix: str) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    (_, other) = chain_of(tmp_path, "root", "other")
    riddle = other.rename(tmp_path / f"riddle.{suffix}")
    with riddle.open("r+b") as file:
        file.write(b"\0")
    found = hazard(commit(root, one), "unknown-overlays")
    assert found.severity is Severity.WARN
    assert f"{riddle}: is called qcow2 and does not begin like one" in found.message
    riddle.write_bytes(b"")
    assert codes(commit(root, one)) == set()


def test_what_is_called_qcow2_and_backs_an_overlay_as_raw_is_no_riddle(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"disk".ljust(MIB, b"\0"))
    assert len(discover([tmp_path]).incomplete) == 1
    overlay(tmp_path / "top.qcow2", disk.name, "raw")
    assert discover([tmp_path]).incomplete == ()
