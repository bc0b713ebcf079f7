"""Damage by name to a version 3 image with 64 KiB clusters, by hand: headers, tables, and tables that overlap."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from . import damage

if TYPE_CHECKING:
    from collections.abc import Callable

_CLUSTER = 65536


def _entry(index: int, value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    """Give a damage that overwrites entry `index` of the first L2 table."""

    def change(data: bytes) -> bytes:
        number = value(data) if callable(value) else value
        return damage.put64(data, damage.l2_tables(data)[0] + 8 * index, number)

    return change


def _l1(value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        number = value(data) if callable(value) else value
        return damage.put64(data, damage.get(data, "l1_table_offset"), number)

    return change


def _field(name: str, value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    return lambda data: damage.put(data, name, value(data) if callable(value) else value)


def _counted(entry: Callable[[bytes], bytes], place: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    """Give a damage after which the cluster at `place` is referred to twice and counted twice."""

    def change(data: bytes) -> bytes:
        block = damage.refcount_blocks(data)[0]
        return damage.Damage(block + place(data) // _CLUSTER * 2, struct.pack(">H", 2)).apply(entry(data))

    return change


def _bitmaps(*fields: int, length: int = 24) -> Callable[[bytes], bytes]:
    """Give a damage that puts a bitmaps extension in front of the others."""

    def change(data: bytes) -> bytes:
        head = struct.pack(">II", 0x23852875, length) + struct.pack(">IIQQ", *fields)[:length].ljust(24, b"\0")
        name = damage.get(data, "backing_file_offset")
        if name:
            data = damage.put(data, "backing_file_offset", name + len(head))
        data = damage.put(data, "autoclear_features", 1)
        return data[:112] + head + data[112 : _CLUSTER - len(head)] + data[_CLUSTER:]

    return change


def _place(name: str) -> Callable[[bytes], int]:
    return lambda data: damage.get(data, name)


COPIED = 1 << 63
UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "l2-table-past-the-end": _l1(lambda d: COPIED | (len(d) + (1 << 20)) & ~0xFFFF),
    "l2-table-at-2-to-the-55": _l1(COPIED | 1 << 55),
    "l2-table-unaligned": _l1(lambda d: COPIED | damage.l2_tables(d)[0] + 512),
    "cluster-past-the-end": _entry(0, COPIED | 1 << 40),
    "cluster-unaligned": _entry(0, lambda d: COPIED | damage.l2_tables(d)[0] + 512),
    "compressed-past-the-end": _entry(0, 1 << 62 | 1 << 40),
    "truncated-in-the-l2-table": lambda d: d[: damage.l2_tables(d)[0] + 100],
}
"""Damage to the tables of a 64 KiB-cluster image that must be refused wherever the entry is needed."""

BAD_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "version-1": _field("version", 1),
    "version-4": _field("version", 4),
    "cluster-bits-0": _field("cluster_bits", 0),
    "cluster-bits-8": _field("cluster_bits", 8),
    "cluster-bits-22": _field("cluster_bits", 22),
    "cluster-bits-huge": _field("cluster_bits", 0xFFFFFFFF),
    "size-huge": _field("size", (1 << 64) - 1),
    "size-beyond-l1": _field("size", 1 << 40),
    "l1-size-huge": _field("l1_size", 0xFFFFFFFF),
    "l1-size-4M": _field("l1_size", 1 << 22),
    "l1-size-0": _field("l1_size", 0),
    "l1-past-the-end": _field("l1_table_offset", 1 << 40),
    "l1-unaligned": _field("l1_table_offset", lambda d: damage.get(d, "l1_table_offset") + 512),
    "l1-offset-wraps": _field("l1_table_offset", (1 << 64) - 65536),
    "reftable-past-the-end": _field("refcount_table_offset", 1 << 40),
    "reftable-huge": _field("refcount_table_clusters", 0xFFFFFFFF),
    "reftable-unaligned": _field("refcount_table_offset", 65537),
    "snapshots-too-many": _field("nb_snapshots", 0xFFFFFFFF),
    "snapshots-past-the-end": lambda d: damage.put(damage.put(d, "nb_snapshots", 1), "snapshots_offset", 1 << 40),
    "snapshots-unaligned": _field("snapshots_offset", 512),
    "bitmaps-cut-short": _bitmaps(1, 0, 24, 65536, length=23),
    "bitmaps-none": _bitmaps(0, 0, 24, 65536),
    "bitmaps-too-many": _bitmaps(65536, 0, 24, 65536),
    "bitmaps-reserved": _bitmaps(1, 1, 24, 65536),
    "bitmaps-unaligned": _bitmaps(1, 0, 24, 65537),
    "bitmaps-huge": _bitmaps(1, 0, 1 << 40, 65536),
    "bitmaps-past-the-end": _bitmaps(1, 0, 24, 1 << 40),
    "incompatible-unknown": _field("incompatible_features", 1 << 40),
    "refcount-order-7": _field("refcount_order", 7),
    "refcount-order-huge": _field("refcount_order", 0xFFFFFFFF),
    "header-length-0": _field("header_length", 0),
    "header-length-huge": _field("header_length", 0xFFFFFFF8),
    "compression-type-9": lambda d: damage.put(damage.put(d, "compression_type", 9), "incompatible_features", 8),
    "backing-name-too-long": lambda d: damage.put(d, "backing_file_size", 1024),
    "backing-name-outside": lambda d: damage.put(d, "backing_file_offset", 1 << 40),
    "extension-runs-out": lambda d: d[:112] + struct.pack(">II", 0xE2792ACA, 0xFFFFFFFF) + d[120:],
    "backing-format-too-long": lambda d: d[:112] + struct.pack(">II16s", 0xE2792ACA, 16, b"x" * 16) + d[136:],
    "size-2-to-the-63": _field("size", 1 << 63),
    "size-negative": _field("size", (1 << 64) - 512),
    "l1-table-at-0": _field("l1_table_offset", 0),
    "ends-in-the-header": lambda d: d[:90],
    "only-the-magic": lambda d: d[:4],
}
"""Damage to the header of a version 3 overlay; QEMU refuses every one of them, too."""


OVERLAPS: dict[str, Callable[[bytes], bytes]] = {
    "l1-entry-to-the-l1-table": _l1(lambda d: COPIED | damage.get(d, "l1_table_offset")),
    "l1-entry-to-the-header": _l1(COPIED | 65536),
    "l2-entry-to-its-own-table": _entry(0, lambda d: COPIED | damage.l2_tables(d)[0]),
    "l2-entry-to-the-refcount-table": _entry(0, lambda d: COPIED | damage.get(d, "refcount_table_offset")),
    "l2-entry-to-the-l1-table": _entry(0, lambda d: COPIED | damage.get(d, "l1_table_offset")),
    "two-entries-to-one-cluster": lambda d: damage.put64(
        d, damage.l2_tables(d)[0] + 8, struct.unpack_from(">Q", d, damage.l2_tables(d)[0])[0]
    ),
    "reftable-entry-to-itself": lambda d: damage.put64(
        d, damage.get(d, "refcount_table_offset"), damage.get(d, "refcount_table_offset")
    ),
    "l1-is-the-reftable": _field("l1_table_offset", lambda d: damage.get(d, "refcount_table_offset")),
    "refcounts-all-zero": lambda d: d[: damage.refcount_blocks(d)[0]] + bytes(65536)
    + d[damage.refcount_blocks(d)[0] + 65536 :],
    "data-is-the-header": _counted(_entry(0, 1 << 62 | 512), lambda _: 0),
    "data-is-the-l1-table": _counted(_entry(0, _place("l1_table_offset")), _place("l1_table_offset")),
    "data-is-the-refcount-table": _counted(_entry(0, _place("refcount_table_offset")), _place("refcount_table_offset")),
    "data-is-a-refcount-block": _counted(_entry(0, lambda d: damage.refcount_blocks(d)[0]),
                                         lambda d: damage.refcount_blocks(d)[0]),
    "data-is-its-own-table": _counted(_entry(0, lambda d: damage.l2_tables(d)[0]), lambda d: damage.l2_tables(d)[0]),
}  # fmt: skip
"""Tables that lie over each other or over the data; the last ones are counted as often as they are referred to, so
that qemu-img check finds no fault with them, while a guest would see its data change with every write of metadata."""
