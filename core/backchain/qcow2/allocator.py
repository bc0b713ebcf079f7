"""Host clusters given out and taken back: refcounts in memory first, on disk in an order that only ever leaks.

Nothing is written before `write_blocks`. Increments may reach the disk at any time before a cluster is linked;
decrements must not before it has been unlinked and flushed. The caller keeps that order (`backchain.qcow2.writer`).
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.hostfile import punch_hole, write_all
from backchain.qcow2 import format as fmt
from backchain.qcow2.refcounts import (
    Counts,
    counts_dtype,
    encode_block,
    read_block,
    read_table,
    stored_blocks,
)
from backchain.raw import data_extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.header import Header

_SECTOR_ENTRIES = fmt.SECTOR // 8
_CLEAN_BLOCKS_KEPT = 64
_PUNCHED_AT_ONCE = 65536


class Allocator:
    """The refcounts of one open qcow2 file.

    Attributes:
        allocated: Host clusters given out so far, metadata of the refcounts included.
        end: Number of the first host cluster after the file's last.
        table: uint64: the refcount table, host offsets of the blocks in bytes.
    """

    def __init__(self, descriptor: int, header: Header, file_size: int) -> None:
        """Read the refcount table.

        Raises:
            MalformedImageError: The table is damaged.
        """
        self._descriptor = descriptor
        self._header = header
        self._entries = header.refcount_block_entries
        self.table = read_table(descriptor, header, file_size)
        self._table_offset = header.refcount_table_offset
        self._table_clusters = header.refcount_table_clusters
        self._blocks: dict[int, Counts] = {}
        self._dirty: set[int] = set()
        self._unlinked: set[int] = set()
        self._moved_from: list[tuple[int, int]] = []
        self._scan = 0
        self.end = max(-(-file_size // header.cluster_size), self._last_used() + 1)
        self._scan_end = self.end
        self.allocated = 0

    def allocate(self, count: int) -> NDArray[np.int64]:
        """Give `count` host clusters with refcount 1: free ones inside of the file first, then new ones at its end.

        Returns:
            int64, shape (count,): host cluster numbers, ascending.
        """
        parts: list[NDArray[np.int64]] = []
        rest = count
        while rest and self._scan < self._scan_end:
            free = self._free_in_block(rest)
            parts.append(free)
            rest -= len(free)
        if rest:
            parts.append(self._append(rest))
        clusters = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        self._mark_used(clusters)
        return clusters

    def allocate_adjacent(self, count: int) -> int:
        """Give `count` adjacent host clusters at the end of the file; returns the first one's number."""
        clusters = self._append(count)
        self._mark_used(clusters)
        return int(clusters[0])

    def release(self, clusters: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take one reference from each host cluster (a cluster may be named more than once).

        Returns:
            int64: the clusters that nothing uses any more, ascending.

        Raises:
            MalformedImageError: A refcount would fall below zero.
        """
        freed: list[NDArray[np.int64]] = []
        ordered = np.sort(clusters, kind="stable")  # mostly they are in order: then it is one pass
        first = np.flatnonzero(np.append(np.ones(1, bool), ordered[1:] != ordered[:-1]))[: len(ordered)]
        unique, times = ordered[first], np.diff(first, append=len(ordered))
        for index, part in self._by_block(unique):
            block, mine, drop = self._block(index), unique[part], times[part]
            inside = mine - index * self._entries
            before = block[inside]
            if (before < drop).any():
                raise MalformedImageError("a refcount is lower than the references to its cluster")
            block[inside] = before - drop.astype(block.dtype)
            self._dirty.add(index)
            freed.append(mine[before == drop])
        return np.concatenate(freed) if freed else np.zeros(0, np.int64)

    def _by_block(self, ascending: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
        """Yield the number of each refcount block that counts some of the clusters, and where these are."""
        block = ascending // self._entries
        edges = np.flatnonzero(block[1:] != block[:-1]) + 1
        bounds = [0, *edges.tolist(), len(ascending)] if len(ascending) else []
        for low, high in pairwise(bounds):
            yield int(block[low]), slice(low, high)

    @property
    def table_place(self) -> tuple[int, int]:
        """Host offset in bytes, and length in clusters, of the refcount table."""
        return self._table_offset, self._table_clusters

    @property
    def needs_link(self) -> bool:
        """Whether new refcount blocks or a new table wait for `link_blocks`."""
        return bool(self._unlinked or self._moved_from)

    def write_blocks(self) -> None:
        """Write all changed refcount blocks, and a moved refcount table; what is new is not linked yet.

        Raises:
            OSError: A write failed.
        """
        for index in sorted(self._dirty):
            data = encode_block(self._blocks[index], self._header.refcount_bits)
            write_all(self._descriptor, data, int(self.table[index]))
        self._dirty.clear()
        if self._moved_from:
            write_all(self._descriptor, self.table.astype(">u8").tobytes(), self._table_offset)
        if len(self._blocks) > _CLEAN_BLOCKS_KEPT and not self._unlinked:
            self._blocks.clear()

    def link_blocks(self) -> None:
        """Link new refcount blocks, or the moved table; what they hold must have been flushed.

        A new block lies at the end of the file as it was then, so that it is counted by itself or by one behind it:
        the last are linked first, a sector of the table at a time, as a sector is written as a whole or not at all.

        Raises:
            OSError: A write failed.
        """
        if self._moved_from:
            fields = struct.pack(">QI", self._table_offset, self._table_clusters)
            write_all(self._descriptor, fields, fmt.REFTABLE_FIELDS_OFFSET)
        else:
            for number, sector in enumerate(sorted({i // _SECTOR_ENTRIES for i in self._unlinked}, reverse=True)):
                if number:
                    os.fdatasync(self._descriptor)
                entries = self.table[sector * _SECTOR_ENTRIES : (sector + 1) * _SECTOR_ENTRIES]
                write_all(self._descriptor, entries.astype(">u8").tobytes(), self._table_offset + sector * fmt.SECTOR)
        self._unlinked.clear()

    def take_old_table(self) -> NDArray[np.int64]:
        """Give the host clusters of refcount tables that were moved away from, once; they are to be released."""
        places = [np.arange(first, first + count, dtype=np.int64) for first, count in self._moved_from]
        self._moved_from.clear()
        return np.concatenate([np.zeros(0, np.int64), *places])

    def punch(self, freed: NDArray[np.int64]) -> None:
        """Give freed host clusters (ascending numbers) back to the file system, in runs."""
        for low in range(0, len(freed), _PUNCHED_AT_ONCE):
            self._punch(freed[low : low + _PUNCHED_AT_ONCE])

    def _punch(self, freed: NDArray[np.int64]) -> None:
        size = self._header.cluster_size
        edges = np.flatnonzero(np.diff(freed) != 1) + 1
        first = freed[np.concatenate((np.zeros(1, np.int64), edges))] * size
        last = freed[np.concatenate((edges - 1, np.array([len(freed) - 1])))] * size + size
        end, data = int(last[-1]), 0
        for low, high in zip(first.tolist(), last.tolist(), strict=True):
            if data < low:  # what is a hole already, as after preallocation, is passed over
                data = next((d for d, _ in data_extents(self._descriptor, low, end)), end)
            if data < high:
                punch_hole(self._descriptor, low, high - low)

    def used_end(self) -> int:
        """Give the number of the host cluster after the last one in use."""
        return self._last_used() + 1

    def _last_used(self) -> int:
        on_disk = stored_blocks(self._descriptor, self._header, self.table)
        for index in sorted({*self._blocks, *on_disk}, reverse=True):
            counts = self._blocks.get(index)
            if counts is None:  # not kept: there may be many, and only the last that counts anything is needed
                counts = read_block(self._descriptor, self._header, int(self.table[index]))
            used = np.flatnonzero(counts)
            if len(used):
                return int(index) * self._entries + int(used[-1])
        return 0

    def _free_in_block(self, wanted: int) -> NDArray[np.int64]:
        """Give up to `wanted` free clusters from the block at the scan position, and move the position on."""
        index = self._scan // self._entries
        if index >= len(self.table):  # nothing is counted from here on
            self._scan = self._scan_end
            return np.zeros(0, np.int64)
        stop = min((index + 1) * self._entries, self._scan_end)
        if not self.table[index]:
            self._scan = stop
            return np.zeros(0, np.int64)
        first = index * self._entries
        block = self._blocks.get(index)
        if block is None:  # kept only where something is free: of a full disk there are thousands
            block = read_block(self._descriptor, self._header, int(self.table[index]))
        free = np.flatnonzero(block[self._scan - first : stop - first] == 0)[:wanted].astype(np.int64) + self._scan
        if len(free):
            self._blocks[index] = block
        self._scan = int(free[-1]) + 1 if len(free) == wanted else stop
        return free

    def _append(self, count: int) -> NDArray[np.int64]:
        first = self.end
        self.end += count
        return np.arange(first, first + count, dtype=np.int64)

    def _mark_used(self, clusters: NDArray[np.int64]) -> None:
        self.allocated += len(clusters)
        for index, part in self._by_block(clusters):
            self._ensure_block(index)
            self._block(index)[clusters[part] - index * self._entries] = 1
            self._dirty.add(index)

    def _block(self, index: int) -> Counts:
        """Give the counts of a block, read when first needed."""
        block = self._blocks.get(index)
        if block is None:
            if index >= len(self.table) or not self.table[index]:
                raise MalformedImageError("a cluster in use has no refcount")
            block = read_block(self._descriptor, self._header, int(self.table[index]))
            self._blocks[index] = block
        return block

    def _ensure_block(self, index: int) -> None:
        """Make sure that a block exists: a new one takes a cluster, which may be counted by the block itself."""
        if index >= len(self.table):
            self._grow_table(index + 1)
        if self.table[index]:
            return
        cluster = self._append(1)
        self.table[index] = np.uint64(int(cluster[0]) * self._header.cluster_size)
        self._blocks[index] = np.zeros(self._entries, counts_dtype(self._header.refcount_bits))
        self._unlinked.add(index)
        self._dirty.add(index)
        self._mark_used(cluster)

    def _grow_table(self, entries: int) -> None:
        """Move the refcount table to a larger place at the end of the file; the old one stays until it is linked."""
        size = self._header.cluster_size
        clusters = -(-(entries + entries // 2) * 8 // size)
        if clusters * size > fmt.MAX_REFCOUNT_TABLE_BYTES:
            clusters = fmt.MAX_REFCOUNT_TABLE_BYTES // size
            if entries * 8 > fmt.MAX_REFCOUNT_TABLE_BYTES:
                raise MalformedImageError("the image would need a refcount table larger than QEMU allows")
        self._moved_from.append((self._table_offset // size, self._table_clusters))
        table = np.zeros(clusters * size // 8, np.uint64)
        table[: len(self.table)] = self.table
        self.table = table
        place = self._append(clusters)
        self._table_offset = int(place[0]) * size
        self._table_clusters = clusters
        self._mark_used(place)
