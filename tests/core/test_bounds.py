"""What a file claims costs neither memory nor time: only what it takes on the disk does.

Every case is a chain of two whose files take less than 70 MiB on the disk and claim terabytes at least. All commands
are run on it in a process of their own, whose memory is measured at its peak.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backchain.image import read_image_info

from . import damage, qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(280)

MEMORY = 256 << 20
"""Bytes that all commands together may take at their peak: about 60 MiB for the program, and a few copies of the
largest tables that QEMU allows (32 MiB for the L1 table, 8 MiB for the refcount table) in two images at a time."""
SECONDS = 250

RUN = """
import contextlib, io, sys
from pathlib import Path
from backchain.image import read_image_info
from backchain_tui.cli import run
from backchain_tui.session import read_sparkline
folder, top, base, *verbs = sys.argv[1:]
commands = [["graph", folder], ["map", "--output", "json", top], ["map", "--output", "json", base]]
commands += [[verb, option, top] for verb in verbs for option in ("-n", "-y")]
statuses = []
for command in commands:
    with contextlib.redirect_stdout(io.StringIO()):
        statuses.append(run(command))
for path in (top, base):
    with contextlib.suppress(Exception):
        read_sparkline(read_image_info(Path(path)))
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
print(peak * 1024, *statuses)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder whose file system takes files of an exbibyte: in memory, where the system has one."""
    for parent in (tmp_path, qemu.scratch()):
        if parent is not None:
            made = Path(tempfile.mkdtemp(prefix="backchain-bounds-", dir=parent))
            try:
                with (made / "probe").open("wb") as file:
                    file.truncate(1 << 60)
            except OSError:
                shutil.rmtree(made)
                continue
            (made / "probe").unlink()
            yield made
            shutil.rmtree(made)
            return
    pytest.skip("no file system here takes files of an exbibyte")


def measure(folder: Path, base: str = "a.qcow2", verbs: tuple[str, ...] = ("commit", "pull")) -> list[int]:
    """Run every command on the folder; give the exit statuses of graph, maps, and the verbs."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, folder, folder / "b.qcow2", folder / base, *verbs],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    peak, *statuses = (int(word) for word in done.stdout.split())
    assert peak < MEMORY
    assert set(statuses) <= {0, 3, 4}, done.stderr
    return statuses


def pair(folder: Path, size: int = 1 << 20, cluster: int = 65536, base_size: int | None = None) -> None:
    """Make a.qcow2 <- b.qcow2 with 256 KiB of data each."""
    for name, length, backing in (("a", base_size or size, None), ("b", size, folder / "a.qcow2")):
        qemu.create(folder / f"{name}.qcow2", length, backing=backing, cluster_size=cluster)
    qemu.io(folder / "a.qcow2", "write -P 1 0 256k")
    qemu.io(folder / "b.qcow2", "write -P 2 128k 256k", f"write -P 3 {size - 65536} 64k")


def write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def head(path: Path) -> bytes:
    """Give all of a fresh pair's metadata, for the functions of `damage`."""
    with path.open("rb") as file:
        return file.read(16 << 20)


FAR = 64 << 20
"""Where larger tables are put: past all that a fresh pair holds."""


def long_l1(path: Path, entries: list[int], size: int) -> None:
    """Give an image a larger L1 table and a larger disk."""
    write_at(path, FAR, struct.pack(f">{len(entries)}Q", *entries))
    write_at(path, 36, struct.pack(">IQ", len(entries), FAR))
    write_at(path, 24, struct.pack(">Q", size))


def long_reftable(path: Path, entries: list[int], cluster: int) -> None:
    """Give an image a larger refcount table that begins with the block it has."""
    data = head(path)
    (first,) = struct.unpack_from(">Q", data, damage.get(data, "refcount_table_offset"))
    entries = [first, *entries]
    write_at(path, FAR, struct.pack(f">{len(entries)}Q", *entries))
    write_at(path, 48, struct.pack(">QI", FAR, -(-len(entries) * 8 // cluster)))


BOTH = ("a.qcow2", "b.qcow2")


@pytest.mark.parametrize("cluster", [512, 65536])
@pytest.mark.parametrize("which", BOTH)
def test_a_file_of_a_pebibyte_that_is_a_hole(folder: Path, which: str, cluster: int) -> None:
    pair(folder, cluster=cluster)
    os.truncate(folder / which, 1 << 50)
    assert measure(folder)[:3] == [0, 0, 0]


@pytest.mark.parametrize("which", BOTH)
def test_an_l1_table_that_names_one_l2_table_four_million_times(folder: Path, which: str) -> None:
    """Two pebibytes of guest data in 33 MiB: refused by all that reads the tables."""
    pair(folder)
    data = head(folder / which)
    long_l1(folder / which, [damage.l2_tables(data)[0] | 1 << 63] * (1 << 22), 1 << 51)
    graph, of_top, of_base, *rest = measure(folder)
    assert (graph, of_top, of_base) == (0, 4, 0 if which == "b.qcow2" else 4)
    assert set(rest) == {4}


def holes(which: str, count: int) -> Callable[[Path], None]:
    """Give what makes an L1 table of `count` entries, each naming an L2 table of its own that is a hole."""

    def change(folder: Path) -> None:
        long_l1(folder / which, [1 << 63 | FAR + (n + 32 << 21) for n in range(count)], count << 39)
        os.truncate(folder / which, FAR + (count + 40 << 21))

    return change


@pytest.mark.parametrize("which", BOTH)
@pytest.mark.parametrize("count", [1 << 14, pytest.param(1 << 18, marks=pytest.mark.slow)])
def test_l2_tables_in_holes_hold_nothing(folder: Path, which: str, count: int) -> None:
    pair(folder, cluster=1 << 21)
    holes(which, count)(folder)
    assert measure(folder)[:3] == [0, 0, 0]


@pytest.mark.parametrize("cluster", [512, 65536, 1 << 21])
@pytest.mark.parametrize("count", [1 << 16, pytest.param(1 << 18, marks=pytest.mark.slow)])
def test_refcount_blocks_in_holes_count_nothing(folder: Path, cluster: int, count: int) -> None:
    pair(folder, cluster=cluster)
    for name in BOTH:
        long_reftable(folder / name, [2 * FAR + n * cluster for n in range(count - 1)], cluster)
        os.truncate(folder / name, 2 * FAR + count * cluster)
    assert measure(folder)[:3] == [0, 0, 0]


def test_one_refcount_block_named_a_million_times(folder: Path) -> None:
    pair(folder)
    for name in BOTH:
        long_reftable(folder / name, [2 * FAR] * ((1 << 20) - 1), 65536)
        os.truncate(folder / name, 2 * FAR + 65536)
    graph, of_top, of_base, *rest = measure(folder)
    assert (graph, of_top, of_base) == (0, 0, 0), "refcounts are no matter for reading"
    assert set(rest) == {4}


def test_refcounts_far_behind_the_end(folder: Path) -> None:
    pair(folder)
    for name in BOTH:
        long_reftable(folder / name, [0] * ((1 << 20) - 2) + [2 * FAR], 65536)
        write_at(folder / name, 2 * FAR, b"\xff" * 65536)
    assert measure(folder)[:3] == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "base_size", "cluster"),
    [(1 << 46, 1 << 46, 65536), (1 << 46, 1 << 20, 65536), (1 << 60, 1 << 60, 1 << 21)],
)
def test_a_huge_disk_with_little_on_it(folder: Path, size: int, base_size: int, cluster: int) -> None:
    pair(folder, size, cluster, base_size)
    before = data_ranges(folder / "b.qcow2") if size < 1 << 60 else []
    assert measure(folder, verbs=("commit",)) == [0] * 5
    assert qemu.check(folder / "a.qcow2").clean
    if before:  # QEMU needs minutes to map the larger disk
        assert data_ranges(folder / "b.qcow2") == before


def data_ranges(path: Path) -> list[tuple[int, int]]:
    """Give the guest ranges (start, end) that hold data, by whichever layer, as QEMU sees them."""
    ranges: list[tuple[int, int]] = []
    for extent in qemu.map_json(path):
        if extent["data"]:
            start = ranges.pop()[0] if ranges and ranges[-1][1] == extent["start"] else extent["start"]
            ranges.append((start, extent["start"] + extent["length"]))
    return ranges


@pytest.mark.parametrize("size", [1 << 60, (1 << 63) - 1])
def test_a_raw_base_that_is_a_hole(folder: Path, size: int) -> None:
    """An exbibyte is read; of a file that is longer than QEMU allows all is refused."""
    with (folder / "a.raw").open("wb") as file:
        file.truncate(size)
        file.seek(1 << 40)
        file.write(b"x" * 65536)
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "a.raw", folder / "b.qcow2", "2T")
    legal = qemu.attempt("qemu-img", "map", folder / "b.qcow2").returncode == 0
    assert legal is (size == 1 << 60)
    graph, *rest = measure(folder, "a.raw")
    assert graph == 0
    assert set(rest[:2]) == ({0} if legal else {4})
    assert set(rest[2:]) == ({0} if legal else {3})


def test_many_l1_tables_in_holes(folder: Path) -> None:
    """A chain of 40 whose L1 tables claim 32 MiB each; they are all open at once."""
    names = [f"n{n}.qcow2" for n in range(39)] + ["b.qcow2"]
    for below, name in zip([None, *names], names, strict=False):
        qemu.create(folder / name, 1 << 20, backing=folder / below if below else None)
    for name in names:
        write_at(folder / name, 36, struct.pack(">IQ", 1 << 22, FAR))
        os.truncate(folder / name, FAR + (32 << 20))
    assert measure(folder, "n0.qcow2", ("pull",)) == [0, 0, 0, 3, 3], "those tables have no refcounts"


def test_many_headers_in_holes(folder: Path) -> None:
    """Five hundred files whose header claims to fill a cluster of 2 MiB, which is a hole."""
    pair(folder, cluster=1 << 21)
    path = folder / "a.qcow2"
    data = head(path)[:112] + struct.pack(">II", 0x12345678, (2 << 20) - 1000)
    for number in range(500):
        with (folder / f"{number}.qcow2").open("wb") as file:
            file.write(data)
            file.truncate(path.stat().st_size)
    assert read_image_info(path).readable
    assert measure(folder)[0] == 0
