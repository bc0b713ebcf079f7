"""Messages of the command line: one line says what is wrong with which image, and what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from backchain_tui import cli
from tests.core import qemu
from tests.core.images import chain_of
from tests.core.mounting import mounted

from .command_line import backchain, document, error_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "arguments",
    [
        ("graph", ""), ("graph", "--scan", "", "."), ("map", ""), ("commit", "-y", ""), ("pull", "-y", ""),
        ("rebase", "-y", "-b", "", ""), ("delete", "-y", ""), ("snapshot", "-y", "top.qcow2", ""), ("",),
        ("recover", "--undo", "-y", ""), ("demo", "--no-ui", "--folder", ""),
    ],
)  # fmt: skip
def test_an_empty_path_does_not_stand_for_this_folder(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    chain_of(tmp_path, "base", "top")
    assert "the path is empty" in error_of(backchain(*arguments, cwd=tmp_path), 2)


def test_a_folder_in_the_place_of_an_image_is_called_one(tmp_path: Path) -> None:
    assert error_of(backchain("map", tmp_path), 4) == f"{tmp_path} is a folder; name an image in it"
    assert error_of(backchain("commit", "-y", tmp_path), 2) == f"{tmp_path} is no image but a folder; name a file in it"


@pytest.mark.parametrize("arguments", [("graph",), ("recover",), ("graph", ".", "--scan")])
def test_a_folder_that_may_not_be_searched_is_no_wrong_usage(
    tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, access = tmp_path / "secret", os.access
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode, **_: path != folder and access(path, mode))
    assert cli.run([*arguments, str(folder)]) == 4
    message = f"backchain: {folder}: Permission denied; run it as a user who may read the folder\n"
    assert capsys.readouterr().err == message


def test_a_missing_backing_file_is_named_by_its_path(tmp_path: Path) -> None:
    base, middle, top = chain_of(tmp_path, "base", "middle", "top")
    base.unlink()
    assert error_of(backchain("commit", "-y", top), 3) == (
        f"missing-backing: {base}, which backs middle.qcow2, cannot be read (the file does not exist); restore it, or "
        "name the file that it is now (rebase -u -b FILE); -n shows the whole plan"
    )
    base.write_bytes(b"QFI\xfb" + bytes(100))
    message = error_of(backchain("commit", "-y", "-q", top), 3)
    assert f"missing-backing: {base}, which backs middle.qcow2, cannot be read (" in message
    assert "make it readable, or repair the link first" in message
    assert middle.exists()


def test_a_base_behind_a_lost_image_is_not_said_to_be_elsewhere(tmp_path: Path) -> None:
    """The chain cannot be followed to it: what has to be mended is named."""
    _, middle, top = chain_of(tmp_path, "base", "middle", "top")
    middle.unlink()
    message = error_of(backchain("pull", "-y", "-b", "base.qcow2", top), 4)
    assert message == (
        f"base.qcow2 was not found below top.qcow2: {middle} cannot be read (the file does not exist); mend that first"
    )


def test_a_file_system_that_is_mounted_read_only_is_called_so(tmp_path: Path) -> None:
    with mounted(tmp_path, "tmpfs", 8 << 20) as place:
        base, top = chain_of(place, "base", "top")
        qemu.run("mount", "-o", "remount,ro", place)
        advice = "is on a file system that is mounted read-only; mount it for writing (mount -o remount,rw)"
        assert f"permission: top.qcow2 {advice}" in error_of(backchain("pull", "-y", top), 3)
        assert f"permission: {place} {advice}" in error_of(backchain("delete", "-y", top), 3)
        assert f"permission: {place} {advice}" in error_of(backchain("snapshot", "-y", top, place / "new"), 3)
        plan = document(backchain("commit", "-n", "--json", top))
        assert {h["code"] for h in plan["hazards"]} == {"permission"}
        assert base.exists()
