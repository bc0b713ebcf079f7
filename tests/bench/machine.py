"""The machine that a benchmark ran on, and the file systems that it needs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.measure import GIB, MIB
from tests.bench.processes import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = ("backchain", "textual", "numpy", "networkx")
_LOOP_SIZE = 3 * GIB


def describe(folder: Path) -> dict[str, Any]:
    """Give what the numbers depend on: processor, memory, kernel, versions, file system of `folder`, load."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": file_system(folder),
        "shares_extents": shares_extents(folder),
        "xfs": _first_line("mkfs.xfs", "-V"),
        "python": platform.python_version(),
        "qemu": _first_line("qemu-img", "--version"),
        **{name: version(name) for name in _LIBRARIES},
        "commit": _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as file:
        found = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
        return next(found, platform.machine())


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.partition("\n")[0]


def file_system(folder: Path) -> str:
    """Give the type of the file system that holds a folder, as the kernel names it."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with Path("/proc/self/mountinfo").open() as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return "unknown"


def shares_extents(folder: Path) -> bool:
    """Say whether files of a folder can share extents."""
    one, other = folder / "reflink-1", folder / "reflink-2"
    try:
        one.write_bytes(bytes(65536))
        return not subprocess.run(["cp", "--reflink=always", one, other], capture_output=True, check=False).returncode
    finally:
        one.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


@contextmanager
def mounted_xfs(folder: Path) -> Iterator[Path]:
    """Mount an XFS with reflink that lies in a file of `folder`, as long as the block runs.

    The file is written from end to end before and never trimmed, as a disk has all of its blocks. Of a sparse one that
    gave back what was removed, a run paid for what the run before had left: with the same commands qemu-img took 1.5
    or 3 s, and backchain 0.3 or 0.6 s, by turns.

    Raises:
        BenchError: That is not possible here; the message says why.
    """
    if os.geteuid() != 0:
        raise BenchError("a loop mount needs root")
    if shutil.which("mkfs.xfs") is None:
        raise BenchError("mkfs.xfs is missing (package xfsprogs)")
    disk, place = folder / "xfs.img", folder / "xfs"
    place.mkdir()
    try:
        with disk.open("wb") as file:
            for _ in range(_LOOP_SIZE // MIB):
                file.write(bytes(MIB))
            os.fsync(file.fileno())
        _or_left_out("mkfs.xfs", "-q", "-K", "-m", "reflink=1", str(disk))
        _or_left_out("mount", "-o", "loop", str(disk), str(place))
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        place.rmdir()
        disk.unlink()


def _or_left_out(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip()}")
