"""The images that are worked on, made by qemu-img and qemu-io, the same every time.

QEMU's tools write without flushing here (``-t unsafe``), which makes a terabyte of metadata a matter of seconds; what
was made is brought to the disk at the end. What a cluster holds depends on its place and its layer, so that a copy
that went to the wrong place is seen.
"""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

from tests.bench.measure import GIB, MIB, TIB
from tests.bench.processes import TIMEOUT, BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

CLUSTER = 65536
SUBCLUSTER = CLUSTER // 32
_BURST = 16
"""Clusters that are written in ascending order; the bursts follow each other at random, as a guest's writes do."""

SCATTERED = 14_000
"""Clusters that a commit, a pull and a rebase move: 875 MiB."""

COMPRESSED = 6_500
ZEROS = 1 << 20
_ZERO_RUN = 8


def tool(*command: str | Path, lines: Iterable[str] = ()) -> str:
    """Run a tool of QEMU's, with lines on its standard input, and give what it says.

    Raises:
        BenchError: It failed.
    """
    done = subprocess.run(
        [str(c) for c in command], input="".join(f"{line}\n" for line in lines), capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    if done.returncode or "failed" in done.stdout:
        raise BenchError(f"{' '.join(map(str, command[:6]))}: {done.returncode}: {done.stderr.strip()} {done.stdout}")
    return done.stdout


def io(path: Path, lines: Iterable[str]) -> None:
    """Run commands of qemu-io on an image, however many."""
    tool("qemu-io", "-t", "unsafe", "-d", "unmap", "-f", "qcow2", path, lines=lines)


def create(path: Path, size: int, backing: str | None = None, options: str = "compat=1.1") -> Path:
    """Create an empty image."""
    link = ["-b", backing, "-F", "qcow2"] if backing else []
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *link, path, str(size))
    return path


def full(path: Path, size: int, options: str = "compat=1.1") -> Path:
    """Create an image in which every L2 entry is set, as preallocation=metadata leaves it."""
    io(create(path, CLUSTER, options=options), [f"truncate -m metadata {size}"])
    return path


def writes(clusters: Sequence[int], layer: int, choose: random.Random) -> list[str]:
    """Give the commands that write whole clusters, in bursts."""
    ordered = sorted(clusters)
    bursts = [ordered[n : n + _BURST] for n in range(0, len(ordered), _BURST)]
    choose.shuffle(bursts)
    return [f"write -q -P {_pattern(c, layer)} {c * CLUSTER} {CLUSTER}" for burst in bursts for c in burst]


def _pattern(cluster: int, layer: int) -> int:
    return 1 + (cluster * 7 + layer * 50) % 255


# --- sets of images ---------------------------------------------------------------------------------------------------


def small_chain(folder: Path) -> None:
    """10 GiB: a base with every L2 entry set under four overlays of 1,500 scattered clusters each."""
    full(folder / "l0.qcow2", 10 * GIB)
    choose = random.Random(10)
    for n in range(1, 5):
        path = create(folder / f"l{n}.qcow2", 10 * GIB, f"l{n - 1}.qcow2")
        io(path, writes(choose.sample(range(10 * GIB // CLUSTER), 1500), n, choose))


def tall_chain(folder: Path) -> None:
    """1 TiB: a base with every L2 entry set under three overlays of 4,096 clusters of data and 12,288 of zeros each."""
    full(folder / "l0.qcow2", TIB)
    choose = random.Random(4)
    for n in range(1, 4):
        path = create(folder / f"l{n}.qcow2", TIB, f"l{n - 1}.qcow2")
        clusters = choose.sample(range(TIB // CLUSTER), 16_384)
        zeros = [f"write -q -z {c * CLUSTER} {CLUSTER}" for c in sorted(clusters[4096:])]
        io(path, zeros + writes(clusters[:4096], n, choose))


def snapshot_chain(folder: Path) -> None:
    """1 TiB: a base with every L2 entry set and three internal snapshots under an overlay of 4,096 scattered zeros."""
    base = full(folder / "l0.qcow2", TIB)
    for n in range(3):
        tool("qemu-img", "snapshot", "-c", f"s{n}", base)
    path = create(folder / "l1.qcow2", TIB, "l0.qcow2")
    clusters = random.Random(3).sample(range(TIB // CLUSTER), 4096)
    io(path, [f"write -q -z {c * CLUSTER} {CLUSTER}" for c in sorted(clusters)])


def subcluster_chain(folder: Path) -> None:
    """256 GiB, extended L2 entries: a full base under two overlays of 16,384 writes of 1 to 4 subclusters each."""
    size, options = 256 * GIB, "extended_l2=on"
    full(folder / "l0.qcow2", size, options)
    choose = random.Random(32)
    for n in range(1, 3):
        path = create(folder / f"l{n}.qcow2", size, f"l{n - 1}.qcow2", options)
        places = sorted(choose.sample(range(size // CLUSTER), 16_384))
        spans = [
            (c, c * CLUSTER + choose.randrange(28) * SUBCLUSTER, choose.randint(1, 4) * SUBCLUSTER) for c in places
        ]
        io(path, (f"write -q -P {_pattern(c, n)} {start} {length}" for c, start, length in spans))


def huge_chain(folder: Path) -> None:
    """8 TiB: a base with every L2 entry set under an overlay of 4,096 scattered zero clusters."""
    full(folder / "l0.qcow2", 8 * TIB)
    path = create(folder / "l1.qcow2", 8 * TIB, "l0.qcow2")
    clusters = random.Random(8).sample(range(8 * TIB // CLUSTER), 4096)
    io(path, [f"write -q -z {c * CLUSTER} {CLUSTER}" for c in sorted(clusters)])


def scattered_chain(folder: Path) -> None:
    """10 GiB: base (3,500 clusters) <- mid (14,000) <- top (500), and other, a base that holds some of the same."""
    size, choose = 10 * GIB, random.Random(14)
    everywhere = range(size // CLUSTER)
    moved = choose.sample(everywhere, SCATTERED)
    below = moved[:1750] + choose.sample(everywhere, 1750)
    io(create(folder / "base.qcow2", size), writes(list(set(below)), 0, choose))
    io(create(folder / "mid.qcow2", size, "base.qcow2"), writes(moved, 1, choose))
    io(create(folder / "top.qcow2", size, "mid.qcow2"), writes(choose.sample(moved, 500), 2, choose))
    same, different = moved[2000:3750], moved[4000:5750]
    io(create(folder / "other.qcow2", size), writes(same, 1, choose) + writes(different, 3, choose))


def zero_chain(folder: Path) -> None:
    """128 GiB: a base with every L2 entry set under a top of a million zero clusters, eight of sixteen everywhere."""
    size = ZEROS * 2 * CLUSTER
    full(folder / "base.qcow2", size)
    starts = range(0, ZEROS * 2, _ZERO_RUN * 2)
    io(
        create(folder / "top.qcow2", size, "base.qcow2"),
        (f"write -q -z {c * CLUSTER} {_ZERO_RUN * CLUSTER}" for c in starts),
    )


def compressed_chain(folder: Path) -> None:
    """10 GiB: base (1,500 clusters) <- mid (6,500 clusters of words, zlib) <- top (500)."""
    size, choose = 10 * GIB, random.Random(65)
    packed = sorted(choose.sample(range(size // CLUSTER), COMPRESSED))
    io(create(folder / "base.qcow2", size), writes(choose.sample(range(size // CLUSTER), 1500), 0, choose))
    raw, data = folder / "mid.raw", _words(choose)
    with raw.open("wb") as file:
        file.truncate(size)
        for cluster in packed:
            begin = cluster * 4099 % (MIB - CLUSTER)
            file.seek(cluster * CLUSTER)
            file.write(data[begin : begin + CLUSTER])
    mid = folder / "mid.qcow2"
    tool("qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", "-W", "-t", "unsafe", raw, mid)
    raw.unlink()
    tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", mid)
    io(create(folder / "top.qcow2", size, "mid.qcow2"), writes(choose.sample(packed, 500), 2, choose))


def _words(choose: random.Random) -> bytes:
    """Give a MiB of words, the first ones far more often than the last: zlib makes less than half of it."""
    words = [choose.randbytes(choose.randint(1, 5)).hex() for _ in range(1000)]
    weights = [1 / n for n in range(1, 1001)]
    return " ".join(choose.choices(words, weights, k=200_000)).encode()[:MIB]


def make(folder: Path, what: Callable[[Path], None]) -> None:
    """Make a set of images in a new folder, all of it on disk at the end."""
    folder.mkdir()
    what(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """Bring every file of a folder to the disk."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- what is looked at afterwards -------------------------------------------------------------------------------------


def require_sound(image: Path, like: Path) -> None:
    """Make sure that an image is clean and reads as another one does.

    Raises:
        BenchError: It is not, or does not.
    """
    tool("qemu-img", "check", "-q", "-f", "qcow2", image)
    tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", image, like)
