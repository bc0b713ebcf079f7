"""Whether a qcow2 file's tables and refcounts agree, asked before anything is written into it.

A cluster that is referred to more often than it is counted would be given out twice, or freed while it is used; one
that holds metadata and is referred to again would change what a guest reads when the metadata is written. Only what
the active image refers to is counted here, so that references of internal snapshots and bitmaps never count as damage,
and leaks do not either.

References are kept as runs of neighbouring clusters, a number each, and compared refcount block by refcount block: the
memory is that of the tables that were read, whatever lengths and offsets they claim.

Source: section "Host cluster management" of QEMU's qcow2 specification; ``qemu-img check`` calls the same an error.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.bitmaps import directory_place
from backchain.qcow2.refcounts import read_block
from backchain.qcow2.tables import compressed_extents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.qcow2.header import Header
    from backchain.qcow2.image import Qcow2File

_DAMAGED = "run qemu-img check on it"
_OFFSET = np.uint64(fmt.OFFSET_MASK)

_OWN = 1
"""Bit of a run: the reference says that it is the only one (OFLAG_COPIED)."""
_METADATA = 2
"""Bit of a run: the clusters hold metadata that may be written in place."""
_KIND_BITS = 2


def check_references(file: Qcow2File, refcount_table: NDArray[np.uint64], end: int) -> None:
    """Compare the references of the active image, and of its metadata, with the refcounts.

    Args:
        file: The open file.
        refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.
        end: Number of host clusters of the file.

    Raises:
        MalformedImageError: A cluster has more references than its refcount, is marked as nobody else's
            (OFLAG_COPIED) with another refcount than 1, or holds metadata and is referred to twice.
    """
    header, size = file.header, file.header.cluster_size
    references = _References(header, end)
    for offset, length in (
        (0, size),
        (header.l1_table_offset, header.l1_size * 8),
        (header.refcount_table_offset, header.refcount_table_clusters * size),
        directory_place(header, file.file_size) or (0, 0),
    ):
        if length:
            first, after = offset // size, -(-(offset + length) // size)
            references.add(np.array([first]), np.array([after - first]), np.array([_METADATA]))
    references.add_entries(refcount_table, _METADATA)
    references.add_entries(file.l1, _METADATA)
    for _, entries in file.tables():
        if int(np.bitwise_or.reduce(entries)) & fmt.OFLAG_COMPRESSED:
            packed = (entries & np.uint64(fmt.OFLAG_COMPRESSED)) != 0
            references.add_compressed(entries[packed])
            entries = entries[~packed]
        references.add_entries(entries, 0)
    references.compare(file.descriptor, refcount_table)


class _References:
    """References to host clusters, as runs that each lie within what one refcount block counts.

    A run is one uint64: its first cluster, its length less 1, and its kind in the lowest bits. Together they have 62
    bits at most, as the length is below the number of clusters that a block counts.
    """

    def __init__(self, header: Header, end: int) -> None:
        self._header = header
        self._end = end
        self._entries = header.refcount_block_entries
        self._length_bits = self._entries.bit_length() - 1
        self._parts: list[NDArray[np.uint64]] = []

    def add_entries(self, entries: NDArray[np.uint64], kind: int) -> None:
        """Add what L1 entries or standard L2 entries name; neighbours become runs."""
        named = entries[(entries & _OFFSET) != 0]
        if not len(named):
            return
        if int(np.bitwise_or.reduce(named)) & fmt.OFFSET_MASK & (self._header.cluster_size - 1):
            raise MalformedImageError(f"the image has a table entry that is not aligned to a cluster; {_DAMAGED}")
        breaks = np.flatnonzero(named[1:] - named[:-1] != self._header.cluster_size) + 1  # where flags differ, too
        starts = np.concatenate((np.zeros(1, np.int64), breaks))
        first = (named[starts] & _OFFSET).astype(np.int64) >> self._header.cluster_bits
        own = (named[starts] >> np.uint64(63)).astype(np.int64) * _OWN
        self.add(first, np.diff(starts, append=len(named)), kind | own)

    def add_compressed(self, entries: NDArray[np.uint64]) -> None:
        """Add the clusters that compressed data touches; its last sector may reach past the end of the file."""
        start, length = compressed_extents(entries, self._header.cluster_bits)
        first = start // self._header.cluster_size
        last = np.minimum((start + length - 1) // self._header.cluster_size, self._end - 1)
        self.add(first, np.maximum(last - first + 1, 1), np.zeros(len(first), np.int64))

    def add(self, first: NDArray[np.int64], count: NDArray[np.int64], kind: NDArray[np.int64]) -> None:
        """Add runs of `count` clusters (at least 1) from `first` on, each of a kind; int64, all of one shape."""
        last = first + count - 1
        if int(last.max()) >= self._end:
            raise MalformedImageError(f"the image refers to clusters past the end of its file; {_DAMAGED}")
        blocks = (last >> self._length_bits) - (first >> self._length_bits) + 1
        if int(blocks.max()) > 1:
            run = np.repeat(np.arange(len(first)), blocks)
            block = first[run] // self._entries + np.arange(len(run)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
            first = np.maximum(first[run], block * self._entries)
            last = np.minimum(last[run], (block + 1) * self._entries - 1)
            kind = kind[run]
        self._parts.append((((first << self._length_bits | last - first) << _KIND_BITS) | kind).astype(np.uint64))

    def compare(self, descriptor: int, table: NDArray[np.uint64]) -> None:
        """Compare what was added with the refcounts, block by block."""
        runs = np.concatenate(self._parts)
        self._parts.clear()
        runs.sort()
        blocks = runs >> np.uint64(2 * self._length_bits + _KIND_BITS)
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(runs)]
        for low, high in pairwise(edges):
            index = int(blocks[low])
            if index >= len(table) or not table[index]:
                raise MalformedImageError(f"the image uses clusters that have no refcount; {_DAMAGED}")
            counts = read_block(descriptor, self._header, int(table[index]))
            mine = runs[low:high]
            references = self._covered(mine)
            own = self._covered(mine[(mine & np.uint64(_OWN)) != 0]) != 0
            metadata = self._covered(mine[(mine & np.uint64(_METADATA)) != 0]) != 0
            if (references > counts).any() or (counts[own] != 1).any():
                raise MalformedImageError(f"the image refers to clusters more often than it counts them; {_DAMAGED}")
            if (references[metadata] != 1).any():
                raise MalformedImageError(f"the image's tables overlap each other or its data; {_DAMAGED}")

    def _covered(self, runs: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Count how often each cluster of a block lies in runs of that block; uint64, shape (block entries,)."""
        mask = self._entries - 1
        length = (runs >> np.uint64(_KIND_BITS)).astype(np.int64) & mask
        first = (runs >> np.uint64(_KIND_BITS + self._length_bits)).astype(np.int64) & mask
        begins = np.bincount(first, minlength=self._entries + 1)
        ends = np.bincount(first + length + 1, minlength=self._entries + 1)
        return np.cumsum(begins - ends)[: self._entries].astype(np.uint64)
