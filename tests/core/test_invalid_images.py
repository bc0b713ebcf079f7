"""Images that a commit has invalidated are known as such as long as they are, whatever becomes of their files."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from backchain import pending, recovery
from backchain.discover import discover
from backchain.journal import note, read_journals
from backchain.operations import Commit, Delete, Rebase, Snapshot
from backchain.record import Stage

from . import qemu
from .images import chain_of, invalid
from .interruption import committed, interrupted, perform
from .planned import node, stopping
from .scenes import Scene

if TYPE_CHECKING:
    from pathlib import Path


def test_invalid_images_are_known_after_devices_were_numbered_anew(tmp_path: Path) -> None:
    committed(tmp_path / "images")
    (record,) = read_journals([tmp_path / "images"])
    first, rest = record.path.read_text().split("\n", 1)
    intent = json.loads(first)
    for image in intent["invalidated"]:
        image["fingerprint"][0] += 1
    record.path.write_text(json.dumps(intent) + "\n" + rest)
    assert invalid(tmp_path / "images") == {"one.qcow2", "two.qcow2"}


@pytest.mark.parametrize("way", ["moved", "copied", "renamed in it"])
def test_invalid_images_are_known_elsewhere(tmp_path: Path, way: str) -> None:
    _, one, *_ = committed(tmp_path / "images")
    other = tmp_path / "other"
    if way == "moved":
        (tmp_path / "images").rename(other)
    elif way == "copied":
        shutil.copytree(tmp_path / "images", other)
    else:
        one.rename(one.with_name("new-name.qcow2"))
        other = tmp_path / "images"
    assert invalid(other) == {"new-name.qcow2" if way == "renamed in it" else "one.qcow2", "two.qcow2"}


@pytest.mark.parametrize("way", ["in place", "as new files"])
def test_what_was_brought_back_from_a_backup_is_valid(tmp_path: Path, way: str) -> None:
    """All images are as they were before the commit, their times too; only the journal tells of it."""
    folder, backup = tmp_path / "images", tmp_path / "backup"
    folder.mkdir()
    base, one, two, over = chain_of(folder, "base", "one", "two", "over")
    qemu.io(two, "write -q -P 2 64k 64k")
    for path in (base, one, two, over):  # a backup is older than what it is brought back for
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**10))
    view = qemu.view(over)
    shutil.copytree(folder, backup)
    graph = discover([folder])
    perform(graph, Commit(node(graph, base), node(graph, two)))
    assert invalid(folder) == {"one.qcow2", "two.qcow2"}
    for path in (base, one, two, over):
        if way == "as new files":
            path.unlink()
        shutil.copy2(backup / path.name, path)
    assert read_journals([folder])
    assert invalid(folder) == set()
    assert qemu.view(over) == view
    graph = discover([folder])
    assert "needed-file" in stopping(graph, Delete((node(graph, base),)))


def test_a_commit_of_nothing_is_remembered_like_any_other(tmp_path: Path) -> None:
    """No byte of a raw base changes then."""
    base, one, over = (tmp_path / name for name in ("base", "one", "over"))
    qemu.run("qemu-img", "create", "-q", "-f", "raw", base, "1M")
    qemu.create(one, 1 << 20, backing=base, backing_format="raw")
    qemu.create(over, 1 << 20, backing=one)
    graph = discover([tmp_path])
    perform(graph, Commit(node(graph, base), node(graph, one)))
    assert invalid(tmp_path) == {"one"}


def test_an_image_that_was_written_since_is_not_taken_for_the_invalid_one(tmp_path: Path) -> None:
    _, one, *_ = committed(tmp_path / "images")
    qemu.create(one, 1 << 20)
    assert invalid(tmp_path / "images") == {"two.qcow2"}


def test_a_memory_of_images_that_are_gone_goes_with_the_next_change(tmp_path: Path) -> None:
    """They were removed by other means, and one of them had another name by then."""
    folder = tmp_path / "images"
    base, one, two, over = committed(folder)
    one.unlink()
    renamed = two.rename(folder / "renamed.qcow2")
    for left, remembered in ((renamed, 1), (None, 0)):
        if left is None:
            renamed.unlink()
        graph = discover([folder])
        perform(graph, Rebase(node(graph, over), node(graph, base), True))
        assert len(read_journals([folder])) == remembered
    assert invalid(folder) == set()


def test_a_memory_of_another_chain_stays(tmp_path: Path) -> None:
    """Its images have other names by now, by which this chain's plan does not know them."""
    folder = tmp_path / "images"
    _, one, two, _ = committed(folder)
    for path in (one, two):
        path.rename(path.with_name(f"old-{path.name}"))
    (alone,) = chain_of(folder, "alone")
    graph = discover([alone])
    perform(graph, Snapshot(node(graph, alone), folder / "new.qcow2"))
    assert invalid(folder) == {"old-one.qcow2", "old-two.qcow2"}


def test_what_nobody_may_look_at_may_be_there(tmp_path: Path) -> None:
    assert not pending.may_exist(tmp_path / "nothing")
    assert not pending.may_exist(tmp_path / "nothing" / "in it")
    with mock.patch.object(os, "lstat", side_effect=PermissionError(13, "Permission denied")):
        assert pending.may_exist(tmp_path / "nothing")


@pytest.mark.parametrize("finish", [True, False])
def test_a_commit_that_died_after_its_last_link_is_remembered_in_a_copy(tmp_path: Path, *, finish: bool) -> None:
    scene = Scene("commit", "4k", tmp_path / "images")
    interrupted(scene, tmp_path / "pins", "over", -1)
    copy = tmp_path / "copy"
    shutil.copytree(scene.folder, copy)
    assert invalid(copy) == {"mid.qcow2", "top.qcow2"}
    (record,) = read_journals([copy])
    recovery.finish(record, perform) if finish else recovery.tidy_up(record)
    assert invalid(copy) == {"mid.qcow2", "top.qcow2"}


def test_what_is_still_read_through_is_not_invalid(tmp_path: Path) -> None:
    """The overlay has another name by now, and its own name was given to a new overlay of the base."""
    scene = Scene("commit", "4k", tmp_path / "images")
    interrupted(scene, tmp_path / "pins", None)
    (record,) = read_journals([scene.folder])
    note(record, Stage.RELINKING)
    renamed = scene.paths["over"].rename(scene.folder / "renamed.qcow2")
    qemu.create(scene.paths["over"], None, backing=scene.paths["base"])
    assert invalid(scene.folder) == set()
    assert qemu.view(renamed) == scene.views["over.qcow2"]
