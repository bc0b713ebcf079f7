"""Writing a fresh qcow2 image in one go, sound and complete: header, L1, data, L2 tables, refcounts.

The file is laid out in the order in which it can be streamed: header and L1 table, the data clusters as they come, then
L2 tables and refcounts, whose number is known by then. Every cluster has a refcount of one, so nothing is shared and
the COPIED bit is set throughout (qcow2 specification, sections "L1 table entry" and "Standard Cluster Descriptor").
"""

from __future__ import annotations

import os
import sys
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from backchain.errors import UsageError, io_error
from backchain.filename import MAX_BACKING_NAME, printable
from backchain.qcow2 import format as fmt
from backchain.qcow2.header import Extension, Header

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DEFAULT_CLUSTER_SIZE = 65536
"""Cluster size in bytes that qemu-img create uses when none is asked for."""

_REFCOUNT_ORDER = 4
_REFCOUNT_BYTES = 2
_HEADER_LENGTH = 112
"""The fixed header with the compression type and its padding, as QEMU writes it since 5.1."""

_FEATURE_NAMES = (
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
)
"""Type (0 incompatible, 1 compatible, 2 autoclear), bit and name: section "Feature name table"."""


def empty_file_size(size: int, cluster_size: int = DEFAULT_CLUSTER_SIZE) -> int:
    """Give the length in bytes of the file that `create_image` writes for an empty disk of `size` bytes."""
    header = _header(size, cluster_size, None)
    first = 1 + -(-header.l1_size * 8 // cluster_size)
    return (first + sum(_refcount_clusters(first, header))) * cluster_size


def create_image(
    path: Path,
    size: int,
    *,
    cluster_size: int = DEFAULT_CLUSTER_SIZE,
    backing: tuple[str, str] | None = None,
    base_mark: bytes | None = None,
    data: Iterable[tuple[int, bytes]] = (),
    zeros: Iterable[int] = (),
    sync: bool = True,
) -> None:
    """Write a new qcow2 image, version 3, 16-bit refcounts.

    Args:
        path: The file to make; it must not exist.
        size: Virtual size in bytes, a multiple of 512.
        cluster_size: Bytes, a power of two from 512 to 2 MiB.
        backing: Name and format of the backing file to record, as they shall stand in the header.
        base_mark: What the image shall remember of its base, encoded (`backchain.basemark`); None for nothing.
        data: Pairs (guest cluster, its bytes), each cluster once, in any order; they are written in this order, and
            bytes that a cluster lacks are zeros. Read one at a time, so that it may be a generator.
        zeros: Guest clusters that read as zeros whatever the backing file holds.
        sync: Return only when the image is on disk.

    Raises:
        UsageError: The file exists, or what was asked for is no legal image.
        UnsupportedImageError: The backing file name does not fit into the first cluster.
        ImageIOError: Writing failed; no file is left.
    """
    header = _header(size, cluster_size, backing)
    if base_mark is not None:
        header = replace(header, extensions=(*header.extensions, Extension(fmt.EXT_BASE_MARK, base_mark)))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise UsageError(f"{printable(str(path))} exists already") from error
    except OSError as error:
        raise io_error(printable(str(path)), error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            _Writer(file, header).write(data, zeros)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise io_error(printable(str(path)), error) from error
        raise


def _header(size: int, cluster_size: int, backing: tuple[str, str] | None) -> Header:
    """Make the header; the refcount table's place is filled in when it is known.

    Raises:
        UsageError: A size is not legal, or the backing file name is too long.
    """
    cluster_bits = cluster_size.bit_length() - 1
    if cluster_size != 1 << cluster_bits or not fmt.MIN_CLUSTER_BITS <= cluster_bits <= fmt.MAX_CLUSTER_BITS:
        raise UsageError(f"a cluster size of {cluster_size} bytes is not legal")
    if size < 0 or size % fmt.SECTOR:
        raise UsageError(f"a virtual size of {size} bytes is no multiple of {fmt.SECTOR}")
    l1_size = max(1, -(-size // (cluster_size * (cluster_size // 8))))
    if l1_size * 8 > fmt.MAX_L1_BYTES:
        raise UsageError(f"a disk of {size} bytes needs larger clusters than {cluster_size} bytes")
    if backing is not None and len(os.fsencode(backing[0])) > MAX_BACKING_NAME:
        raise UsageError("the backing file name is too long", f"QEMU takes at most {MAX_BACKING_NAME} bytes")
    table = b"".join(bytes((kind, bit)) + name.ljust(46, b"\0") for kind, bit, name in _FEATURE_NAMES)
    header = Header(
        version=3, backing_file_offset=0, cluster_bits=cluster_bits, size=size, crypt_method=0, l1_size=l1_size,
        l1_table_offset=cluster_size, refcount_table_offset=0, refcount_table_clusters=0, nb_snapshots=0,
        snapshots_offset=0, incompatible_features=0, compatible_features=0, autoclear_features=0,
        refcount_order=_REFCOUNT_ORDER, header_length=_HEADER_LENGTH,
        unknown_fields=bytes(_HEADER_LENGTH - fmt.HEADER_V3_LENGTH),
        extensions=(Extension(fmt.EXT_FEATURE_NAMES, table),), backing_name=None,
    )  # fmt: skip
    return header.with_backing(os.fsencode(backing[0]), backing[1]) if backing is not None else header


class _Writer:
    """Writes one image; counts host clusters as it goes."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._header = header
        self._cluster = header.cluster_size
        self._guest_clusters = -(-header.size // self._cluster)
        self._next = 1 + self._clusters_for(header.l1_size * 8)
        self._tables: dict[int, array[int]] = {}

    def write(self, data: Iterable[tuple[int, bytes]], zeros: Iterable[int]) -> None:
        for guest, content in data:
            if len(content) > self._cluster:
                raise UsageError(f"cluster {guest} has {len(content)} bytes, more than a cluster")
            self._set(guest, self._append(content) | fmt.OFLAG_COPIED)
        for guest in zeros:
            self._set(guest, fmt.OFLAG_ZERO)
        self._put(self._cluster, _big_endian(self._l1()))
        table, blocks = self._refcounts()
        self._put(0, self._finished(table, blocks).encode())
        self._file.truncate(self._next * self._cluster)

    def _set(self, guest: int, entry: int) -> None:
        """Set an L2 entry that is not set yet."""
        if not 0 <= guest < self._guest_clusters:
            raise UsageError(f"cluster {guest} lies outside of a disk of {self._header.size} bytes")
        index, slot = divmod(guest, self._header.l2_entries)
        table = self._tables.setdefault(index, array("Q", bytes(self._cluster)))
        if table[slot]:
            raise UsageError(f"cluster {guest} is given twice")
        table[slot] = entry

    def _l1(self) -> array[int]:
        """Append the L2 tables and give the L1 table."""
        l1 = array("Q", bytes(self._header.l1_size * 8))
        for index, table in sorted(self._tables.items()):
            l1[index] = self._append(_big_endian(table)) | fmt.OFLAG_COPIED
        return l1

    def _refcounts(self) -> tuple[int, int]:
        """Append refcount blocks and the table; give the table's offset in bytes and its length in clusters."""
        per_block = self._header.refcount_block_entries
        blocks, table = _refcount_clusters(self._next, self._header)
        total = self._next + blocks + table
        counts = array("H", [1]) * total
        counts.extend(array("H", bytes((blocks * per_block - total) * _REFCOUNT_BYTES)))
        first = self._append(_big_endian(counts))
        offsets = array("Q", range(first, first + blocks * self._cluster, self._cluster))
        return self._append(_big_endian(offsets)), table

    def _finished(self, table_offset: int, table_clusters: int) -> Header:
        return replace(self._header, refcount_table_offset=table_offset, refcount_table_clusters=table_clusters)

    def _append(self, content: bytes) -> int:
        """Write at the end, whole clusters; give the offset in bytes."""
        offset = self._next * self._cluster
        self._put(offset, content)
        self._next += max(1, self._clusters_for(len(content)))
        return offset

    def _put(self, offset: int, content: bytes) -> None:
        self._file.seek(offset)
        self._file.write(content)

    def _clusters_for(self, length: int) -> int:
        return -(-length // self._cluster)


def _refcount_clusters(used: int, header: Header) -> tuple[int, int]:
    """Give the number of refcount blocks, and of clusters of the refcount table, that count `used` and themselves."""
    blocks = table = 0
    while True:
        needed = -(-(used + blocks + table) // header.refcount_block_entries)
        wanted = needed, -(-needed * 8 // header.cluster_size)
        if (blocks, table) == wanted:
            return wanted
        blocks, table = wanted


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()
