"""A terminal without a screen: it runs a program on a pty and stamps the arrival of what the program paints.

It answers one question of the program as today's terminals do: that it knows synchronized output (private mode 2026).
Textual then puts every frame between two marks, so that the end of a frame is known to the byte. The stamp is taken
when the read returns that holds the end, before anything is done with it. There is no emulation: a frame is told by
the words in it and by the rows to which it moves the cursor.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from tests.bench.processes import ROOT, BenchError, plain_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

_ASKS, _KNOWS = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
_BEGINS, _ENDS = b"\x1b[?2026h", b"\x1b[?2026l"
_CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Z]|[=>78cDEHMNOZ])")
_MOVE = re.compile(rb"\x1b\[(\d+);\d+H")
_PATIENCE = 30.0
"""Seconds after which something that should be painted is taken never to come."""
_REMEMBERED = 1 << 18
"""Bytes of what was painted that are kept at least; to keep them all would take time from the program."""


@dataclass(frozen=True)
class Frame:
    """One frame: when its last byte arrived (seconds of the monotonic clock), and its bytes."""

    at: float
    data: bytes

    @cached_property
    def text(self) -> str:
        """Its words, the control sequences left out."""
        return text_of(self.data)

    def touches(self, first: int, last: int) -> bool:
        """Say whether it paints on any of the rows from `first` to `last`, counted from 1."""
        return any(first <= int(row) <= last for row in _MOVE.findall(self.data))


def text_of(data: bytes | bytearray) -> str:
    """Give the words in what was written to a terminal."""
    return _CONTROL.sub(b"", data).decode(errors="replace")


class Terminal:
    """A program on a pty, for as long as the block runs; whatever happens, the program is gone at the end."""

    def __init__(self, command: Sequence[str | Path], columns: int, lines: int) -> None:
        """Start the program.

        Args:
            command: The program and its arguments.
            columns: Width of the terminal.
            lines: Its height.
        """
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        name = os.ttyname(slave)
        # Opened by the new session's leader, the pty becomes its controlling terminal.
        files = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0), *((os.POSIX_SPAWN_DUP2, 0, n) for n in (1, 2))]
        self._frame = b""
        self._asked = False
        self._seen = bytearray()
        self.started = time.monotonic()
        self._process = os.posix_spawn(
            str(command[0]), [str(c) for c in command], _environment(), file_actions=files, setsid=True
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._master)

    def send(self, keys: str) -> float:
        """Type, and give the time at which that was done."""
        os.write(self._master, keys.encode())
        return time.monotonic()

    def frames(self, seconds: float) -> list[Frame]:
        """Take in what is painted in the next seconds."""
        until = time.monotonic() + seconds
        taken: list[Frame] = []
        while (left := until - time.monotonic()) > 0:
            taken += self._take(left)[1]
        return taken

    def wait_for(self, is_it: Callable[[Frame], bool]) -> Frame:
        """Wait for a frame.

        Raises:
            BenchError: It did not come.
        """
        until = time.monotonic() + _PATIENCE
        while (left := until - time.monotonic()) > 0:
            for frame in self._take(left)[1]:
                if is_it(frame):
                    return frame
        raise self._silence()

    def wait_for_words(self, words: str) -> float:
        """Wait for words anywhere in what was painted so far, frames or not; give the time at which they were there.

        Raises:
            BenchError: They did not come.
        """
        until = time.monotonic() + _PATIENCE
        at = self.started
        while words not in text_of(self._seen):
            left = until - time.monotonic()
            if left <= 0:
                raise self._silence()
            at = self._take(left)[0]
        return at

    def quit(self) -> None:
        """Leave by the key, and wait until the program is gone."""
        self.send("\x11")
        until = time.monotonic() + _PATIENCE
        with suppress(BenchError):  # the end of the pty
            while time.monotonic() < until:
                self._take(0.1)

    def _take(self, seconds: float) -> tuple[float, list[Frame]]:
        """Read once, waiting so long at most; give the time, and the frames that ended in what was read."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return time.monotonic(), []
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # Linux's way to say that nobody has the pty open any more
            data = b""
        at = time.monotonic()
        if not data:
            raise BenchError(f"the program has ended: {text_of(self._seen[-2000:]).strip()[-300:]}")
        self._seen += data
        if len(self._seen) > 2 * _REMEMBERED:
            del self._seen[:-_REMEMBERED]
        if not self._asked and _ASKS in self._seen:
            self._asked = True
            os.write(self._master, _KNOWS)
        self._frame += data
        *ended, self._frame = self._frame.split(_ENDS)
        return at, [Frame(at, e.rpartition(_BEGINS)[2]) for e in ended]

    def _silence(self) -> BenchError:
        return BenchError(f"nothing came of it; last seen: {text_of(self._seen[-3000:])[-300:]!r}")


def _environment() -> dict[str, str]:
    """Give an environment as a terminal emulator sets it."""
    kept = {k: v for k, v in plain_environment().items() if k not in {"NO_COLOR", "TEXTUAL_ANIMATIONS", "TEXTUAL_FPS"}}
    return kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
