"""Small file systems of their own, for tests of what depends on the kind."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from . import qemu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def mounted(folder: Path, kind: str, size: int) -> Iterator[Path]:
    """Mount a small file system of `size` bytes until the block ends; skip where this user may not."""
    place, device = folder / "mount", folder / "device"
    place.mkdir()
    command = ["mount", "-t", kind, "-o", f"size={size}", kind, str(place)]
    if kind != "tmpfs":
        with device.open("wb") as file:
            file.truncate(size)
        force = "-f" if kind == "xfs" else "-F"
        made = qemu.attempt(f"mkfs.{kind}", "-q", force, device) if shutil.which(f"mkfs.{kind}") else None
        if made is None or made.returncode:
            pytest.skip(f"no {kind} file system can be made here")
        command = ["mount", "-o", "loop", str(device), str(place)]
    done = qemu.attempt(*command)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        qemu.run("umount", place)
