"""Ways to damage a qcow2 file: where its metadata lies, and what to put there.

The offsets are taken from the file with struct alone, so that the damage does not rest on the code under test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = {
    "magic": (0, 4), "version": (4, 4), "backing_file_offset": (8, 8), "backing_file_size": (16, 4),
    "cluster_bits": (20, 4), "size": (24, 8), "crypt_method": (32, 4), "l1_size": (36, 4), "l1_table_offset": (40, 8),
    "refcount_table_offset": (48, 8), "refcount_table_clusters": (56, 4), "nb_snapshots": (60, 4),
    "snapshots_offset": (64, 8), "incompatible_features": (72, 8), "compatible_features": (80, 8),
    "autoclear_features": (88, 8), "refcount_order": (96, 4), "header_length": (100, 4), "compression_type": (104, 1),
}  # fmt: skip
"""Field of the header -> (offset, length)."""

BACKING_FORMAT = 0xE2792ACA
"""Type of the header extension that records the backing format."""


@dataclass(frozen=True)
class Damage:
    """Bytes written over a file at an offset; or, with `cut`, the file ends there."""

    offset: int
    data: bytes = b""
    cut: bool = False

    def apply(self, data: bytes) -> bytes:
        """Give the damaged file."""
        if self.cut:
            return data[: self.offset]
        return data[: self.offset] + self.data + data[self.offset + len(self.data) :]


def get(data: bytes, name: str) -> int:
    """Read a field of the header."""
    offset, length = FIELDS[name]
    return int.from_bytes(data[offset : offset + length], "big")


def put(data: bytes, name: str, value: int) -> bytes:
    """Write a field of the header."""
    offset, length = FIELDS[name]
    return Damage(offset, value.to_bytes(length, "big")).apply(data)


def put64(data: bytes, offset: int, value: int) -> bytes:
    """Write a big-endian 64-bit number."""
    return Damage(offset, struct.pack(">Q", value)).apply(data)


def with_header(data: bytes, extensions: list[tuple[int, bytes]], name: bytes) -> bytes:
    """Give a fresh version 3 overlay these header extensions and this backing file name instead of its own."""
    parts = (struct.pack(">II", kind, len(x)) + x + bytes(-len(x) % 8) for kind, x in extensions)
    header = data[:112] + b"".join(parts) + bytes(8)
    fields = struct.pack(">QI", len(header), len(name))
    cluster = 1 << get(data, "cluster_bits")
    return header[:8] + fields + (header[20:] + name).ljust(cluster - 20, b"\0") + data[cluster:]


def l2_tables(data: bytes) -> list[int]:
    """Give the offsets of the active L2 tables."""
    l1, size = get(data, "l1_table_offset"), get(data, "l1_size")
    entries = struct.unpack_from(f">{size}Q", data, l1)
    return [e & 0x00FF_FFFF_FFFF_FE00 for e in entries if e & 0x00FF_FFFF_FFFF_FE00]


def refcount_blocks(data: bytes) -> list[int]:
    """Give the offsets of the refcount blocks."""
    table = get(data, "refcount_table_offset")
    count = (get(data, "refcount_table_clusters") << get(data, "cluster_bits")) // 8
    return [e & ~0x1FF for e in struct.unpack_from(f">{count}Q", data, table) if e]


def regions(data: bytes) -> list[tuple[int, int]]:
    """Give (offset, length) of header, extensions, L1, L2, refcount table and blocks, and snapshot table."""
    cluster = 1 << get(data, "cluster_bits")
    found = [(0, 112), (0, min(cluster, 1024)), (get(data, "l1_table_offset"), 8 * get(data, "l1_size"))]
    found += [(o, cluster) for o in l2_tables(data)]
    found += [(get(data, "refcount_table_offset"), 64)]
    found += [(o, min(cluster, 4096)) for o in refcount_blocks(data)]
    if get(data, "nb_snapshots"):
        found.append((get(data, "snapshots_offset"), 100))
    return [(o, n) for o, n in found if n]


def values(data: bytes) -> list[int]:
    """Give 64-bit numbers that are likely to be taken wrongly."""
    size, cluster = len(data), 1 << get(data, "cluster_bits")
    copied, packed = 1 << 63, 1 << 62
    last = (size - 1) // cluster * cluster
    return [
        0, 1, 2, 511, cluster, cluster + 512, last, last + cluster, size, copied | last, copied | (last + cluster),
        copied | cluster | 1, copied | get(data, "l1_table_offset"), copied | get(data, "refcount_table_offset"),
        packed, packed | size, packed | ((1 << 62) - 1), packed | (last + cluster - 512) | 0x7F << 54, copied | packed,
        (1 << 56) - 512, 1 << 62, (1 << 63) - 1, (1 << 64) - 1, 0x00FF_FFFF_FFFF_FE00, *l2_tables(data),
        *(copied | o for o in l2_tables(data)),
    ]  # fmt: skip


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> tuple[Damage, ...]:
    """Draw one to four damages to a sound qcow2 file."""
    return tuple(draw(st.lists(_damage(data), min_size=1, max_size=4)))


def _damage(data: bytes) -> st.SearchStrategy[Damage]:
    places = st.sampled_from(regions(data)).flatmap(lambda r: st.integers(r[0], r[0] + r[1] - 1))
    flips = st.builds(_flip(data), places, st.integers(0, 7))
    numbers = st.builds(
        lambda place, value: Damage(place & ~7, struct.pack(">Q", value)), places, st.sampled_from(values(data))
    )
    narrow = st.builds(
        lambda place, value: Damage(place & ~3, struct.pack(">I", value)),
        st.integers(0, 107),
        st.sampled_from((0, 1, 2, 9, 21, 31, 63, 255, 1023, 65536, (1 << 22) - 1, 1 << 22, 1 << 31, (1 << 32) - 1)),
    )
    cuts = st.builds(lambda length: Damage(length, cut=True), st.integers(0, len(data)))
    return st.one_of(flips, numbers, narrow, cuts)


def _flip(data: bytes) -> Callable[[int, int], Damage]:
    def flip(place: int, bit: int) -> Damage:
        place = min(place, len(data) - 1)
        return Damage(place, bytes([data[place] ^ 1 << bit]))

    return flip


def damaged(data: bytes, all_damages: tuple[Damage, ...]) -> bytes:
    """Apply several damages; one beyond a cut lengthens the file with zeros again."""
    for damage in all_damages:
        data = damage.apply(data.ljust(damage.offset, b"\0") if not damage.cut else data)
    return data
