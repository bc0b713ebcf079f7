"""QEMU's own tools as the oracle: thin typed helpers around qemu-img and qemu-io.

Nothing here imports backchain, so that what the tests compare with stays independent of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60
"""Seconds after which a tool is taken to hang."""
_COMMANDS_AT_ONCE = 1000


class QemuError(Exception):
    """A tool of QEMU's failed; the text is its standard error."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a tool and give its standard output.

    Raises:
        QemuError: It ended with another status than 0.
    """
    done = attempt(*command, cwd=cwd)
    if done.returncode:
        raise QemuError(f"{' '.join(map(str, command))}: {done.returncode}: {done.stderr.strip() or done.stdout}")
    return done.stdout


def run_patiently(*command: str | Path) -> str:
    """Run a tool that times its key derivation, which QEMU gives up when the clock of a busy machine stands still.

    Source: ``qcrypto_pbkdf2_count_iters`` in QEMU's crypto/pbkdf.c.
    """
    for _ in range(40):
        try:
            return run(*command)
        except QemuError as error:
            if "accurate CPU usage" not in str(error):
                raise
    return run(*command)


def attempt(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool, whatever its exit status."""
    return subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True, errors="replace", timeout=TIMEOUT,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def create(
    path: Path, size: int | None, *, backing: Path | str | None = None, backing_format: str | None = None,
    **options: Any,
) -> None:  # fmt: skip
    """Create a qcow2 image of `size` bytes; `options` are qemu-img's (compat, cluster_size, ...).

    A backing file in the same folder is recorded by its bare name.
    """
    command: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing is not None:
        if isinstance(backing, Path):
            backing_format = backing_format or format_of(backing)
            backing = backing.name if backing.parent == path.parent else str(backing)
        command += ["-b", backing, "-F", backing_format or "qcow2"]
    if options:
        command += ["-o", ",".join(f"{k}={v}" for k, v in options.items())]
    run(*command, path, *([str(size)] if size is not None else []))


def format_of(path: Path) -> str:
    """Give the format that a test image has by its magic."""
    with path.open("rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def io(path: Path, *commands: str) -> None:
    """Run qemu-io commands on an image, discards passed down to the file; as few processes as the kernel allows.

    Raises:
        QemuError: One of them failed (qemu-io itself then still goes on with the rest).
    """
    for first in range(0, len(commands), _COMMANDS_AT_ONCE):
        arguments = [a for c in commands[first : first + _COMMANDS_AT_ONCE] for a in ("-c", c)]
        done = attempt("qemu-io", "-f", format_of(path), "-d", "unmap", *arguments, path)
        if done.returncode or "failed" in done.stdout:
            raise QemuError(f"qemu-io {' '.join(arguments)} {path.name}: {done.stderr.strip()} {done.stdout.strip()}")


def map_json(path: Path, *options: str) -> list[dict[str, Any]]:
    """Give what ``qemu-img map --output=json`` says of the image's chain."""
    extents: list[dict[str, Any]] = json.loads(
        run("qemu-img", "map", "-U", "--output=json", "-f", format_of(path), *options, path)
    )
    return extents


@dataclass(frozen=True)
class Check:
    """Answer of ``qemu-img check``: exit status (0 clean, 2 corrupt, 3 leaks), and the counts."""

    status: int
    corruptions: int
    leaks: int
    text: str

    @property
    def clean(self) -> bool:
        return self.status == 0 and not self.corruptions and not self.leaks


def check(path: Path) -> Check:
    """Check one image; a raw one is always clean."""
    if format_of(path) == "raw":
        return Check(0, 0, 0, "raw")
    done = attempt("qemu-img", "check", "-U", "-f", "qcow2", "--output=json", path)
    if done.returncode not in (0, 2, 3):
        raise QemuError(f"qemu-img check {path.name}: {done.returncode}: {done.stderr.strip()}")
    counts = json.loads(done.stdout)
    text = "" if done.returncode == 0 else attempt("qemu-img", "check", "-U", "-f", "qcow2", path).stderr
    errors = counts.get("corruptions", 0) + counts.get("check-errors", 0)
    return Check(done.returncode, errors, counts.get("leaks", 0), text)


def view(path: Path) -> bytes:
    """Give what a guest reads through the image, as many bytes as its virtual size."""
    with tempfile.TemporaryDirectory(prefix="view-", dir=scratch()) as folder:
        raw = Path(folder) / "view.raw"
        run("qemu-img", "convert", "-U", "-f", format_of(path), "-O", "raw", path, raw)
        return raw.read_bytes()


def view_of_snapshot(path: Path, name: str) -> bytes:
    """Give what an internal snapshot of the image holds."""
    with tempfile.TemporaryDirectory(prefix="view-", dir=scratch()) as folder:
        raw = Path(folder) / "view.raw"
        run("qemu-img", "convert", "-U", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", path, raw)
        return raw.read_bytes()


def compare(one: Path, other: Path) -> bool:
    """Say whether a guest reads the same through both images."""
    done = attempt("qemu-img", "compare", "-U", "-f", format_of(one), "-F", format_of(other), one, other)
    if done.returncode > 1:
        raise QemuError(done.stderr.strip())
    return done.returncode == 0


def info(path: Path) -> dict[str, Any]:
    """Give ``qemu-img info`` of one image."""
    answer: dict[str, Any] = json.loads(run("qemu-img", "info", "-U", "--output=json", "-f", format_of(path), path))
    return answer


def backing_chain(path: Path) -> list[dict[str, Any]]:
    """Give ``qemu-img info --backing-chain``, the top first; this opens every image of the chain.

    Raises:
        QemuError: The chain is broken.
    """
    answer: list[dict[str, Any]] = json.loads(
        run("qemu-img", "info", "-U", "--backing-chain", "--output=json", "-f", format_of(path), path)
    )
    return answer


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of images as they are, holes included."""
    run("cp", "-a", "--sparse=auto", source, target)


def digest(path: Path) -> str:
    """Give the SHA-256 of a file, byte for byte."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def allocated(path: Path) -> int:
    """Give the bytes that the file system holds for a file."""
    return path.stat().st_blocks * 512


def scratch() -> Path | None:
    """Give a folder in memory for short-lived files where the system has one."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


@contextmanager
def held_open(path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Hold an image open in qemu-io (give ``-r`` for read-only) as a guest would, until the block ends."""
    process = subprocess.Popen(
        ["qemu-io", "-f", format_of(path), *options, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("length\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        while answer.startswith("qemu-io>") and not answer.removeprefix("qemu-io>").strip():
            answer = process.stdout.readline()
        if not any(c.isdigit() for c in answer):
            raise QemuError(f"qemu-io did not open {path}: {answer}")
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()
