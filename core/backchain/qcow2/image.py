"""A qcow2 file opened for reading: its L1 table, and the runs of any stretch of its guest disk.

Every offset read from the file is checked against the file's length before it is used.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import ImageError, MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2 import refcounts
from backchain.qcow2.compression import decompress
from backchain.qcow2.tables import Decoder, Workspace, compressed_extent, native, read_entries
from backchain.raw import data_extents, holds_less, is_hole
from backchain.runs import Runs, RunState, coalesce, split_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.header import Header

_DECODED_TABLE_BYTES = 256 * 1024
"""Bytes of L2 tables that are decoded at once; see `backchain.qcow2.tables`."""

_WINDOW_TABLE_BYTES = 8 * _DECODED_TABLE_BYTES
"""Bytes of L2 tables whose runs make a window: what is done with them takes as long for some thousand as for a few."""

_MARKED_AT_ONCE = 32768
"""Runs that are compared with the file's holes at once."""

_L1_AT_ONCE = 4096
"""L1 entries that are looked at together for the next one that is in use."""

NOWHERE = 1 << 63
"""A guest offset behind every disk: what `Qcow2File.next_used` gives when nothing follows."""


class Qcow2File:
    """An open qcow2 file. It does not own the descriptor.

    Attributes:
        descriptor: File descriptor, open for reading at least.
        header: The parsed header.
        file_size: Length of the file in bytes when it was opened.
        l1: uint64, shape (header.l1_size,): the L1 table in native byte order.
    """

    def __init__(self, descriptor: int, header: Header, file_size: int, workspace: Workspace | None = None) -> None:
        """Read the L1 table; `workspace` is shared with files that are read in turn with this one, None takes its own.

        Raises:
            MalformedImageError: It is cut short, or names an L2 table twice: a small file could then stand for
                petabytes of data.
        """
        self.descriptor = descriptor
        self.header = header
        self.file_size = file_size
        self.l1 = self._read_l1()
        self._sparse_tables = holds_less(descriptor, self._count_tables() * header.cluster_size)
        self._unused: tuple[int, int] | None = None
        self._workspace = workspace or Workspace()
        self._decoder = Decoder(header, self._workspace)
        self._holes: bool | None = None

    def _count_tables(self) -> int:
        """Give the number of L2 tables.

        Raises:
            MalformedImageError: One is named twice.
        """
        tables = self.l1[self.l1 != 0] & np.uint64(fmt.OFFSET_MASK)
        tables = tables[tables != 0]
        tables.sort()
        if (tables[1:] == tables[:-1]).any():
            raise MalformedImageError("the L1 table names an L2 table twice; run qemu-img check on it")
        return len(tables)

    def _read_l1(self) -> NDArray[np.uint64]:
        """Read the L1 table; of one that is larger than the file takes on the disk, only what is not a hole."""
        offset, length = self.header.l1_table_offset, self.header.l1_size * 8
        if not holds_less(self.descriptor, length):
            return read_entries(self._read(offset, length, "L1 table"))
        l1 = np.zeros(self.header.l1_size, np.uint64)  # memory that is not written to costs none
        self._require_inside(offset, length, "L1 table")
        for start, end in data_extents(self.descriptor, offset, offset + length):
            first, last = (start - offset) // 8, -(-(end - offset) // 8)
            l1[first:last] = read_entries(self._read(offset + first * 8, (last - first) * 8, "L1 table"))
        return l1

    @property
    def window_bytes(self) -> int:
        """Guest bytes that are best read at once; fewer with subclusters, of which each may be a run."""
        tables = _WINDOW_TABLE_BYTES // (16 if self.header.extended_l2 else 1)
        return max(tables // self.header.l2_entry_size, 1) * self.header.cluster_size

    def next_used(self, start: int) -> int:
        """Give the guest offset, `start` or above, from which on an L2 table may hold anything, or `NOWHERE`."""
        if self._unused is None or not self._unused[0] <= start <= self._unused[1]:
            self._unused = (start, max(start, self._next_table(start)))
        return self._unused[1]

    def _next_table(self, start: int) -> int:
        """Give the guest offset at which the first L2 table begins that maps `start` or more and is no hole."""
        span = self.header.cluster_size * self.header.l2_entries
        here = start // span
        if here < len(self.l1) and (offset := int(self.l1[here]) & fmt.OFFSET_MASK) and not self._empty_table(offset):
            return here * span  # mostly so, and looked up at once
        for low in range(here, len(self.l1), _L1_AT_ONCE):
            offsets = self.l1[low : low + _L1_AT_ONCE] & np.uint64(fmt.OFFSET_MASK)
            for index in np.flatnonzero(offsets).tolist():
                if not self._empty_table(int(offsets[index])):
                    return (low + index) * span
        return NOWHERE

    def forget(self) -> None:
        """Look at the tables anew when next asked: they were written to."""
        self._unused = None

    def _empty_table(self, offset: int) -> bool:
        """Whether the L2 table at host `offset` lies in a hole: not asked of files that can hold all their tables."""
        end = offset + self.header.cluster_size
        return self._sparse_tables and end <= self.file_size and is_hole(self.descriptor, offset, end)

    def stored_entries(self, l1: NDArray[np.uint64] | None = None) -> Iterator[NDArray[np.uint64]]:
        """Yield the entries of every L2 table that may hold anything, those of some neighbours at a time.

        They are uint64, big-endian as the file has them, without the bitmaps of extended L2 entries; the memory is
        used again for those that follow.

        Args:
            l1: Another L1 table of the file, uint64; None takes that of the active image.

        Raises:
            MalformedImageError: A table lies outside of the file.
        """
        l1 = self.l1 if l1 is None else l1
        per_table, width = self.header.l2_entries, self.header.l2_entry_size // 8
        at_once = max(_DECODED_TABLE_BYTES // self.header.cluster_size, 1)
        for low in range(0, len(l1), _L1_AT_ONCE):
            for tables in self._groups(l1, low, low + _L1_AT_ONCE):
                for n in range(0, len(tables), at_once):
                    part = range(tables[n], tables[min(n + at_once, len(tables)) - 1] + 1)
                    yield self._read_group(l1, part, part.start * per_table, part.stop * per_table)[::width]

    def runs(self, start: int, end: int) -> Runs:
        """Give this image's own runs over the guest range [start, end) in bytes (`end` at most the virtual size).

        Raises:
            MalformedImageError: A table or a cluster lies outside of the file.
        """
        header = self.header
        size, per_table = header.cluster_size, header.l2_entries
        low, high = start // size, -(-end // size)
        parts: list[Runs] = []
        position = start
        for tables in self._groups(self.l1, low // per_table, -(-high // per_table)):
            first, last = max(low, tables[0] * per_table), min(high, (tables[-1] + 1) * per_table)
            if first * size > position:
                parts.append(Runs.one(position, first * size, RunState.UNALLOCATED))
            parts += self._decoder.decode(self._chunks(first, last), first * size, last * size, self.file_size)
            position = last * size
        if position < end:
            parts.append(Runs.one(position, end, RunState.UNALLOCATED))
        runs = parts[0] if len(parts) == 1 else coalesce(Runs.join(parts))
        if int(runs.start[0]) != start or runs.end != end:
            runs = runs.clip(start, end)
        if not self._preallocated():
            return runs
        return coalesce(Runs.join(self._mark_holes(part) for part in runs.parts(_MARKED_AT_ONCE)))

    def _chunks(self, first: int, last: int) -> Iterator[NDArray[np.uint64]]:
        """Read the entries of guest clusters [first, last), which have L2 tables, so many as are decoded at once."""
        per_table, at_once = self.header.l2_entries, _DECODED_TABLE_BYTES // self.header.l2_entry_size
        for begin in range(first, last, at_once):
            stop = min(begin + at_once, last)
            yield self._read_group(self.l1, range(begin // per_table, -(-stop // per_table)), begin, stop)

    def _groups(self, l1: NDArray[np.uint64], first: int, last: int) -> list[list[int]]:
        """Give the L1 indices in [first, last) that name an L2 table which may hold anything, neighbours together."""
        offsets = l1[first:last] & np.uint64(fmt.OFFSET_MASK)
        groups: list[list[int]] = []
        for index in (np.flatnonzero(offsets) + first).tolist():
            if self._sparse_tables and self._empty_table(int(offsets[index - first])):
                continue
            if groups and groups[-1][-1] == index - 1:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _read_group(self, l1: NDArray[np.uint64], tables: range, first: int, last: int) -> NDArray[np.uint64]:
        """Read the entries of guest clusters [first, last), which lie in neighbouring L2 tables.

        Tables that are neighbours in the file too are read at once, into memory that the next call uses again.

        Returns:
            uint64, shape (last - first,), or twice that with extended L2 entries: big-endian, as the file has them.
        """
        header = self.header
        width, per_table = header.l2_entry_size, header.l2_entries
        need = (last - first) * width
        table = self._workspace.table(need)
        view = table.data
        done = 0
        reads: list[list[int]] = []
        for index in tables:
            offset = int(l1[index]) & fmt.OFFSET_MASK
            if offset % header.cluster_size:
                raise MalformedImageError(f"the L2 table at {offset:#x} is not aligned to a cluster")
            begin = max(first - index * per_table, 0) * width
            length = (min(last - index * per_table, per_table)) * width - begin
            if reads and reads[-1][0] + reads[-1][2] == offset + begin:
                reads[-1][2] += length
            else:
                reads.append([offset + begin, done, length])
            done += length
        for position, at, length in reads:
            self._require_inside(position, length, "L2 table")
            got = os.preadv(self.descriptor, [view[at : at + length]], position)
            if got < length:  # a file may end inside of its last sector
                view[at + got : at + length] = bytes(length - got)
        return table.view(np.uint64)

    def l2_entries(self, offset: int, first: int, last: int) -> NDArray[np.uint64]:
        """Read entries `first` up to `last` (excluded) of the L2 table at host `offset`.

        Returns:
            uint64, shape (last - first,), or twice that with extended L2 entries.
        """
        if offset % self.header.cluster_size:
            raise MalformedImageError(f"the L2 table at {offset:#x} is not aligned to a cluster")
        size = self.header.l2_entry_size
        return read_entries(self._read(offset + first * size, (last - first) * size, "L2 table"))

    def entries_of(self, clusters: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64] | None]:
        """Give the raw L2 entries of some guest clusters (ascending numbers), zeros where there is no table.

        Returns:
            Entries, uint64, shape (len(clusters),), and subcluster bitmaps of the same shape, or None without extended
            L2 entries.
        """
        entries = native(self._stored_of(clusters))
        return (entries[0::2], entries[1::2]) if self.header.extended_l2 else (entries, None)

    def runs_of(self, clusters: NDArray[np.int64]) -> Runs:
        """Give the runs of the disk that some guest clusters (ascending numbers) make when they are put together.

        Raises:
            MalformedImageError: A table or a cluster lies outside of the file.
        """
        end = len(clusters) * self.header.cluster_size
        return Runs.join(self._decoder.decode((self._stored_of(clusters),), 0, end, self.file_size))

    def _stored_of(self, clusters: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Read the L2 entries of some guest clusters (ascending numbers), zeros where there is no table.

        Returns:
            uint64, shape (len(clusters),), or twice that with extended L2 entries: big-endian, as the file has them.
        """
        header = self.header
        width = header.l2_entry_size // 8
        entries = np.zeros((len(clusters), width), np.uint64)
        table = clusters // header.l2_entries
        edges = np.flatnonzero(np.diff(table)) + 1
        for low, high in pairwise((0, *edges.tolist(), len(clusters))):
            index = int(table[low]) if high > low else 0
            offset = int(self.l1[index]) & fmt.OFFSET_MASK if high > low and index < len(self.l1) else 0
            if offset and not self._empty_table(offset):
                part, first = clusters[low:high], int(clusters[low])
                stored = self._read_group(self.l1, range(index, index + 1), first, int(part[-1]) + 1)
                entries[low:high] = stored.reshape(-1, width)[part - first]
        return entries.reshape(-1)

    def read_compressed(self, entry: int) -> bytes:
        """Decompress the cluster that a compressed L2 entry names.

        Returns:
            One cluster of guest data.

        Raises:
            MalformedImageError: The data does not decompress to one cluster.
        """
        offset, length = compressed_extent(entry, self.header.cluster_bits)
        packed = os.pread(self.descriptor, length, offset)
        try:
            data = decompress(packed, self.header.cluster_size, self.header.compression_type)
        except ValueError as error:
            raise MalformedImageError(f"the compressed cluster at {offset:#x} does not decompress") from error
        if len(data) != self.header.cluster_size:
            raise MalformedImageError(f"the compressed cluster at {offset:#x} is cut short")
        return data

    def _read(self, offset: int, length: int, what: str) -> bytes:
        self._require_inside(offset, length, what)
        data = os.pread(self.descriptor, length, offset)
        return data + bytes(length - len(data))

    def _require_inside(self, offset: int, length: int, what: str) -> None:
        # A file may end inside of its last sector; the rest of that sector reads as zeros.
        if length and offset + length > -(-self.file_size // fmt.SECTOR) * fmt.SECTOR:
            raise MalformedImageError(f"the {what} at {offset:#x} lies outside of the file")

    def _preallocated(self) -> bool:
        """Whether clusters may be allocated though the file has holes there (``preallocation=metadata``).

        QEMU decides by comparing the clusters in use with what the file system has allocated
        (``qcow2_detect_metadata_preallocation``), so that the same images are looked at. As there, one whose refcounts
        are damaged can be read, and counts as not preallocated.
        """
        if self._holes is None:
            allocated = os.fstat(self.descriptor).st_blocks * 512 // self.header.cluster_size
            threshold = max(allocated * 10 // 9, allocated + 2)
            try:
                self._holes = -(-self.file_size // self.header.cluster_size) >= threshold and (
                    refcounts.count_used(self.descriptor, self.header, self.file_size, threshold) >= threshold
                )
            except ImageError:
                self._holes = False
        return self._holes

    def _mark_holes(self, runs: Runs) -> Runs:
        """Turn the parts of data runs over which the file has a hole into `RunState.DATA_HOLE`."""
        data = np.flatnonzero(runs.state == RunState.DATA)
        if not len(data):
            return runs
        guest, host = runs.start[data], runs.host[data]
        end = host + runs.length[data]
        stored = self._stored_parts(host, end)
        edges = stored.ravel()
        low, high = np.searchsorted(edges, host, "right"), np.searchsorted(edges, end, "left")
        inside = np.flatnonzero(high > low)
        columns = (c[inside].tolist() for c in (guest - host, low, high))
        cuts = [edges[first:last] + shift for shift, first, last in zip(*columns, strict=True)]
        pieces = split_at(runs, np.concatenate(cuts)) if cuts else runs
        part = np.searchsorted(edges, pieces.host, "right")  # odd inside of what is stored
        state = np.where((pieces.state == RunState.DATA) & (part % 2 == 0), np.uint8(RunState.DATA_HOLE), pieces.state)
        return Runs(pieces.start, state, pieces.layer, pieces.host, pieces.end)

    def _stored_parts(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the stretches of the file that hold data, as far as they matter to some ranges of it.

        The file is asked once for each stretch or for each range, whichever are fewer.

        Args:
            start: int64, shape (n,): where each range begins, in bytes.
            end: int64, shape (n,): where it ends.

        Returns:
            int64, shape (stretches, 2): start and end in bytes, ascending and apart.
        """
        order = np.argsort(start, kind="stable")
        start, end = start[order], np.maximum.accumulate(end[order])
        parts: list[tuple[int, int]] = []
        index, place = 0, 0
        while index < len(start):
            place = max(place, int(start[index]))
            part = next(data_extents(self.descriptor, place, self.file_size), None)
            if part is None:
                break
            parts.append(part)
            place = part[1]
            index = int(np.searchsorted(end, place, "right"))
        return np.array(parts, np.int64).reshape(-1, 2)
