"""Standard streams that are closed, full, or read by nobody: what is done is done, and the exit status tells of it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backchain_tui import cli
from backchain_tui.commands import changing
from tests.core import qemu
from tests.core.images import chain_of, overlay

from .command_line import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """An overlay that holds data, on a base that holds none."""
    path = chain_of(tmp_path, "base", "top")[-1]
    qemu.io(path, "write -q -P 7 0 64k")
    return path


def is_committed(top: Path) -> bool:
    return qemu.view(top.parent / "base.qcow2")[:1] == b"\7"


@contextmanager
def unread() -> Iterator[int]:
    """Give a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def status_of(*arguments: str | Path, stdout: int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL) -> int:
    return subprocess.run(
        [sys.executable, "-m", "backchain_tui", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=stdout,
        stderr=stderr, timeout=TIMEOUT, check=False,
    ).returncode  # fmt: skip


# --- closed before the program began ----------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_stream_that_was_closed_before_changes_no_status(top: Path, closed: str) -> None:
    for arguments, status in (
        ("--version", 0), ("map missing.qcow2", 4), ("map", 2), ("graph .", 0), ("map top.qcow2", 0),
        ("commit -n top.qcow2", 0), ("recover", 0),
    ):  # fmt: skip
        command = f"'{sys.executable}' -m backchain_tui {arguments} {closed}"
        done = subprocess.run(command, shell=True, cwd=top.parent, capture_output=True, timeout=TIMEOUT, check=False)
        assert done.returncode == status, arguments


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("options", ["", "-q", "--json", "--progress plain", "--progress json"])
def test_a_commit_needs_no_streams(top: Path, closed: str, options: str) -> None:
    command = f"'{sys.executable}' -m backchain_tui commit -y {options} top.qcow2 {closed}"
    done = subprocess.run(command, shell=True, cwd=top.parent, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert is_committed(top)
    assert qemu.check(top.parent / "base.qcow2").clean


# --- a reader who has gone --------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_error(top: Path) -> None:
    command = f"{sys.executable} -m backchain_tui map --output json {top} | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")


@pytest.mark.parametrize("arguments", [("-n",), ("-n", "--json"), ("-y", "--json"), ("-y",)])
def test_a_refusal_is_told_by_the_status_though_nobody_reads(top: Path, arguments: tuple[str, ...]) -> None:
    overlay(top.parent / "sibling.qcow2", "base.qcow2", "qcow2")
    with unread() as pipe:
        assert status_of("commit", *arguments, top, stdout=pipe) == 3
        assert status_of("commit", *arguments, top, stderr=pipe) == 3
        assert status_of("commit", *arguments, top, stdout=pipe, stderr=pipe) == 3
    assert not is_committed(top)


@pytest.mark.parametrize("options", [(), ("--json",), ("--progress", "plain"), ("--progress", "json")])
def test_what_was_not_looked_at_can_be_told_to_nobody(top: Path, options: tuple[str, ...]) -> None:
    """It is said before the run, which goes on."""
    (top.parent / "damaged.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(96))
    with unread() as pipe:
        assert status_of("commit", "-y", *options, top, stdout=pipe, stderr=pipe) == 0
    assert is_committed(top)


def test_an_interrupted_job_is_left_though_nobody_reads(top: Path) -> None:
    with unread() as pipe:
        assert status_of("recover", "--undo", "-y", top.parent, stdout=pipe) == 0
        assert status_of("recover", top.parent, stdout=pipe) == 0


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["map", "map --output json", "graph", "graph --json", "commit -n", "recover"])
def test_a_full_disk_under_the_answer_is_status_6(top: Path, arguments: str) -> None:
    place = top.parent if arguments == "recover" else top
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backchain_tui", *arguments.split(), place], stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "backchain: standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", ["--help", "commit --help", "browse --help", "--version", ""])
def test_a_full_disk_under_the_help_is_status_6(arguments: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backchain_tui", *arguments.split()], stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=TIMEOUT, check=False, stdin=subprocess.DEVNULL,
            env=os.environ | ({} if arguments else {"_BACKCHAIN_COMPLETE": "bash_source"}),
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "backchain: standard output: No space left on device\n"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_full_disk_under_the_answer_does_not_hide_what_was_done(top: Path, options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "backchain_tui", "commit", "-y", *options, top], stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert done.returncode == 6
    message = "backchain: standard output: No space left on device; what was asked for is done\n"
    assert done.stderr == message
    assert is_committed(top)


def test_an_interrupt_that_comes_too_late_cancels_nothing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(changing, "say", interrupted)
    assert cli.run(["commit", "-y", str(top)]) == 0
    assert is_committed(top)


def test_a_full_disk_under_standard_error_changes_nothing(top: Path) -> None:
    (top.parent / "damaged.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(96))
    with Path("/dev/full").open("w") as full:
        assert status_of("commit", "-y", top, stderr=full.fileno()) == 0
    assert is_committed(top)
