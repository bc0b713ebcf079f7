"""Compressed clusters come out of the threads in order, whole, and with their errors where they are asked for."""

from __future__ import annotations

import random
import struct
import sys
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from backchain.clustermap import open_layers
from backchain.contents import read_packed
from backchain.engines.unpacking import Unpacker
from backchain.errors import MalformedImageError
from backchain.image import read_image_info
from backchain.qcow2.tables import compressed_extent

from . import damage, qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLUSTER = 65536
COUNT = 40


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Make an image of compressed clusters, each filled with a byte of its own."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(b"".join(bytes([n + 1]) * CLUSTER for n in range(COUNT)))
    qemu.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, path)
    return path


@pytest.fixture
def unpacker(packed: Path) -> Iterator[tuple[Unpacker, list[int]]]:
    """Open it, and give the L2 entries in the guest's order."""
    with open_layers([read_image_info(packed)]) as layers:
        entries = layers[0].runs(0, COUNT * CLUSTER).host.tolist()
        assert len(entries) == COUNT
        unpacker = Unpacker(layers)
        yield unpacker, entries
        unpacker.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("unpack")]


def test_clusters_come_in_order(unpacker: tuple[Unpacker, list[int]]) -> None:
    unpack, entries = unpacker
    unpack.announce((0, e) for e in entries)
    for number, entry in enumerate(entries):
        assert unpack.cluster((0, entry)) == bytes([number + 1]) * CLUSTER


def test_neighbours_in_the_same_cluster_are_read_once(unpacker: tuple[Unpacker, list[int]]) -> None:
    unpack, (first, second, *_) = unpacker
    unpack.announce([(0, first), (0, first), (0, second), (0, first)])
    given = [unpack.cluster((0, e)) for e in (first, first, second, first)]
    assert [g[0] for g in given] == [1, 1, 2, 1]
    assert given[0] is given[1]


def test_windows_follow_each_other(unpacker: tuple[Unpacker, list[int]]) -> None:
    unpack, entries = unpacker
    for part in (entries[:3], entries[3:30], entries[30:]):
        unpack.announce((0, e) for e in part)
        assert [unpack.cluster((0, e))[0] for e in part] == [entries.index(e) + 1 for e in part]


def test_a_cluster_that_two_windows_share_is_given_to_both(unpacker: tuple[Unpacker, list[int]]) -> None:
    unpack, entries = unpacker
    for part in (entries[:3], entries[2:4], entries[3:]):
        unpack.announce((0, e) for e in part)
        assert [unpack.cluster((0, e))[0] for e in part] == [entries.index(e) + 1 for e in part]


def test_damage_is_told_where_it_is(packed: Path) -> None:
    with open_layers([read_image_info(packed)]) as layers:
        entries = layers[0].runs(0, COUNT * CLUSTER).host.tolist()
        offset, _ = compressed_extent(entries[5], 16)
        with packed.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * 8)
        unpack = Unpacker(layers)
        unpack.announce((0, e) for e in entries)
        assert [unpack.cluster((0, e))[0] for e in entries[:5]] == [1, 2, 3, 4, 5]
        with pytest.raises(MalformedImageError, match=r"disk\.qcow2"):
            unpack.cluster((0, entries[5]))
        unpack.close()


def test_closed_amid_the_work_no_thread_stays(unpacker: tuple[Unpacker, list[int]]) -> None:
    unpack, entries = unpacker
    unpack.announce((0, e) for e in entries)
    unpack.cluster((0, entries[0]))
    assert any(t.name.startswith("unpack") for t in threading.enumerate())


def large_window() -> tuple[bytes, bytes]:
    """Give a cluster and what it is packed to with a window of 32 KiB; QEMU packs with 4, but reads it."""
    part = random.Random(1).randbytes(20_000)
    cluster = (part * 4)[:CLUSTER]
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(cluster) + packer.flush()
    assert len(data) < 24_000, "the repetition was not found"
    return cluster, data


def nonsense_behind_it() -> tuple[bytes, bytes]:
    """Give a cluster and what it is packed to when more follows, which ends in nonsense; QEMU stops before that."""
    cluster = random.Random(2).randbytes(CLUSTER)
    parts = (cluster[: CLUSTER // 2], cluster[CLUSTER // 2 :], b"more")
    stored = (b"\0" + struct.pack("<HH", len(p), len(p) ^ 0xFFFF) + p for p in parts)  # RFC 1951, section 3.2.4
    return cluster, b"".join(stored) + b"\7"


@pytest.mark.parametrize("library", ["isal", None])
@pytest.mark.parametrize("make", [large_window, nonsense_behind_it])
def test_what_qemu_reads_is_read(
    packed: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], tuple[bytes, bytes]], library: str | None
) -> None:
    cluster, data = make()
    image = packed.read_bytes()
    offset = -(-len(image) // CLUSTER) * CLUSTER
    end = -(-(offset + len(data)) // CLUSTER) * CLUSTER
    sectors = -(-len(data) // 512)
    entry = 1 << 62 | (sectors - 1) << (62 - 8) | offset
    (table,) = damage.l2_tables(image)
    packed.write_bytes(damage.put64((image.ljust(offset, b"\0") + data).ljust(end, b"\0"), table, entry))
    assert qemu.view(packed)[:CLUSTER] == cluster
    take(library, monkeypatch)
    with open_layers([read_image_info(packed)]) as layers:
        assert read_packed(layers[0], entry) == cluster


def take(library: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack with ISA-L, or as where there is none."""
    if library is None:
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip(library)


@pytest.mark.parametrize("library", ["isal", None])
def test_both_libraries_unpack_alike(packed: Path, monkeypatch: pytest.MonkeyPatch, library: str | None) -> None:
    """Where there is no ISA-L zlib does, and what neither can unpack is one error."""
    take(library, monkeypatch)
    with open_layers([read_image_info(packed)]) as layers:
        entry = layers[0].runs(0, CLUSTER).host.tolist()[0]
        assert read_packed(layers[0], entry) == b"\1" * CLUSTER
        offset, length = compressed_extent(entry, 16)
        for junk in (b"\7" * length, b"\0" * length, packed.read_bytes()[offset : offset + 20]):
            with packed.open("r+b") as file:
                file.seek(offset)
                file.write(junk.ljust(length, b"\xff"))
            with pytest.raises(MalformedImageError, match=r"disk\.qcow2: the compressed cluster at"):
                read_packed(layers[0], entry)
