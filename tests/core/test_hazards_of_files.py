"""Hazards of files, of what is deleted and built upon: each found where QEMU's tools made it, and absent where not."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.errors import BlockedError, StalePlanError
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.plan import Hazard, Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of, overlay
from .planned import codes, commit, delete, hazard, node, pull, rebase, refused, run
from .users import as_nobody, shared_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


def test_what_an_overlay_needs_is_not_deleted(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    plan = delete(root)
    assert hazard(plan, "needed-file").images == (node(plan.before, root), node(plan.before, one))
    refused(plan)
    (_, other) = chain_of(tmp_path, "one", "other")
    partial = rebase(two, root)  # Method (2), and one overlay forgotten
    run(partial)
    assert "other.qcow2" in hazard(delete(one), "needed-file").message
    run(rebase(other, root))
    plan = delete(one)
    assert codes(plan) == set()
    run(plan)
    assert not one.exists()
    assert qemu.check(two).clean
    assert qemu.check(other).clean


def test_a_whole_branch_is_deleted_at_once(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    plan = delete(one, two)
    assert codes(plan) == set()
    assert [plan.before[i].path for i in plan.removable] == [two, one]
    run(plan)
    assert sorted(tmp_path.iterdir()) == [root]


def test_a_data_file_is_needed(tmp_path: Path) -> None:
    image, data = tmp_path / "image.qcow2", tmp_path / "image.data"
    qemu.create(image, MIB, data_file=str(data))
    assert "data file of image.qcow2" in hazard(delete(data), "needed-file").message
    plan = delete(data, image)
    assert codes(plan) == set()
    assert [plan.before[i].path for i in plan.removable] == [image, data]
    image.unlink()
    assert codes(delete(data)) == set()


def test_a_data_file_is_not_committed_into(tmp_path: Path) -> None:
    """The image reads it as a sibling overlay would."""
    image, data, top = tmp_path / "image.qcow2", tmp_path / "data.raw", tmp_path / "top.qcow2"
    qemu.create(image, MIB, data_file=str(data), data_file_raw="on")
    qemu.io(image, "write -P 1 0 128k")
    qemu.create(top, None, backing=data)
    qemu.io(top, "write -P 2 64k 64k")
    view = qemu.view(image)
    plan = commit(data, top)
    assert hazard(plan, "needed-file").severity is Severity.BLOCK
    refused(plan)
    assert qemu.view(image) == view
    assert codes(pull(top, None)) == set()
    image.unlink()
    assert codes(commit(data, top)) == set()


@pytest.fixture
def domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which this user's domains are defined."""
    config = tmp_path / "config"
    folder = config / "libvirt" / "qemu"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    return folder


def domain(disk: Path, *backing: Path) -> str:
    """Write a domain with one disk, and what backs it where libvirt has written that down."""
    below = ""
    for path in reversed(backing):
        below = f"<backingStore type='file'><format type='qcow2'/><source file='{path}'/>{below}</backingStore>"
    disk_xml = f"<disk type='file'><source file='{disk}'/>{below}</disk>"
    return f"<domain type='kvm'><name>web-1</name><devices>{disk_xml}</devices></domain>"


def test_a_disk_of_a_virtual_machine_is_needed(tmp_path: Path, domains: Path) -> None:
    (root,) = chain_of(tmp_path, "root")
    assert codes(delete(root)) == set()
    (domains / "web.xml").write_text(domain(root))
    plan = delete(root)
    assert "web-1" in hazard(plan, "needed-file").message
    refused(plan)
    (domains / "web.xml").write_text("<domain")
    assert hazard(delete(root), "unknown-overlays").severity is Severity.CONFIRM


def test_a_volume_of_a_virtual_machine_is_needed(tmp_path: Path, domains: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    source = "<disk type='volume'><source pool='images' volume='{}'/></disk>"
    (domains / "web.xml").write_text(domain(root).replace("</devices>", source.format(one.name) + "</devices>"))
    found = hazard(delete(one), "unknown-overlays")
    assert found.severity is Severity.CONFIRM
    assert "volume one.qcow2 of pool images" in found.message
    pool = domains.parent / "storage" / "images.xml"
    pool.parent.mkdir()
    pool.write_text(f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>")
    plan = delete(one)
    assert "web-1" in hazard(plan, "needed-file").message
    assert "unknown-overlays" not in codes(plan)
    refused(plan)
    assert hazard(commit(root, one), "needed-file").severity is Severity.CONFIRM, "the machine has both as disks"
    pool.write_text("<pool type='rbd'><name>images</name></pool>")
    assert codes(delete(one)) == set(), "no folder of this machine"


def test_a_commit_that_changes_the_disk_of_a_virtual_machine(tmp_path: Path, domains: Path) -> None:
    """It reads the image as a sibling overlay would; one that uses the top, or an overlay of it, reads as before."""
    root, one, two, three = chain_of(tmp_path, "root", "one", "two", "three")
    qemu.io(one, "write -q -P 1 0 64k")
    (domains / "web.xml").write_text(domain(three, two, one, root))
    for top in (one, two, three):
        assert codes(commit(root, top)) == set()
    for disk, harmed in ((root, {one, two, three}), (one, {one, two, three}), (two, {two, three})):
        (domains / "web.xml").write_text(domain(disk))
        for top in (one, two, three):
            plan = commit(root, top)
            assert ("needed-file" in codes(plan)) == (top in harmed)
            if top in harmed:
                found = hazard(plan, "needed-file")
                assert (found.severity, found.images) == (Severity.CONFIRM, (node(plan.before, disk),))
                assert "web-1" in found.message
                refused(plan)
        assert "needed-file" not in codes(pull(three, root)) | codes(rebase(three, root))
    (domains / "web.xml").write_text("<domain")
    assert hazard(commit(root, one), "unknown-overlays").severity is Severity.WARN


@pytest.mark.parametrize("asked", ["delete", "commit"])
def test_a_machine_that_has_got_a_disk_since_the_plan_was_made(tmp_path: Path, domains: Path, asked: str) -> None:
    """The user may have taken minutes to answer."""
    root, one = chain_of(tmp_path, "root", "one")
    plan = delete(one) if asked == "delete" else commit(root, one)
    (domains / "web.xml").write_text(domain(one if asked == "delete" else root))
    before = qemu.digest(root), qemu.digest(one)
    with pytest.raises(StalePlanError, match="a disk of web-1"):
        run(plan)
    assert before == (qemu.digest(root), qemu.digest(one))


def test_a_file_that_holds_data_of_another_image_since_the_plan_was_made(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(MIB))
    top, other = tmp_path / "top.qcow2", tmp_path / "other.qcow2"
    options = f"data_file={raw},data_file_raw=on"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, other, str(MIB))
    header = other.read_bytes()
    other.unlink()
    qemu.create(top, None, backing=raw)
    plan = commit(raw, top)
    other.write_bytes(header)
    with pytest.raises(StalePlanError, match="holds data of an image"):
        run(plan)


def test_deleting_with_incomplete_knowledge_needs_a_deliberate_yes(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    graph = discover([tmp_path], budget=1)
    image = next(iter(graph), None)
    assert graph.incomplete
    graph = discover([root, one], budget=1)
    plan = make_plan(graph, Delete((node(graph, one),)))
    assert image is None or image in graph
    assert hazard(plan, "unknown-overlays").severity is Severity.CONFIRM
    refused(plan)


def test_a_commit_beside_a_file_that_this_user_may_not_read_needs_a_deliberate_yes() -> None:
    """It may be another user's overlay of what the commit changes; elsewhere than beside its images it is told of."""
    with shared_folder() as folder:
        root, one = chain_of(folder, "root", "one")
        (_, two) = chain_of(folder, "root", "two")
        (folder / "elsewhere").mkdir()
        aside = two.rename(folder / "elsewhere" / "two.qcow2")
        aside.chmod(0)
        with as_nobody():
            assert hazard(commit(root, one), "unknown-overlays").severity is Severity.WARN
        aside.chmod(0o644)
        two = aside.rename(folder / "two.qcow2")
        two.chmod(0)
        with as_nobody():
            plan, others = commit(root, one), (pull(one, None), rebase(one, None))
        found = hazard(plan, "unknown-overlays")
        assert (found.severity, found.images) == (Severity.CONFIRM, (node(plan.before, root),))
        assert found.message.startswith(f"{two} cannot be read by this user")
        assert found.message.endswith("go on if it is not")
        assert {hazard(p, "unknown-overlays").severity for p in others} == {Severity.WARN}
        folder.chmod(0o777)
        for path in (root, one):
            path.chmod(0o666)
        with as_nobody():
            with pytest.raises(BlockedError, match="unknown-overlays"):
                run(plan)
            run(plan, "unknown-overlays")


def test_a_commit_beside_many_files_that_this_user_may_not_read_names_a_few() -> None:
    with shared_folder() as folder:
        root, one = chain_of(folder, "root", "one")
        link = folder / "by-link"
        link.symlink_to(folder)
        for number in range(5):
            (folder / f"secret-{number}").write_bytes(b"?")
            (folder / f"secret-{number}").chmod(0)
        with as_nobody():
            graph = discover([link / one.name])
            plan = make_plan(graph, Commit(node(graph, link / root.name), node(graph, link / one.name)))
        found = hazard(plan, "unknown-overlays")
        assert found.severity is Severity.CONFIRM
        assert "secret-2 and 2 more cannot be read" in found.message
        assert "secret-3" not in found.message


def test_an_overlay_that_its_own_overlay_records_as_raw_is_not_passed_over(tmp_path: Path) -> None:
    """Whether it is one, or a guest has written that into its raw disk, nobody knows."""
    root, one = chain_of(tmp_path, "root", "one")
    (_, other) = chain_of(tmp_path, "root", "other")
    overlay(tmp_path / "over.qcow2", other.name, "raw")
    assert other.name in hazard(commit(root, one), "unknown-overlays").message
    one.unlink()
    plan = delete(root)
    assert hazard(plan, "unknown-overlays").severity is Severity.CONFIRM
    refused(plan)
    other.unlink()
    assert codes(delete(root)) == set()


@pytest.mark.parametrize("kind", ["qcow", "qed"])
def test_an_overlay_of_another_format_is_not_passed_over(tmp_path: Path, kind: str) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    alone, over = tmp_path / f"alone.{kind}", tmp_path / f"over.{kind}"
    if kind == "qed":
        qemu.run("qemu-img", "create", "-q", "-f", kind, alone, "1M")
        assert codes(commit(root, one)) == set()
    qemu.run("qemu-img", "create", "-q", "-f", kind, "-b", root.name, "-F", "qcow2", over)
    assert over.name in hazard(commit(root, one), "unknown-overlays").message
    one.unlink()
    plan = delete(root)
    assert hazard(plan, "unknown-overlays").severity is Severity.CONFIRM
    refused(plan)


def test_internal_snapshots_go_with_the_file(tmp_path: Path) -> None:
    _, one = chain_of(tmp_path, "root", "one")
    qemu.run("qemu-img", "snapshot", "-c", "kept", one)
    assert hazard(delete(one), "internal-snapshots").severity is Severity.CONFIRM


def test_an_image_in_use_is_neither_deleted_nor_built_upon(tmp_path: Path) -> None:
    _, one = chain_of(tmp_path, "root", "one")
    with qemu.held_open(one):
        assert "in-use" in codes(delete(one))
        graph = discover([tmp_path])
        assert "in-use" in codes(make_plan(graph, Snapshot(node(graph, one), tmp_path / "new.qcow2")))
    assert codes(delete(one)) == set()


def test_an_invalidated_image_blocks_nothing_and_is_used_for_nothing(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    qemu.io(one, "write -P 1 0 64k")
    run(commit(root, one))
    graph = discover([tmp_path])
    assert str(graph[node(graph, one)].state) == "invalid"
    qemu.io(two, "write -P 2 64k 64k")
    assert codes(commit(root, two, keep_top=True)) == set()
    for operation in (Snapshot(node(graph, one), tmp_path / "new.qcow2"), Rebase(node(graph, two), node(graph, one))):
        assert hazard(make_plan(graph, operation), "corrupt").severity is Severity.BLOCK
    assert codes(delete(one)) == set()
    run(delete(one))
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".backchain")] == []


def test_what_was_invalid_and_is_written_again_counts(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    run(commit(root, one))
    qemu.io(one, "write -P 1 0 64k")  # somebody uses it after all
    assert "sibling-corruption" in codes(commit(root, two))


def test_a_hazard_is_said_with_its_images_and_in_one_line(tmp_path: Path) -> None:
    root, one, two = chain_of(tmp_path, "root", "one", "two")
    plans = [delete(root), commit(root, two), rebase(one, two)]
    found: list[Hazard] = [h for p in plans for h in p.hazards]
    assert found
    for h in found:
        assert h.images
        assert "\n" not in h.message
        assert any(plan.before[i].name in h.message for plan in plans for i in h.images if i in plan.before)
    assert Commit.name == "commit"


def test_a_qcow2_image_on_a_block_device_is_read_and_not_written(tmp_path: Path) -> None:
    """It has no length that could be changed; nothing is begun that would have to be given up."""
    file, top = tmp_path / "file", tmp_path / "top.qcow2"
    qemu.create(file, MIB)
    qemu.io(file, "write -q -P 5 0 64k")
    with file.open("r+b") as disk:
        disk.truncate(2 * MIB)
    with block_device(file) as device:
        qemu.create(top, MIB, backing=device, backing_format="qcow2")
        graph = discover([top], scan=[tmp_path])
        down = make_plan(graph, Commit(node(graph, device), node(graph, top)))
        assert "on a block device" in hazard(down, "permission").message
        with pytest.raises(BlockedError):
            run(down)
        up = make_plan(graph, Pull(node(graph, top), None))
        assert "permission" not in codes(up)
        run(up, "untrusted-link")
        assert qemu.view(top)[:65536] == b"\5" * 65536


@contextmanager
def block_device(file: Path) -> Iterator[Path]:
    """Give a block device that holds what `file` does; skip where this user can make none."""
    done = qemu.attempt("losetup", "--find", "--show", file) if shutil.which("losetup") else None
    if done is None or done.returncode:
        pytest.skip("no block device can be made here")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        qemu.run("losetup", "--detach", device)


def test_a_block_device_by_two_nodes_is_one_base(tmp_path: Path) -> None:
    """A commit into one of them would destroy what reads through the other; and it has no file that could grow."""
    file, one, two, alias = (tmp_path / n for n in ("file", "one.qcow2", "two.qcow2", "alias"))
    file.write_bytes(bytes(MIB))
    with block_device(file) as device:
        os.mknod(alias, 0o600 | stat.S_IFBLK, device.stat().st_rdev)
        for top, base in ((one, device), (two, alias)):
            qemu.create(top, MIB, backing=base, backing_format="raw")
        qemu.io(one, "write -q -P 5 0 64k")
        graph = discover([tmp_path])
        plan = make_plan(graph, Commit(node(graph, device), node(graph, one)))
        assert node(graph, two) in hazard(plan, "sibling-corruption").images
        assert plan.growth_bytes == 0
