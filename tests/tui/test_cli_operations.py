"""Rebase, snapshot, delete and recover on the command line, judged by QEMU's tools."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from backchain.journal import is_journal
from tests.core import qemu
from tests.core.images import chain_of
from tests.tui.command_line import backchain, backing, document, error_of, filled

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """Base <- sn1 <- sn2 <- sn3, the chain of Method (1) and Method (2)."""
    return filled(tmp_path, "base", "sn1", "sn2", "sn3")


def journals(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if is_journal(p.name)]


# --- the two methods of the handout -----------------------------------------------------------------------------------


def test_method_1_as_one_command(chain: list[Path], tmp_path: Path) -> None:
    """Commit sn2 down, relink sn3, remove sn2."""
    _, sn1, sn2, sn3 = chain
    view, committed = qemu.view(sn3), qemu.view(sn2)
    done = backchain("commit", "-y", "--delete", "--json", sn2)
    assert done.returncode == 0, done.stderr
    result = document(done)
    assert (result["status"], result["verified"], result["removed"]) == ("done", "whole", [str(sn2)])
    assert not sn2.exists()
    assert backing(sn3) == "sn1.qcow2"
    assert qemu.view(sn3) == view
    assert qemu.view(sn1) == committed
    assert journals(tmp_path) == []


def test_method_2_as_one_command(chain: list[Path]) -> None:
    """Rebase sn3 onto sn1, remove sn2; no image's content is lost."""
    _, sn1, sn2, sn3 = chain
    view, kept = qemu.view(sn3), qemu.view(sn1)
    plan = document(backchain("rebase", "-n", "--json", "-b", "sn1.qcow2", "-F", "qcow2", sn3))
    assert (plan["operation"], plan["target"]) == ("rebase", str(sn3))
    assert plan["relinked"] == [{"image": str(sn3), "from": str(sn2), "to": str(sn1)}]
    assert (plan["invalidated"], plan["removable"]) == ([], [str(sn2)])
    result = document(backchain("rebase", "-y", "--delete", "--json", "-b", "sn1.qcow2", "-F", "qcow2", sn3))
    assert (result["clusters"], result["bytes"]) == (plan["clusters"], plan["bytes"])
    assert plan["clusters"] == 8  # what sn2 wrote, less what sn3 wrote over it
    assert not sn2.exists()
    assert (qemu.view(sn3), qemu.view(sn1)) == (view, kept)
    assert backing(sn3) == "sn1.qcow2"


def test_leftovers_that_something_needs_stay(chain: list[Path]) -> None:
    _, _, sn2, sn3 = chain
    qemu.create(sn2.parent / "other.qcow2", None, backing=sn2)
    done = backchain("rebase", "-y", "--delete", "-b", "sn1.qcow2", sn3)
    assert done.returncode == 0, done.stderr  # sn2 is not left behind: the other overlay needs it
    assert sn2.exists()
    assert "needed-file" in error_of(backchain("delete", "-y", sn2), 3)


# --- rebase -----------------------------------------------------------------------------------------------------------


def test_rebase_names_are_read_as_qemu_img_reads_them(chain: list[Path], tmp_path: Path) -> None:
    """Relative to the image's folder, recorded as given; else relative to this folder, and then derived."""
    _, _, _, sn3 = chain
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert backchain("rebase", "-y", "-b", "./sn1.qcow2", sn3, cwd=elsewhere).returncode == 0
    assert backing(sn3) == "./sn1.qcow2"
    assert backchain("rebase", "-y", "-b", "../base.qcow2", sn3, cwd=elsewhere).returncode == 0
    assert backing(sn3) == "base.qcow2"
    assert "no such file" in error_of(backchain("rebase", "-y", "-b", "gone.qcow2", sn3), 4)
    assert "does not open it" in error_of(backchain("rebase", "-n", "-b", "nbd://host/x", sn3), 4)


def test_flatten_by_rebase(chain: list[Path]) -> None:
    sn3 = chain[-1]
    view = qemu.view(sn3)
    done = backchain("rebase", "-y", "-b", "", sn3)
    assert done.returncode == 0, done.stderr
    assert backing(sn3) is None
    assert qemu.view(sn3) == view
    assert "no backing file already" in error_of(backchain("rebase", "-y", "-b", "", sn3), 2)


def test_an_unsafe_rebase_is_refused_and_a_safe_one_is_offered(chain: list[Path]) -> None:
    base, _, _, sn3 = chain
    before = qemu.digest(sn3)
    line = error_of(backchain("rebase", "-y", "-u", "-b", base.name, sn3), 3)
    assert "unsafe-rebase" in line
    assert "without -u" in line
    assert qemu.digest(sn3) == before


def test_qemu_imgs_flags_are_taken(chain: list[Path]) -> None:
    sn2, sn3 = chain[2:]
    options = ["-f", "qcow2", "-t", "none", "-T", "none", "-p", "-q", "-U", "-F", "qcow2", "-b", "sn1.qcow2"]
    assert backchain("rebase", "-y", *options, sn3).returncode == 0
    assert "is qcow2, not raw" in error_of(backchain("commit", "-y", "-f", "raw", sn3), 4)
    sn2.unlink()
    assert backchain("commit", "-y", "-f", "qcow2", "-t", "writeback", "-q", "-d", sn3).returncode == 0


# --- snapshot and delete ----------------------------------------------------------------------------------------------


def test_snapshot(chain: list[Path], tmp_path: Path) -> None:
    sn3 = chain[-1]
    view = qemu.view(sn3)
    (tmp_path / "deep").mkdir()
    overlay = tmp_path / "deep" / "sn4.qcow2"
    plan = document(backchain("snapshot", "-n", "--json", sn3, overlay))
    assert not overlay.exists()
    assert (plan["target"], plan["clusters"]) == (str(overlay), 0)
    assert plan["relinked"] == [{"image": str(overlay), "from": None, "to": str(sn3)}]
    done = backchain("snapshot", "-y", "--json", sn3, "deep/sn4.qcow2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert document(done)["growth_bytes"] <= plan["growth_bytes"]
    info = qemu.info(overlay)
    assert (info["virtual-size"], info["backing-filename"]) == (8 * MIB, "../sn3.qcow2")
    assert info["backing-filename-format"] == "qcow2"
    assert qemu.check(overlay).clean
    assert qemu.view(overlay) == view
    assert "exists already" in error_of(backchain("snapshot", "-y", sn3, overlay), 2)
    assert "is not a folder" in error_of(backchain("snapshot", "-y", sn3, tmp_path / "nowhere" / "x.qcow2"), 2)


def test_snapshot_of_a_raw_image(tmp_path: Path) -> None:
    raw, overlay = tmp_path / "disk.img", tmp_path / "top.qcow2"
    raw.write_bytes(b"r" * 100_000)
    assert backchain("snapshot", "-y", raw, overlay).returncode == 0
    assert qemu.info(overlay)["backing-filename-format"] == "raw"
    assert qemu.view(overlay) == raw.read_bytes().ljust(100_352, b"\0")


def test_delete(chain: list[Path], tmp_path: Path) -> None:
    base, sn1, sn2, sn3 = chain
    before = {p: qemu.digest(p) for p in chain}
    assert "needed-file" in error_of(backchain("delete", "-y", base), 3)
    assert "needed-file" in error_of(backchain("delete", "-y", sn3, sn1), 3)
    assert {p: qemu.digest(p) for p in chain} == before
    plan = document(backchain("delete", "-n", "--json", sn2, sn3))
    assert plan["removable"] == [str(sn3), str(sn2)]
    assert backchain("delete", "-y", sn2, sn3).returncode == 0
    assert sorted(tmp_path.iterdir()) == [base, sn1]
    (tmp_path / "link.qcow2").symlink_to(sn1)
    assert "is a symlink" in error_of(backchain("delete", "-y", tmp_path / "link.qcow2"), 2)
    assert "is no image" in error_of(backchain("delete", "-y", tmp_path), 2)


def test_nothing_is_removed_without_an_answer(chain: list[Path]) -> None:
    assert "no terminal to ask on" in error_of(backchain("delete", chain[-1]), 2)
    assert chain[-1].exists()


# --- what a commit has invalidated ------------------------------------------------------------------------------------


def test_one_commit_after_the_other(chain: list[Path], tmp_path: Path) -> None:
    """What the first has invalidated neither blocks the second nor is taken for an overlay."""
    base, sn1, sn2, sn3 = chain
    view = qemu.view(sn3)
    assert backchain("commit", "-y", sn1).returncode == 0
    images = {i["path"]: i["state"] for i in document(backchain("graph", "--json", tmp_path))["images"]}
    assert images[str(sn1)] == "invalid"
    assert "corrupt" in error_of(backchain("pull", "-y", sn1), 3)
    assert backchain("commit", "-y", sn2).returncode == 0
    assert (backing(sn3), qemu.view(sn3)) == ("base.qcow2", view)
    assert backchain("delete", "-y", sn1, sn2).returncode == 0
    assert sorted(tmp_path.iterdir()) == [base, sn3]


def test_a_kept_top_reads_on_through_what_is_invalid(chain: list[Path], tmp_path: Path) -> None:
    """It is a sound image as long as nobody removes what it still reads, invalid or not."""
    base, sn1, sn2, sn3 = chain
    view = qemu.view(sn3)
    assert backchain("commit", "-y", "-d", "-b", base, sn3).returncode == 0
    found = {i["path"]: i for i in document(backchain("graph", "--json", tmp_path))["images"]}
    assert [found[str(p)]["state"] for p in chain] == ["ok", "invalid", "invalid", "ok"]
    assert "needed-file" in error_of(backchain("delete", "-y", sn1, sn2), 3)
    assert "needed-file" in error_of(backchain("delete", "-y", sn1), 3)
    qemu.io(base, f"write -q -P 9 0 {8 * MIB}")
    seen = qemu.view(sn3)
    assert backchain("pull", "-y", sn3).returncode == 0
    assert qemu.view(sn3) == seen != view
    assert backchain("delete", "-y", sn1, sn2).returncode == 0
    assert qemu.view(sn3) == seen


def test_more_images_than_a_process_may_open_at_first(tmp_path: Path) -> None:
    """A shell allows a thousand or so; the program raises that as far as it may."""
    base, *overlays = chain_of(tmp_path, "base", *(f"o{n}" for n in range(40)))
    qemu.io(overlays[0], "write -q -P 1 0 64k")
    for command in (["commit", "-b", base, overlays[-1]], ["delete", *overlays]):
        program = [sys.executable, "-m", "backchain_tui", *map(str, command), "-y"]
        done = subprocess.run(
            ["sh", "-c", 'ulimit -Sn 30; exec "$0" "$@"', *program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["base.qcow2"]
    assert qemu.view(base)[:1] == b"\1"
