"""Writes that fail amid a run: one line, the contract's status, every view intact, and no leak left."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from . import qemu
from .images import chain_of

if TYPE_CHECKING:
    from pathlib import Path

_RUN_WITH_LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from backchain_tui.cli import main
sys.argv = ["backchain", *sys.argv[2:]]
main()
"""


def limited(limit: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program while no file may grow past `limit` bytes, as on a file system that is full."""
    command = [sys.executable, "-c", _RUN_WITH_LIMIT, str(limit), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_full_file_system_loses_nothing(tmp_path: Path, megabytes: int) -> None:
    root, one = chain_of(tmp_path, "root", "one", size=8 << 20)
    qemu.io(root, "write -P 1 0 512k")
    qemu.io(one, "write -P 2 256k 6M")
    before = qemu.view(one)
    done = limited(megabytes << 20, "commit", "-y", one)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert qemu.view(one) == before
    for path in (root, one):
        found = qemu.check(path)
        assert (found.corruptions, found.leaks) == (0, 0), found.text
    again = limited(1 << 40, "commit", "-y", one)
    assert again.returncode == 0, again.stderr
    assert qemu.view(root) == before


def test_a_raw_base_on_a_full_file_system(tmp_path: Path) -> None:
    raw, top = tmp_path / "disk.raw", tmp_path / "top.qcow2"
    raw.write_bytes(b"r" * (1 << 20))
    qemu.create(top, 4 << 20, backing=raw)
    qemu.io(top, "write -P 2 512k 3M")
    before = qemu.view(top)
    done = limited(2 << 20, "commit", "-y", top)
    assert done.returncode == 6, done.stderr
    assert qemu.view(top) == before
