"""The whole command line in this process, held to a time and a memory, and QEMU's judgement of damaged files.

QEMU is asked only whether it finds a file sound and what a guest would read; where it gives no answer nothing can be
compared.
"""

from __future__ import annotations

import io
import json
import resource
import signal
import subprocess
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backchain_tui.cli import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SECONDS = 20
"""Time after which a command on a file of a few MiB is taken to hang."""
MEMORY = 512 << 20
"""Bytes of address space that a command may take on top of what the process has; most of it is thread stacks and
buffers that are never touched."""
_QEMU_SECONDS = 20


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    out: str
    error: str


@contextmanager
def limited() -> Iterator[None]:
    """Hold the block to `SECONDS` and `MEMORY`."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {SECONDS} seconds")

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def backchain(*arguments: str | Path) -> Answer:
    """Run a command; standard output and error take nothing that a UTF-8 terminal would not."""
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with limited(), redirect_stdout(out), redirect_stderr(error):
        status = run([str(a) for a in arguments])
    return Answer(status, *(_text(stream) for stream in (out, error)))


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8")


BESIDES = ("backchain: not looked at: ", "backchain: warning: ")
"""How lines on standard error begin that are no errors."""

NO_LINK = ("no backing file", "is not below", "nothing lies between", "is no image")
"""What a usage error says of a chain whose link the damage has taken away."""


def assert_well_behaved(answer: Answer, *statuses: int) -> None:
    """The status is 0 or one of `statuses` (2 only for want of a link); an error is one line; nothing raw is shown."""
    assert answer.status in {0, 2, *statuses}, answer
    lines = answer.error.splitlines()
    for line in (*lines, *answer.out.split("\n")):
        assert line.isprintable(), repr(line)
    errors = [line for line in lines if not line.startswith(BESIDES)]
    if answer.status == 2:
        assert any(words in answer.error for words in NO_LINK), answer
    if answer.status:
        assert len(errors) <= 1, answer
        assert all(line.startswith("backchain: ") for line in errors), answer
    else:
        assert errors == [], answer


# --- QEMU's judgement -------------------------------------------------------------------------------------------------


def attempt(*command: str | Path) -> subprocess.CompletedProcess[str] | None:
    """Run one of QEMU's tools; None when it takes too long."""
    try:
        return subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, errors="replace", timeout=_QEMU_SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None


def format_of(path: Path) -> str:
    """Give the format of a test image by its name, whatever the damage has made of its magic."""
    return path.suffix[1:]


UNSOUND = 1 << 62
"""What `leaks` gives for an image in which QEMU finds errors."""


def leaks(path: Path) -> int | None:
    """Give the number of leaked clusters of an image, or `UNSOUND`; None when QEMU takes too long to say."""
    if format_of(path) == "raw":
        return 0
    done = attempt("qemu-img", "check", "-U", "-f", "qcow2", "--output=json", path)
    if done is None:
        return None
    if done.returncode not in (0, 3):
        return UNSOUND
    counts = json.loads(done.stdout)
    return UNSOUND if counts.get("check-errors", 0) or counts.get("corruptions", 0) else int(counts.get("leaks", 0))


def keep_view(path: Path, folder: Path) -> Path | None:
    """Keep what a guest reads through an image as an image of its own; None when QEMU can't read it."""
    kept = folder / f"{path.name}.view"
    done = attempt("qemu-img", "convert", "-U", "-f", format_of(path), "-O", "qcow2", path, kept)
    return kept if done is not None and done.returncode == 0 else None


def reads_as(path: Path, kept: Path) -> bool | None:
    """Say whether an image still reads as the view that was kept; None when QEMU takes too long."""
    done = attempt("qemu-img", "compare", "-U", "-f", format_of(path), "-F", "qcow2", path, kept)
    return None if done is None else done.returncode == 0 and "size mismatch" not in done.stdout


def qemu_map(path: Path) -> list[dict[str, Any]] | None:
    """Give QEMU's map of an image's chain; None when it gives none."""
    done = attempt("qemu-img", "map", "-U", "--output=json", "-f", format_of(path), path)
    return json.loads(done.stdout) if done is not None and done.returncode == 0 else None
