"""The screen is told to end by a signal: its job is cancelled, and the terminal is given back."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from backchain.journal import read_journals
from backchain.record import Stage
from tests.core import qemu

from .command_line import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RESTORED = {"the other screen": b"\x1b[?1049l", "the mouse": b"\x1b[?1000l", "the cursor": b"\x1b[?25h"}
"""What gives the terminal back what the screen took."""


class Terminal:
    """The lab on the screen of a terminal of its own."""

    def __init__(self, lab: Path, *above: str) -> None:
        """Start it.

        Args:
            lab: The folder for the lab.
            above: The command that runs it and stays above it; none for none.
        """
        self.written = b""
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
            command = (*above, sys.executable, "-m", "backchain_tui", "demo", "--folder", str(lab))
            os.execve(command[0], command, environment)

    def until(self, condition: Callable[[], object]) -> None:
        """Read what is drawn until a condition holds."""
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, self.written[-2000:]
            if select.select([self._terminal], [], [], 0.05)[0]:
                self.written += os.read(self._terminal, 1 << 16)

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def close(self) -> None:
        """Close the window of the terminal."""
        os.close(self._terminal)

    def end(self) -> int:
        """Read what is drawn to the end, and give the exit status."""
        end = time.monotonic() + TIMEOUT
        while not (done := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < end, "it goes on"
            if select.select([self._terminal], [], [], 0.05)[0]:
                try:
                    self.written += os.read(self._terminal, 1 << 16)
                except OSError:  # nobody draws any more
                    time.sleep(0.05)
        return os.waitstatus_to_exitcode(done[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_cancels_the_job_and_gives_the_terminal_back(tmp_path: Path, number: int) -> None:
    terminal = Terminal(tmp_path)
    terminal.until(lambda: b"Commit" in terminal.written and b"Snap-4" in terminal.written)
    view = qemu.view(tmp_path / "Snap-4.qcow2")
    terminal.press(b"c")
    terminal.until(lambda: b"Copies" in terminal.written)
    terminal.press(b"\r")
    terminal.until(lambda: read_journals([tmp_path]) and b"Cancel" in terminal.written)
    before = len(terminal.written)
    os.kill(terminal.pid, number)
    assert terminal.end() == 7
    for what, sequence in RESTORED.items():
        assert sequence in terminal.written[before:], what
    stages = {r.stage for r in read_journals([tmp_path])}  # none when it was cancelled before it wrote anything
    assert stages <= {Stage.ABANDONED}, "as a cancelled job is left"
    assert qemu.view(tmp_path / "Snap-4.qcow2") == view


def test_a_signal_ends_a_screen_without_a_job(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.until(lambda: b"Commit" in terminal.written)
    before = len(terminal.written)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 7
    assert all(sequence in terminal.written[before:] for sequence in RESTORED.values())


@pytest.mark.parametrize("keys", [b"", b"c"])
def test_a_terminal_that_is_closed_ends_a_screen_that_no_signal_reaches(tmp_path: Path, keys: bytes) -> None:
    lab = tmp_path / "lab"
    terminal = Terminal(lab, "/bin/sh", "-c", 'trap "" HUP; "$@"; echo $? >"$0"', str(tmp_path / "status"))
    try:
        terminal.until(lambda: b"Commit" in terminal.written and b"Snap-4" in terminal.written)
        view = qemu.view(lab / "Snap-4.qcow2")
        if keys:
            terminal.press(keys)
            terminal.until(lambda: b"Copies" in terminal.written)
            terminal.press(b"\r")
            terminal.until(lambda: read_journals([lab]) and b"Cancel" in terminal.written)
        terminal.close()
        end = time.monotonic() + TIMEOUT
        while not os.waitpid(terminal.pid, os.WNOHANG)[0]:
            assert time.monotonic() < end, "it goes on"
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(terminal.pid, signal.SIGKILL)
    assert (tmp_path / "status").read_text().strip() == "7"
    assert {r.stage for r in read_journals([lab])} <= {Stage.ABANDONED}, "as a cancelled job is left"
    assert qemu.view(lab / "Snap-4.qcow2") == view
