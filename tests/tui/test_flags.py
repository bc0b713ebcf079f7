"""The flags that qemu-img has for the same thing mean the same: a script written for it goes on working."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from backchain_tui.commands.options import parse_offset, parse_size
from tests.core import qemu
from tests.core.images import chain_of, overlay

from .command_line import backchain, error_of


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("0x1000", 4096), ("1.k", 1024), ("0.5M", 1 << 19), ("7e", 7 << 60), ("1.00005k", 1024)],
)
def test_an_offset_may_be_0_or_hexadecimal(text: str, count: int) -> None:
    assert parse_offset(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "1e3", "1 k", "1kk", "0x", "0x1k", "8E", "9" * 30, "١"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_offset(text)
    with pytest.raises(click.BadParameter):
        parse_size(text)


@pytest.mark.parametrize(
    "options",
    [
        ["--start-offset", "0x10200", "--max-length", "1.5k"],
        ["--start-offset=5M"],
        ["-s", "100", "-l", "20M"],
        ["-l", "0"],
        ["-s", "64M"],
        ["-s", "65M", "-l", "1"],
    ],
)
def test_map_of_a_part(lab: Path, options: list[str]) -> None:
    path = lab / "Snap-4.qcow2"
    for output in ("--output=json", "--output=human"):
        ours = backchain("map", output, *options, path).stdout.replace(', "compressed": false', "")
        assert ours == qemu.run("qemu-img", "map", output, *options, path)


@pytest.mark.parametrize(
    "name", ["sub/top.qcow2", "./sub/top.qcow2", "link//top.qcow2", "sub/../sub/top.qcow2", "abs.qcow2", "file.qcow2"]
)
def test_map_names_files_as_they_are_named(tmp_path: Path, name: str) -> None:
    """The path as given, and relative links joined to it: what a script compares with its own names."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub")
    base = chain_of(tmp_path, "base")[0]
    mid, top = tmp_path / "sub" / "mid.qcow2", tmp_path / "sub" / "top.qcow2"
    qemu.create(mid, None, backing="../base.qcow2", backing_format="qcow2")
    chain_of(tmp_path / "sub", "mid", "top")
    qemu.create(tmp_path / "abs.qcow2", None, backing=str(mid))
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "file:sub/top.qcow2", "file.qcow2",
             cwd=tmp_path)  # fmt: skip
    for number, path in enumerate((base, mid, top)):
        qemu.io(path, f"write -q {number * 64}k 64k")
    theirs = qemu.run("qemu-img", "map", name, cwd=tmp_path)
    assert theirs.count("qcow2") == 2 + (name != "abs.qcow2")
    assert backchain("map", name, cwd=tmp_path).stdout == theirs


def test_map_shows_what_comes_before_compressed_data(tmp_path: Path) -> None:
    path = tmp_path / "c.qcow2"
    qemu.create(path, 1 << 20)
    qemu.io(path, "write -c 128k 64k", "write 0 64k", "write 256k 64k")
    theirs = qemu.attempt("qemu-img", "map", path)
    assert (theirs.returncode, theirs.stdout.count("\n")) == (1, 2)
    ours = backchain("map", path)
    assert (ours.returncode, ours.stdout) == (4, theirs.stdout)


@pytest.mark.parametrize("other", ["vmdk", "vdi", "vhdx", "vpc", "qed", "parallels"])
def test_map_takes_no_other_format_as_raw(tmp_path: Path, other: str) -> None:
    """Nobody names the format, so that QEMU looks for it; with -f raw it reads the file as it is."""
    path = tmp_path / "disk.img"
    qemu.run("qemu-img", "create", "-q", "-f", other, path, "16M")
    assert json.loads(qemu.run("qemu-img", "info", "--output=json", path))["format"] == other
    refused = error_of(backchain("map", path), 4)
    assert f"disk.img: format {other} is not supported" in refused
    assert "-f raw" in refused
    assert backchain("map", "-f", "raw", path).stdout == qemu.run("qemu-img", "map", "-f", "raw", path)
    top = overlay(tmp_path / "top.qcow2", "disk.img", None)
    assert f"format {other} is not supported" in error_of(backchain("map", top), 4)


@pytest.mark.parametrize("verb", [["map"], ["commit", "-y"], ["pull", "-y"], ["rebase", "-y", "-b", ""]])
def test_a_format_that_there_is_not_is_a_mistake_in_the_command(tmp_path: Path, verb: list[str]) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    assert "'bogus' is not one of 'qcow2', 'raw'" in error_of(backchain(*verb, "-f", "bogus", top), 2)


def test_commit_takes_the_flags_of_qemu_img(lab: Path) -> None:
    """A script written for qemu-img: format, cache mode, rate, progress, and the options after the file name."""
    view = qemu.view(lab / "Snap-4.qcow2")
    done = backchain("commit", "-y", "-f", "qcow2", "-t", "unsafe", "-p", "-r", "1G", lab / "Snap-4.qcow2", "-d")
    assert done.returncode == 0, done.stderr
    assert qemu.view(lab / "Snap-3.qcow2") == view
    assert qemu.view(lab / "Snap-4.qcow2") == view


def test_commit_of_an_image_that_is_not_of_the_format_given(lab: Path) -> None:
    before = {p.name: qemu.digest(p) for p in lab.iterdir()}
    raw = lab / "disk.raw"
    raw.write_bytes(bytes(65536))
    assert "is qcow2, not raw" in error_of(backchain("commit", "-y", "-f", "raw", lab / "Snap-4.qcow2"), 4)
    assert "is raw, not qcow2" in error_of(backchain("commit", "-y", "-f", "qcow2", raw), 4)
    raw.unlink()
    assert {p.name: qemu.digest(p) for p in lab.iterdir()} == before


# --- what -b means ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A chain in sub/ below a working directory that holds images with the same names."""
    (tmp_path / "sub").mkdir()
    base, mid, top = chain_of(tmp_path / "sub", "base", "mid", "top")
    for path, pattern in ((base, 1), (mid, 2), (top, 3)):
        qemu.io(path, f"write -q -P {pattern} 0 64k")
    chain_of(tmp_path, "base", "mid", "top")
    return tmp_path


def target_of(folder: Path, base: str) -> str:
    """Give the name of the image that a commit of sub/top.qcow2 into `base`, run in `folder`, would write."""
    done = backchain("commit", "-n", "--json", "-b", base, "sub/top.qcow2", cwd=folder)
    assert done.returncode == 0, done.stderr
    target = Path(json.loads(done.stdout)["target"])
    assert target.parent == folder / "sub"
    theirs = qemu.attempt("qemu-img", "commit", "-q", "-b", base, "sub/top.qcow2", cwd=folder)
    if theirs.returncode == 0:  # what qemu-img takes for a name of the chain is the same image
        assert qemu.view(target) == qemu.view(folder / "sub" / "top.qcow2")
    return target.name


@pytest.mark.parametrize("name", ["base.qcow2", "./base.qcow2", "../sub/base.qcow2"])
def test_a_base_is_named_relative_to_the_overlay_as_in_qemu_img(nested: Path, name: str) -> None:
    """Files of the same names in the working directory are none of the chain."""
    assert qemu.view(nested / "sub" / "base.qcow2") != qemu.view(nested / "sub" / "top.qcow2")
    assert target_of(nested, name) == "base.qcow2"
    assert qemu.view(nested / "sub" / "base.qcow2") == qemu.view(nested / "sub" / "top.qcow2")


def test_a_base_is_named_by_another_path_than_the_recorded_one(nested: Path) -> None:
    folder = nested / "sub"
    qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", folder / "mid.qcow2", folder / "top.qcow2")
    (nested / "link").symlink_to("sub")
    assert target_of(nested, "mid.qcow2") == "mid.qcow2"
    assert target_of(nested, str(nested / "link" / "mid.qcow2")) == "mid.qcow2"


def test_a_base_may_be_a_path_from_the_working_directory(nested: Path) -> None:
    assert target_of(nested, "sub/mid.qcow2") == "mid.qcow2"


@pytest.mark.parametrize("verb", ["commit", "pull"])
def test_a_base_without_a_name_is_refused(nested: Path, verb: str) -> None:
    assert "-b names no image; leave -b out" in error_of(backchain(verb, "-y", "-b", "", nested / "top.qcow2"), 2)


def test_a_base_that_may_be_two_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    base = chain_of(tmp_path, "base")[0]
    inner = tmp_path / "sub" / "base.qcow2"
    qemu.create(inner, None, backing="../base.qcow2", backing_format="qcow2")
    chain_of(tmp_path / "sub", "base", "mid", "top")
    message = error_of(backchain("commit", "-n", "-b", "base.qcow2", "sub/top.qcow2", cwd=tmp_path), 2)
    assert f"may mean {inner} or {base}" in message
    for path in (inner, base):
        done = backchain("commit", "-n", "--json", "-b", path, "sub/top.qcow2", cwd=tmp_path)
        assert json.loads(done.stdout)["target"] == str(path), done.stderr
