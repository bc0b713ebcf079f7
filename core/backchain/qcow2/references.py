"""How often each host cluster of a qcow2 file is referred to, counted from the tables themselves.

The active image and its own metadata come first, then internal snapshots, bitmaps and the encryption header: what any
of them uses must not be given out, and what none of them does is leaked. Each table is read once, however many name it,
and its holes are not read, so that the work follows what is stored.

Source: sections "Host cluster management", "Snapshots", "Bitmaps" and "Full disk encryption header pointer" of QEMU's
qcow2 specification.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.bitmaps import bitmap_tables, directory_place
from backchain.qcow2.tables import compressed_extents, native, read_entries, stretches
from backchain.qcow2.tally import MOST_BYTES, Tally, UsedTwiceError, portion_of
from backchain.raw import data_extents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.qcow2.image import Qcow2File

DAMAGED = "run qemu-img check on it"
_OFFSET = np.uint64(fmt.OFFSET_MASK)
_COMPRESSED = np.uint64(fmt.OFLAG_COMPRESSED)
_COPIED = np.uint64(fmt.OFLAG_COPIED)
_LONG = 16
"""Clusters that a stretch of adjacent ones has at least, on average, to be worth a step of its own."""
_FEW = 4
"""Up to so many neighbouring portions are looked through one by one, without sorting."""
_LUKS_EXTENSION = struct.Struct(">QQ")


class References:
    """The references of one file.

    Those that claim to be a cluster's only one (OFLAG_COPIED, and metadata of the image itself) are kept apart.

    Attributes:
        tally: Their numbers, for as many clusters as memory was granted for.
    """

    def __init__(
        self, file: Qcow2File, refcount_table: NDArray[np.uint64], end: int, start: int = 0,
        most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        """Count the references of the image, of its internal snapshots, bitmaps and encryption header.

        Args:
            file: The open file.
            refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.
            end: Number of host clusters that are counted; compressed data alone may reach beyond the file's length.
            start: Number of the portion of the file's clusters to count from.
            most_bytes: What the counts may take; where that is not enough, `tally.stop` is before the end.

        Raises:
            MalformedImageError: A table refers to what is not in the file, or two to the same cluster of their own.
        """
        self._file = file
        self._size = file.header.cluster_size
        self._bits = file.header.cluster_bits
        self._end = end
        self._stored = -(-file.file_size // self._size)
        self._entries = portion_of(file.header.refcount_block_entries)
        self.tally = Tally(self._entries, start, -(-end // self._entries), most_bytes)
        header = file.header
        self._add_own(np.zeros(1, np.int64))
        self._add_own(self._span(header.l1_table_offset, header.l1_size * 8))
        self._add_own(self._span(header.refcount_table_offset, header.refcount_table_clusters * self._size))
        self._add_own(refcount_table[refcount_table != 0].astype(np.int64) // self._size)
        self._add_own(self._span(*(directory_place(header, file.file_size) or (0, 0))))
        self._add_tables(file.l1, active=True)
        luks = header.extension(fmt.EXT_LUKS)
        if luks is not None and len(luks) >= _LUKS_EXTENSION.size:
            self._add(self._span(*_LUKS_EXTENSION.unpack_from(luks)))
        self._add_snapshots()
        self._add_bitmaps()

    # --- tables ---------------------------------------------------------------------------------------------------

    def _add_tables(self, l1: NDArray[np.uint64], *, active: bool, weight: int = 1) -> None:
        """Count an L1 table's L2 tables and their clusters, each `weight` times.

        Flags are looked at in the active image's alone.
        """
        self._add_standard(l1, active=active, weight=weight)
        steps, marks = np.empty(0, np.uint64), np.empty(0, bool)
        for stored in self._file.stored_entries(l1):
            used = stored != 0
            entries = native(stored if used.all() else stored[np.flatnonzero(used)])
            if len(marks) < len(entries):
                steps, marks = np.empty(len(entries), np.uint64), np.empty(len(entries), bool)
            if len(entries):
                first, last = stretches(entries, self._size, steps, marks)
                ends = entries[np.stack((first, last))]
                if len(first) * _LONG < len(entries) and self._add_stretches(ends, active=active, weight=weight):
                    continue
            self._add_entries(entries, active=active, weight=weight)

    def _add_stretches(self, ends: NDArray[np.uint64], *, active: bool, weight: int) -> bool:
        """Count entries that go on from one to the next, as on a disk that was filled in one go; a tenth of the work.

        Args:
            ends: uint64, shape (2, n): first and last entry of each stretch.
            active: Whether they are the active image's.
            weight: How often each counts.

        Returns:
            False if they are not all data, or not all of a kind; nothing is counted then.
        """
        offset = (ends & _OFFSET).view(np.int64)
        flags = int(np.bitwise_or.reduce(ends, axis=None))
        if flags & (fmt.OFLAG_COMPRESSED | (self._size - 1)) or not offset.all():
            return False
        claimed = ends >= _COPIED  # the flag is the highest bit
        own = active and bool(claimed.all())
        if active and not own and claimed.any():
            return False
        clusters = offset >> self._bits
        if int(clusters.max()) >= self._stored:
            raise _past_the_end()
        flagged = self._flagged(clusters[0].tolist(), (clusters[1] + 1).tolist())
        if flagged is None:
            if own:
                raise _used_twice()
            return False
        for index, flags_of_portion in flagged.items():
            self._note_own(index, flags_of_portion) if own else self.tally.add(index, flags_of_portion, weight)
        return True

    def _flagged(self, starts: list[int], stops: list[int]) -> dict[int, NDArray[np.bool_]] | None:
        """Give the clusters of stretches by portion, or None where two of them overlap."""
        flagged: dict[int, NDArray[np.bool_]] = {}
        for start, stop in zip(starts, stops, strict=True):
            low = max(start // self._entries, self.tally.start)
            for index in range(low, min((stop - 1) // self._entries + 1, self.tally.stop)):
                flags = flagged.setdefault(index, np.zeros(self._entries, bool))
                part = flags[max(start - index * self._entries, 0) : stop - index * self._entries]
                if part.any():
                    return None
                part[:] = True
        return flagged

    def _add_entries(self, entries: NDArray[np.uint64], *, active: bool, weight: int) -> None:
        """Count L2 entries of any kind."""
        packed = (entries & _COMPRESSED) != 0
        if packed.any():
            self._add_compressed(entries[packed], weight)
            entries = entries[~packed]
        self._add_standard(entries, active=active, weight=weight)

    def _add_standard(self, entries: NDArray[np.uint64], *, active: bool, weight: int) -> None:
        offset = (entries & _OFFSET).view(np.int64)
        if int(np.bitwise_or.reduce(offset, initial=0)) & (self._size - 1):
            raise MalformedImageError(f"the image has a table entry that is not aligned to a cluster; {DAMAGED}")
        named = offset != 0
        own = named & (entries >= _COPIED) if active else np.zeros(len(entries), bool)  # the flag is the highest bit
        offset >>= self._bits
        if int(offset.max(initial=0)) >= self._stored:
            raise _past_the_end()
        self._add_own(offset[own])
        self._add(offset[named & ~own], weight)

    def _add_compressed(self, entries: NDArray[np.uint64], weight: int) -> None:
        """Count the clusters that compressed data touches; a file may end amid the last of them."""
        start, length = compressed_extents(entries, self._file.header.cluster_bits)
        first, last = start // self._size, (start + length - 1) // self._size
        for step in range(int((last - first).max(initial=0)) + 1):
            self._add((first + step)[first + step <= last], weight)

    # --- the rest -------------------------------------------------------------------------------------------------

    def _add_snapshots(self) -> None:
        header = self._file.header
        position = header.snapshots_offset
        places: list[tuple[int, int]] = []
        for _ in range(header.nb_snapshots):
            fixed = self._read(position, fmt.SNAPSHOT_HEADER.size, "snapshot table")
            l1_offset, l1_size, id_size, name_size, _, _, _, _, extra = fmt.SNAPSHOT_HEADER.unpack(fixed)
            if l1_size * 8 > fmt.MAX_L1_BYTES:
                raise MalformedImageError(f"an internal snapshot has an L1 table that is too large; {DAMAGED}")
            places.append((l1_offset, l1_size * 8))
            position += -(-(fmt.SNAPSHOT_HEADER.size + extra + id_size + name_size) // 8) * 8
        if not places:
            return
        self._add(self._span(header.snapshots_offset, position - header.snapshots_offset))
        tables = np.sort(self._named_by(places, "snapshot's L1 table"))
        if not len(tables):
            return
        begins = np.flatnonzero(np.append(True, tables[1:] != tables[:-1]))
        weights = np.diff(np.append(begins, len(tables)))  # several snapshots may have an L2 table in common
        for weight in _distinct(weights):
            self._add_tables(tables[begins[weights == weight]], active=False, weight=weight)

    def _add_bitmaps(self) -> None:
        header = self._file.header
        place = directory_place(header, self._file.file_size)
        if place is None:
            return
        offset, size = place
        count, *_ = fmt.BITMAPS_EXTENSION.unpack_from(header.extension(fmt.EXT_BITMAPS) or b"")
        directory = self._read(offset, size, "bitmap directory")
        places = [(table, entries * 8) for table, entries in bitmap_tables(directory, count)]
        self._add(self._named_by(places, "bitmap table").view(np.int64) >> self._bits)

    def _named_by(self, places: Sequence[tuple[int, int]], what: str) -> NDArray[np.uint64]:
        """Count the clusters of tables, and give what their entries name: uint64, host offsets in bytes.

        Args:
            places: Offset and length of each table in bytes.
            what: What such a table is called.

        Raises:
            MalformedImageError: A table lies outside of the file, or two of them overlap.
        """
        found = [np.zeros(0, np.uint64)]
        end = 0
        for offset, length in sorted(p for p in places if p[1]):
            if offset < end or offset % self._size:
                raise MalformedImageError(f"the {what} at {offset:#x} lies amid another or amid a cluster; {DAMAGED}")
            end = offset + length
            self._add(self._span(offset, length))
            for start, data_end in data_extents(self._file.descriptor, offset, end):
                stop = min(-(-data_end // 8) * 8, end)  # a file may end amid a word
                words = read_entries(self._read(start, stop - start, what)) & _OFFSET
                found.append(words[words != 0])
        return np.concatenate(found)

    # --- counting -------------------------------------------------------------------------------------------------

    def _span(self, offset: int, length: int) -> NDArray[np.int64]:
        """Give the host clusters of a range of bytes."""
        if offset + length > self._stored * self._size:
            raise _past_the_end()
        return np.arange(offset // self._size, -(-(offset + length) // self._size), dtype=np.int64)

    def _add_own(self, clusters: NDArray[np.int64]) -> None:
        """Take down references of which each claims to be its cluster's only one."""
        for index, inside in self._by_portion(clusters):
            flags = np.zeros(self._entries, bool)
            flags[inside] = True
            if int(np.count_nonzero(flags)) != len(inside):
                raise _used_twice()
            self._note_own(index, flags)

    def _note_own(self, index: int, flags: NDArray[np.bool_]) -> None:
        """Take down which clusters of a portion are claimed."""
        try:
            self.tally.add_own(index, flags)
        except UsedTwiceError:
            raise _used_twice() from None

    def _add(self, clusters: NDArray[np.int64], weight: int = 1) -> None:
        """Count references that may share their cluster, each `weight` times."""
        for index, inside in self._by_portion(clusters):
            flags = np.zeros(self._entries, bool)
            flags[inside] = True
            if int(np.count_nonzero(flags)) == len(inside):
                self.tally.add(index, flags, weight)
            else:
                self.tally.add_numbers(index, np.bincount(inside, minlength=self._entries), weight)

    def _by_portion(self, clusters: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (number of a portion, places in it) for each that is due and has some of the clusters."""
        if not len(clusters):
            return
        low, high = int(clusters.min()), int(clusters.max())
        if high >= self._end:
            raise _past_the_end()
        first, last = low // self._entries, high // self._entries
        if last < self.tally.start or first >= self.tally.stop:
            return
        portion = clusters // self._entries
        for index in range(first, last + 1) if last - first < _FEW else _distinct(portion):
            inside = clusters[portion == index] if first != last else clusters
            if len(inside) and self.tally.start <= index < self.tally.stop:
                yield index, inside - index * self._entries

    def _read(self, offset: int, length: int, what: str) -> bytes:
        if offset + length > -(-self._file.file_size // fmt.SECTOR) * fmt.SECTOR:
            raise MalformedImageError(f"the {what} at {offset:#x} lies outside of the file; {DAMAGED}")
        data = os.pread(self._file.descriptor, length, offset)
        return data + bytes(length - len(data))


def _used_twice() -> MalformedImageError:
    return MalformedImageError(f"the image refers to clusters more often than it counts them; {DAMAGED}")


def _past_the_end() -> MalformedImageError:
    return MalformedImageError(f"the image refers to clusters past the end of its file; {DAMAGED}")


def _distinct(numbers: NDArray[np.int64]) -> list[int]:
    """Give the distinct ones; numpy's own function for it loads its masked arrays, which takes 10 ms."""
    ordered = np.sort(numbers)
    distinct: list[int] = ordered[np.append(True, ordered[1:] != ordered[:-1])].tolist()
    return distinct
