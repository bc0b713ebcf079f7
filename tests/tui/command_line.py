"""The program run in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.core import qemu
from tests.core.images import chain_of

if TYPE_CHECKING:
    import signal
    from pathlib import Path

HEAVY = ("textual", "networkx", "numpy", "humanize", "rich")
"""Packages that a command loads only if it needs them."""

TIMEOUT = 60


def backchain(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backchain_tui", *map(str, arguments)],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=TIMEOUT,
        stdin=subprocess.DEVNULL, check=False, errors="surrogateescape",
    )  # fmt: skip


def stopped_amid(*arguments: str | Path, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run an operation slowly, and send it a signal when data is on its way."""
    command = [sys.executable, "-m", "backchain_tui", *map(str, arguments), "-y", "--progress", "json", "-r", "1M"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    end = time.monotonic() + TIMEOUT
    for line in process.stderr:
        if json.loads(line)["clusters"] > 0 or time.monotonic() > end:
            break
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """Give the JSON document on standard output."""
    return json.loads(done.stdout)


def filled(folder: Path, *names: str) -> list[Path]:
    """Make a chain of images, the base first, which take seconds to be moved at 1 MiB/s."""
    paths = chain_of(folder, *names, size=8 << 20)
    for number, path in enumerate(paths):
        qemu.io(path, f"write -q -P {number + 1} {number * 512}k 1M")
    return paths


def backing(path: Path) -> str | None:
    """Give the name of the backing file that an image records, as QEMU reads it."""
    name: str | None = qemu.info(path).get("backing-filename")
    return name


def error_of(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Give the one line on standard error that belongs to an exit status."""
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("backchain: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("backchain: ").rstrip("\n")
