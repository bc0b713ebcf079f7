"""Run the benchmarks and print a table: medians of interleaved pairs, and the ratio ours / qemu-img's.

Usage: python -m tests.bench [--rounds N] [--folder DIR]. Operations end with the data on disk on both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.qcow2.create import create_image
from tests.core import qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIB = 1 << 30
CLUSTER = 65536


@dataclass(frozen=True)
class Pair:
    """Two ways to do the same, each on a fresh copy of a folder of images if it changes them."""

    name: str
    ours: Callable[[Path], object]
    theirs: Callable[[Path], object]
    source: Path
    changes: bool = False


def backchain(*arguments: str | Path) -> None:
    """Run the command line in a process of its own."""
    qemu.run(sys.executable, "-m", "backchain_tui", *arguments)


def full_chain(folder: Path, *, gibibytes: int, layers: int) -> Path:
    """Make a chain whose base has every L2 entry set, under overlays with scattered clusters."""
    folder.mkdir()
    size = gibibytes * GIB
    qemu.create(folder / "l0.qcow2", size, preallocation="metadata")
    for n in range(1, layers):
        data = ((c, b"%d" % c) for c in range(n * 7, size // CLUSTER, 65521))
        create_image(folder / f"l{n}.qcow2", size, backing=(f"l{n - 1}.qcow2", "qcow2"), data=data, sync=False)
    return folder


def scattered_chain(folder: Path, *, clusters: int) -> Path:
    """Make base <- top with `clusters` clusters of data in short runs in the top, half of them in the base too."""
    folder.mkdir()
    size = clusters * 4 * CLUSTER
    content = os.urandom(CLUSTER)
    create_image(folder / "base.qcow2", size, data=((c, content) for c in range(0, clusters * 4, 8)), sync=False)
    runs = (c for c in range(clusters * 4) if c % 16 < 4)
    create_image(
        folder / "top.qcow2", size, backing=("base.qcow2", "qcow2"), data=((c, content) for c in runs), sync=False
    )
    return folder


def commit_with_qemu(folder: Path) -> None:
    """Commit and keep the top as it is; then make sure of the disk."""
    qemu.run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", folder / "top.qcow2")
    sync(folder / "base.qcow2")


def commit_with_backchain(folder: Path) -> None:
    """Do the same with backchain."""
    backchain("commit", "-y", "-q", "-d", folder / "top.qcow2")
    sync(folder / "base.qcow2")


def sync(path: Path) -> None:
    """Wait until a file's data is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def pairs(folder: Path) -> Iterator[Pair]:
    """Make the images, a set at a time, and give what is timed on them."""
    single = full_chain(folder / "single", gibibytes=1024, layers=1)
    yield Pair(
        "map, 1 TiB, every L2 entry set",
        lambda f: backchain("map", "--output", "json", f / "l0.qcow2"),
        lambda f: qemu.run("qemu-img", "map", "--output=json", f / "l0.qcow2"),
        single,
    )
    chain = full_chain(folder / "chain", gibibytes=1024, layers=6)
    yield Pair(
        "map, 1 TiB, 6 layers",
        lambda f: backchain("map", "--output", "json", f / "l5.qcow2"),
        lambda f: qemu.run("qemu-img", "map", "--output=json", f / "l5.qcow2"),
        chain,
    )
    yield Pair(
        "plan of a commit beside measure, 1 TiB",
        lambda f: backchain("commit", "-n", "--json", "-b", f / "l0.qcow2", f / "l5.qcow2"),
        lambda f: qemu.run("qemu-img", "measure", "-O", "qcow2", f / "l5.qcow2"),
        chain,
    )
    scattered = scattered_chain(folder / "scattered", clusters=16384)
    yield Pair("commit of 1 GiB in 16,384 clusters", commit_with_backchain, commit_with_qemu, scattered, changes=True)


def measure(pair: Pair, rounds: int) -> tuple[float, float]:
    """Give the median seconds of each side; the two take turns, so that a busy machine slows both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, work in enumerate((pair.ours, pair.theirs)):
            with tempfile.TemporaryDirectory(dir=pair.source.parent) as scratch:
                folder = pair.source
                if pair.changes:
                    folder = Path(scratch) / "copy"
                    qemu.copy_folder(pair.source, folder)
                    os.sync()
                started = time.perf_counter()
                work(folder)
                seconds[side].append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="backchain beside qemu-img")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs per line (default: 5)")
    parser.add_argument("--folder", type=Path, help="where to put the images (default: the temporary folder)")
    options = parser.parse_args()
    print(f"{'':<42}{'backchain':>10}{'qemu-img':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="backchain-bench-", dir=options.folder) as folder:
        for pair in pairs(Path(folder)):
            ours, theirs = measure(pair, options.rounds)
            print(f"{pair.name:<42}{ours:>9.3f}s{theirs:>9.3f}s{ours / theirs:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
