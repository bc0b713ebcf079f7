"""What a changing command says besides its result: warnings before, what it cannot vouch for, and what is left."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backchain import discover, planning
from backchain.engines.builtin import BuiltinEngine
from backchain_tui import cli
from tests.core import qemu
from tests.core.images import chain_of

from .command_line import TIMEOUT, backchain, error_of, stopped_amid

# --- warnings ---------------------------------------------------------------------------------------------------------


def with_bitmap(folder: Path) -> Path:
    """Make an overlay that holds data and a persistent bitmap."""
    top = chain_of(folder, "base", "top")[-1]
    qemu.run("qemu-img", "bitmap", "--add", top, "backup")
    qemu.io(top, "write -q -P 1 0 64k")
    return top


@pytest.mark.parametrize("options", [(), ("--json",), ("--progress", "none")])
def test_what_a_plan_warns_of_is_said_though_nobody_is_asked(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = backchain("commit", "-y", *options, with_bitmap(tmp_path))
    line = error_of(done, 0)
    assert line.startswith("warning: bitmaps: top.qcow2's persistent bitmaps are not carried down")
    if "--json" in options:
        assert json.loads(done.stdout)["status"] == "done"


def test_a_warning_is_not_said_where_it_is_shown_or_nothing_is_to_be_said(tmp_path: Path) -> None:
    top = with_bitmap(tmp_path)
    dry = backchain("commit", "-n", top)
    assert "warn: bitmaps: " in dry.stdout
    assert dry.stderr == ""
    assert backchain("commit", "-y", "-q", top).stderr == ""


def test_what_was_not_looked_at_is_said_once(tmp_path: Path) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    (tmp_path / "damaged.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(96))
    plan = json.loads(backchain("commit", "-n", "--json", top).stdout)
    assert "unknown-overlays" in {h["code"] for h in plan["hazards"]}
    assert error_of(backchain("commit", "-y", top), 0).startswith("not looked at: ")


# --- the removal after --delete ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["discover", "make_plan", "run"])
def test_a_signal_while_leftovers_are_removed_cancels_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, moment: str
) -> None:
    base, sn1, _ = chain_of(tmp_path, "base", "sn1", "sn2")
    qemu.io(sn1, "write -q -P 7 0 64k")
    module, name = {
        "discover": (discover, "discover"), "make_plan": (planning, "make_plan"), "run": (BuiltinEngine, "run"),
    }[moment]  # fmt: skip
    original = getattr(module, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if qemu.view(base)[:1] == b"\7":  # not before the commit is done
            os.kill(os.getpid(), number)
            time.sleep(0.3)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)
    assert cli.run(["commit", "-y", "--delete", "--json", str(sn1)]) == 7
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["status"], result["removed"]) == ("done", [])
    assert said.err.startswith("backchain: done, but what it left behind stays: cancelled by the user")
    assert sn1.exists()
    assert qemu.info(tmp_path / "sn2.qcow2")["backing-filename"] == "base.qcow2"


def test_what_was_removed_before_it_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, sn1, sn2, _ = chain_of(tmp_path, "base", "sn1", "sn2", "sn3")
    remove = Path.unlink

    def fail(path: Path, *arguments: Any, **options: Any) -> None:
        if path == sn1:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        remove(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", fail)
    assert cli.run(["commit", "-y", "--delete", "--json", "-b", str(base), str(sn2)]) == 6
    result = json.loads(capsys.readouterr().out)
    assert (result["status"], result["removed"]) == ("done", [str(sn2)])


# --- what a run has come to -------------------------------------------------------------------------------------------


def changed(folder: Path, *arguments: str | Path) -> tuple[str, set[str]]:
    """Run an operation; give what is said at its end, and the names of the images that read differently."""
    before = {p.name: qemu.view(p) for p in folder.glob("*.qcow2")}
    done = backchain(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout, {p.name for p in folder.glob("*.qcow2") if qemu.view(p) != before[p.name]}


def test_a_repair_of_a_link_promises_nothing_of_what_is_read(tmp_path: Path) -> None:
    old, orphan = chain_of(tmp_path, "old", "orphan")
    base = chain_of(tmp_path, "base")[0]
    qemu.io(old, "write -q -P 1 0 64k")
    old.unlink()
    done = backchain("rebase", "-y", "-u", "-b", base, "--force", "unsafe-rebase", orphan)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Nothing shows that orphan reads as before.\n")


def test_a_repair_of_a_format_promises_nothing_of_what_is_read(tmp_path: Path) -> None:
    base, top = chain_of(tmp_path, "base", "top")
    qemu.run("qemu-img", "rebase", "-q", "-u", "-b", base, "-F", "raw", top)
    arguments = ("rebase", "-u", "-b", base, "-F", "qcow2", top)
    assert "Nothing shows that top reads as before then." in backchain(*arguments, "-n").stdout
    said, images = changed(tmp_path, *arguments, "-y", "--force", "format-mismatch")
    assert images == {"top.qcow2"}
    assert said.endswith("Nothing shows that top reads as before.\n")


def test_a_commit_of_the_active_layer_says_what_its_base_reads(tmp_path: Path) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    qemu.io(top, "write -q -P 1 0 64k")
    said, images = changed(tmp_path, "commit", "-y", top)
    assert images == {"base.qcow2"}
    assert said.endswith(" base reads as top does.\n")


def test_what_a_kept_top_reads_through_is_not_said_to_be_needless(tmp_path: Path) -> None:
    base, sn1, top = chain_of(tmp_path, "base", "sn1", "top")
    said, _ = changed(tmp_path, "commit", "-y", "-d", "-b", base, top)
    assert said.endswith(" sn1 is invalid now.\n")
    assert "needed-file" in error_of(backchain("delete", "-y", sn1), 3)


# --- what an interrupted job leaves -----------------------------------------------------------------------------------


def of_8_mib(folder: Path, *names: str) -> list[Path]:
    """Make a chain whose layers take seconds to be moved at 1 MiB/s."""
    paths = chain_of(folder, *names, size=8 << 20)
    for number, path in enumerate(paths):
        qemu.io(path, f"write -q -P {number + 1} {number}M 3M")
    return paths


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_commit_names_the_way_on(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "my images"
    folder.mkdir()
    _, sn1, _ = of_8_mib(folder, "base", "sn1", "top")
    done = stopped_amid("commit", sn1, number=number)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == (
        "backchain: cancelled by the user; the chain reads the same as before; base.qcow2 may hold a part of the data "
        "already, so do not use it or the layers between by themselves; "
        f"backchain recover '{folder}' finishes the job or leaves it"
    )
    told = error_of(backchain("graph", sn1), 0)
    assert told.startswith("interrupted: commit into base.qcow2, begun ")
    assert told.endswith(f"; backchain recover '{folder}' finishes the job or leaves it")
    assert backchain("recover", "--undo", "-y", folder).returncode == 0
    assert backchain("graph", sn1).stderr == ""


def test_a_cancelled_pull_that_leaves_nothing_has_no_way_to_go_on(tmp_path: Path) -> None:
    top = of_8_mib(tmp_path, "base", "sn1", "top")[-1]
    done = stopped_amid("pull", top, number=signal.SIGINT)
    assert done.stderr.endswith("backchain: cancelled by the user; the chain reads the same as before\n")
    assert backchain("graph", top).stderr == ""


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_the_status_and_the_first_code_of_a_refusal_belong_together(tmp_path: Path) -> None:
    old, orphan = chain_of(tmp_path, "old", "orphan")
    base = chain_of(tmp_path, "base")[0]
    arguments = ("rebase", "-y", "-u", "-b", base, orphan)
    with qemu.held_open(orphan):
        old.unlink()
        assert error_of(backchain(*arguments), 3).startswith("unsafe-rebase: ")
        assert error_of(backchain(*arguments, "--force", "unsafe-rebase"), 5).startswith("in-use: ")
        assert backchain(*arguments, "-n", "--force", "unsafe-rebase").returncode == 5


@pytest.mark.parametrize("verb", ["commit", "pull", "rebase", "snapshot", "delete", "recover"])
def test_a_code_that_no_hazard_has_is_a_mistake(tmp_path: Path, verb: str) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    line = error_of(backchain(verb, "-n", "--force", "unsafe-rebsae", top), 2)
    for code in ("unsafe-rebsae", "unsafe-rebase", "internal-snapshots"):
        assert repr(code) in line


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_cancels_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """As nohup and the `&` of a script have it."""
    _, sn1, _ = of_8_mib(tmp_path, "base", "sn1", "top")
    before = signal.signal(number, signal.SIG_IGN)
    try:
        done = stopped_amid("commit", sn1, number=number)
    finally:
        signal.signal(number, before)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_while_the_program_is_loaded_is_one_line() -> None:
    code = (
        "import sys, backchain_tui.__main__ as program\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'backchain_tui.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt()); program.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (7, "backchain: cancelled\n")
