"""Commit and pull on the command line: the plan, the question, the run, and every way that it ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.core import qemu

from .command_line import TIMEOUT, backchain, error_of

if TYPE_CHECKING:
    from pathlib import Path


def test_dry_run_shows_the_plan_and_writes_nothing(lab: Path) -> None:
    before = {p.name: qemu.digest(p) for p in lab.iterdir()}
    done = backchain("commit", "-n", "-b", lab / "RootBase.qcow2", lab / "Snap-3.qcow2")
    assert done.returncode == 0, done.stderr
    for word in ("RootBase", "Snap-1", "Snap-4", "qemu-img commit", "virsh blockcommit", "block-commit"):
        assert word in done.stdout
    plan = json.loads(backchain("pull", "-n", "--json", lab / "Snap-4.qcow2").stdout)
    assert (plan["operation"], plan["target"]) == ("pull", str(lab / "Snap-4.qcow2"))
    assert {p.name: qemu.digest(p) for p in lab.iterdir()} == before


@pytest.mark.parametrize("progress", ["none", "plain", "json", "auto"])
def test_commit_does_what_its_plan_says(lab: Path, progress: str) -> None:
    view = qemu.view(lab / "Snap-4.qcow2")
    arguments = ["commit", "-b", str(lab / "Snap-1.qcow2"), str(lab / "Snap-3.qcow2")]
    plan = json.loads(backchain(*arguments, "-n", "--json").stdout)
    done = backchain(*arguments, "-y", "--json", "--progress", progress)
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"]) == (0, "done")
    assert (result["clusters"], result["bytes"]) == (plan["clusters"], plan["bytes"])
    assert result["growth_bytes"] <= plan["growth_bytes"]
    assert qemu.view(lab / "Snap-4.qcow2") == view
    assert qemu.info(lab / "Snap-4.qcow2")["backing-filename"] == "Snap-1.qcow2"
    assert qemu.check(lab / "Snap-1.qcow2").clean
    lines = done.stderr.splitlines()
    if progress == "json":
        last = json.loads(lines[-1])
        assert (last["state"], last["clusters"], last["bytes"]) == ("done", plan["clusters"], plan["bytes"])
    elif progress == "plain":
        assert lines[-1].startswith("100%") or lines[-1].startswith("100.0%")
    else:
        assert lines == []


def test_pull_says_in_words_what_it_did(lab: Path) -> None:
    view = qemu.view(lab / "Snap-4.qcow2")
    done = backchain("pull", "-y", "-b", "RootBase.qcow2", lab / "Snap-4.qcow2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Done: ")
    assert done.stdout.count("\n") == 1
    assert qemu.view(lab / "Snap-4.qcow2") == view
    assert qemu.info(lab / "Snap-4.qcow2")["backing-filename"] == "RootBase.qcow2"
    assert backchain("pull", "-y", "-q", lab / "Snap-4.qcow2").stdout == ""
    assert "backing-filename" not in qemu.info(lab / "Snap-4.qcow2")
    assert qemu.view(lab / "Snap-4.qcow2") == view


def test_without_yes_and_without_a_terminal_nothing_happens(lab: Path) -> None:
    before = qemu.digest(lab / "Snap-3.qcow2")
    assert "-y" in error_of(backchain("commit", lab / "Snap-4.qcow2"), 2)
    assert qemu.digest(lab / "Snap-3.qcow2") == before


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 7), (b"\n", 7), (b"\x04", 7), (b"\x03", 7)])
def test_on_a_terminal_the_plan_is_shown_and_asked_about(lab: Path, answer: bytes, status: int) -> None:
    before = qemu.digest(lab / "Snap-3.qcow2")
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever started the tests may have it ignored
        os.execv(sys.executable, [sys.executable, "-m", "backchain_tui", "commit", str(lab / "Snap-4.qcow2")])
    shown = b""
    while b"Go on? [y/N]: " not in shown:
        shown += os.read(terminal, 4096)
    assert b"Snap-3" in shown
    try:
        while True:
            # Again when nothing comes: Python's input() sleeps through a Ctrl-C that comes just before it waits.
            os.write(terminal, answer)
            while select.select([terminal], [], [], 2)[0]:
                shown += os.read(terminal, 4096)
    except OSError:
        pass  # how Linux ends the reading of a terminal whose other side is closed
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status, shown
    assert (qemu.digest(lab / "Snap-3.qcow2") == before) is (status != 0)
    assert b"Traceback" not in shown


def test_a_hazard_that_blocks_is_status_3(lab: Path) -> None:
    victim = qemu.view(lab / "Web-1.qcow2")
    target = qemu.digest(lab / "Golden.qcow2")
    assert "sibling-corruption" in error_of(backchain("commit", "-y", lab / "Db-1.qcow2"), 3)
    forced = backchain("commit", "-y", "--force", "sibling-corruption", lab / "Db-1.qcow2")
    assert "sibling-corruption" in error_of(forced, 3)
    done = backchain("commit", "-y", "--json", lab / "Db-1.qcow2")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (3, "blocked")
    dry = backchain("commit", "-n", "--json", lab / "Db-1.qcow2")
    assert dry.returncode == 3
    assert "sibling-corruption" in {h["code"] for h in json.loads(dry.stdout)["hazards"]}
    assert qemu.view(lab / "Web-1.qcow2") == victim
    assert qemu.digest(lab / "Golden.qcow2") == target


def test_an_image_in_use_is_status_5(lab: Path) -> None:
    with qemu.held_open(lab / "Snap-4.qcow2"):
        assert "in-use" in error_of(backchain("commit", "-y", lab / "Snap-3.qcow2"), 5)
        assert backchain("commit", "-n", lab / "Snap-3.qcow2").returncode == 5


def test_what_makes_no_sense_is_status_2(lab: Path) -> None:
    assert "no backing file" in error_of(backchain("commit", "-y", lab / "RootBase.qcow2"), 2)
    assert "no backing file" in error_of(backchain("pull", "-y", lab / "RootBase.qcow2"), 2)
    stranger = error_of(backchain("commit", "-y", "-b", lab / "Golden.qcow2", lab / "Snap-2.qcow2"), 2)
    assert "Snap-1.qcow2, RootBase.qcow2" in stranger
    assert "is not below" in error_of(backchain("pull", "-y", "-b", lab / "Snap-4.qcow2", lab / "Snap-4.qcow2"), 2)
    assert "No such file" in error_of(backchain("commit", "-y", lab / "nowhere.qcow2"), 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_job_and_the_chain_reads_the_same(lab: Path, number: signal.Signals) -> None:
    view = qemu.view(lab / "Snap-4.qcow2")
    process = subprocess.Popen(
        [sys.executable, "-m", "backchain_tui", "pull", "-y", "--json", "--progress", "json", "--rate-limit", "2M",
         str(lab / "Snap-4.qcow2")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    first: dict[str, Any] = json.loads(process.stderr.readline())
    while not first["clusters"]:
        first = json.loads(process.stderr.readline())
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 7, stderr
    assert json.loads(stdout)["status"] == "cancelled"
    assert stderr.splitlines()[-1].startswith("backchain: cancelled")
    assert qemu.view(lab / "Snap-4.qcow2") == view
    assert qemu.check(lab / "Snap-4.qcow2").corruptions == 0
