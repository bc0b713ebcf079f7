"""Refcount tables and blocks: how often each host cluster of a qcow2 file is used.

Source: section "Host cluster management" of QEMU's qcow2 specification.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.raw import holds_less, is_hole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.header import Header

Counts = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
"""Refcounts of one block, native byte order, one item per host cluster; uint8, 16, 32 or 64 by the width."""


def counts_dtype(refcount_bits: int) -> np.dtype[Any]:
    """Give the native type that holds refcounts of a width: uint8 for 1 to 8 bits, then uint16, 32, 64."""
    return np.dtype(f"u{max(refcount_bits // 8, 1)}")


def decode_block(raw: bytes, refcount_bits: int) -> Counts:
    """Decode a refcount block (one cluster of bytes) into counts; widths below 8 bits are packed from bit 0 up."""
    if refcount_bits >= 8:
        return np.frombuffer(raw, counts_dtype(refcount_bits).newbyteorder(">")).astype(counts_dtype(refcount_bits))
    packed = np.frombuffer(raw, np.uint8)
    shifts = np.arange(0, 8, refcount_bits, dtype=np.uint8)
    mask = np.uint8((1 << refcount_bits) - 1)
    return ((packed[:, None] >> shifts) & mask).reshape(-1)


def encode_block(counts: Counts, refcount_bits: int) -> bytes:
    """Encode counts into a refcount block; the reverse of `decode_block`."""
    if refcount_bits >= 8:
        return counts.astype(counts.dtype.newbyteorder(">")).tobytes()
    shifts = np.arange(0, 8, refcount_bits, dtype=np.uint8)
    fields = counts.reshape(-1, len(shifts)) << shifts
    packed: bytes = np.bitwise_or.reduce(fields, axis=1).astype(np.uint8).tobytes()
    return packed


def read_table(descriptor: int, header: Header, file_size: int) -> NDArray[np.uint64]:
    """Read the refcount table.

    Returns:
        uint64, shape (entries,): host offsets of the refcount blocks in bytes, 0 where there is none.

    Raises:
        MalformedImageError: An offset is unaligned, lies outside of the file, or is there twice.
    """
    length = header.refcount_table_clusters * header.cluster_size
    raw = os.pread(descriptor, length, header.refcount_table_offset)
    raw += bytes(length - len(raw))
    table = np.frombuffer(raw, ">u8").astype(np.uint64) & np.uint64(fmt.REFTABLE_OFFSET_MASK)
    end = np.uint64(min(max(file_size, 1), fmt.OFFSET_MASK))  # no other table could name what lies behind
    if (table & np.uint64(header.cluster_size - 1)).any() or (table >= end).any():
        raise MalformedImageError("the refcount table names a block outside of the file")
    named = np.sort(table[table != 0])
    if (named[1:] == named[:-1]).any():
        raise MalformedImageError("the refcount table names a block twice; run qemu-img check on it")
    return table


def read_block(descriptor: int, header: Header, offset: int) -> Counts:
    """Read and decode the refcount block at host `offset` (bytes)."""
    return read_counts(descriptor, header, offset, 0, header.refcount_block_entries)


def read_counts(descriptor: int, header: Header, offset: int, first: int, count: int) -> Counts:
    """Read and decode a part of a refcount block.

    Args:
        descriptor: The open file.
        header: Its header.
        offset: Host offset of the block in bytes.
        first: Entry of the block to begin with; a multiple of 8.
        count: Number of entries; a multiple of 8.
    """
    length = count * header.refcount_bits // 8
    raw = os.pread(descriptor, length, offset + first * header.refcount_bits // 8)
    return decode_block(raw + bytes(length - len(raw)), header.refcount_bits)


def stored_blocks(descriptor: int, header: Header, table: NDArray[np.uint64]) -> Iterator[int]:
    """Yield the numbers of the refcount blocks that exist, the last first, but for those in holes of the file.

    A sparse file can name a million blocks that take no place on the disk; they count nothing.
    """
    existing = np.flatnonzero(table)
    sparse = holds_less(descriptor, len(existing) * header.cluster_size)
    for index in existing[::-1].tolist():
        offset = int(table[index])
        if not sparse or not is_hole(descriptor, offset, offset + header.cluster_size):
            yield index


def count_used(descriptor: int, header: Header, file_size: int, enough: int) -> int:
    """Count the host clusters in use, up to about `enough` (the count stops after the block that reaches it)."""
    used = 0
    clusters = -(-file_size // header.cluster_size)
    entries = header.refcount_block_entries
    table = read_table(descriptor, header, file_size)[: -(-clusters // entries)]
    for index in stored_blocks(descriptor, header, table):
        counts = read_block(descriptor, header, int(table[index]))
        used += int(np.count_nonzero(counts[: clusters - index * entries]))
        if used >= enough:
            break
    return used
