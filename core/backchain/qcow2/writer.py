"""A qcow2 file opened for writing: L2 and L1 entries, size, backing link, all in an order that survives a kill.

A batch goes: guest data into clusters nobody reads yet; refcounts and new L2 tables; flush; links to new refcount
blocks; flush; existing L2 tables and L1 entries; flush; then, and only then, references that were dropped. Killed
anywhere in between, the file holds leaked clusters at worst (qcow2 specification, "Host cluster management").
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError, UnsupportedImageError
from backchain.hostfile import write_all
from backchain.qcow2 import format as fmt
from backchain.qcow2.allocator import Allocator
from backchain.qcow2.bitmaps import directory_place, marked_in_use
from backchain.qcow2.check import check_references, leaked
from backchain.qcow2.header import parse_header
from backchain.qcow2.image import Qcow2File
from backchain.qcow2.tables import compressed_extents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.decisions import TableChange
    from backchain.qcow2.header import Header

_COPIED = np.uint64(fmt.OFLAG_COPIED)
_OFFSET = np.uint64(fmt.OFFSET_MASK)


@dataclass(slots=True)
class _TableWrite:
    """Entries to be written into one L2 table: `words` (uint64) from word `first` on."""

    l1_index: int
    offset: int
    first: int
    words: NDArray[np.uint64]
    fresh: bool


def require_writable(header: Header) -> None:
    """Refuse what is read but not written here.

    Raises:
        UnsupportedImageError: The image is dirty, corrupt, or has a feature that is not written.
    """
    others = header.incompatible_features & ~(fmt.INCOMPAT_COMPRESSION | fmt.INCOMPAT_EXTL2)
    if others:
        raise UnsupportedImageError(f"incompatible features {others:#x} are not written")


class Qcow2Writer:
    """Writes one qcow2 file; `descriptor` must be open for reading and writing and hold QEMU's locks.

    Attributes:
        file: The same file for reading; its L1 table is kept up to date.
        header: The header as it is on disk.
        allocator: The refcounts.
    """

    def __init__(self, descriptor: int, header: Header) -> None:
        """Read L1 and refcount tables.

        Raises:
            MalformedImageError: The file is damaged.
        """
        self._descriptor = descriptor
        self.header = header
        size = self._file_size = os.fstat(descriptor).st_size
        self.file = Qcow2File(descriptor, header, size)
        self.allocator = Allocator(descriptor, header, size)
        self._tables: list[_TableWrite] = []
        self._dropped: list[NDArray[np.int64]] = []
        self._amid = False
        self._freed = False  # whether something was given back since the last flush

    def check(self) -> None:
        """Make sure that references and refcounts agree, before clusters are written in place, given out or freed.

        Raises:
            MalformedImageError: They do not.
        """
        check_references(self.file, self.allocator.table, self.allocator.end)

    def release_leaks(self) -> int:
        """Give back the clusters that are counted though nothing refers to them, as a killed run leaves them.

        Returns:
            Number of clusters that were leaked.

        Raises:
            MalformedImageError: The image is damaged; nothing was written.
            UnsupportedImageError: Not all that may refer to clusters is known; nothing was written.
            OSError: A write failed.
        """
        clusters = leaked(self.file, self.allocator.table, self.allocator.end)
        if len(clusters):
            self._dropped.append(clusters)
            self._release_dropped()
        self.finish()
        return len(np.unique(clusters))

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        os.fdatasync(self._descriptor)
        self._freed = False

    # --- a batch of clusters --------------------------------------------------------------------------------------

    def place(self, change: TableChange) -> NDArray[np.int64]:
        """Allocate what a window needs and prepare its L2 entries; nothing is written.

        Args:
            change: The window's entries; `new` gets the host offsets of fresh clusters.

        Returns:
            int64, shape (clusters of the change,): host offset in bytes of each guest cluster, 0 where there is none.
        """
        fresh = np.flatnonzero(change.fresh)
        hosts = self.allocator.allocate(len(fresh)) * self.header.cluster_size
        change.new[fresh] = hosts.astype(np.uint64) | _COPIED
        self._drop(change.old[change.dropped])
        changed = np.flatnonzero(change.changed)
        table = change.clusters[changed] // self.header.l2_entries
        for rows in np.split(changed, np.flatnonzero(np.diff(table)) + 1):
            if len(rows):
                self._prepare_table(change, rows)
        standard = (change.new & np.uint64(fmt.OFLAG_COMPRESSED)) == 0
        return np.where(standard, (change.new & _OFFSET).astype(np.int64), 0)

    def _prepare_table(self, change: TableChange, rows: NDArray[np.int64]) -> None:
        """Prepare the entries `rows` of a change, which all belong to one L2 table."""
        header = self.header
        width = header.l2_entry_size // 8
        index = int(change.clusters[rows[0]]) // header.l2_entries
        inside = change.clusters[rows] - index * header.l2_entries
        pending = next((t for t in self._tables if t.fresh and t.l1_index == index), None)
        if pending is not None:  # a table that spans several windows of one batch
            _put_entries(pending.words, inside, change, rows, width)
            return
        entry = int(self.file.l1[index])
        offset = entry & fmt.OFFSET_MASK
        if offset and entry & fmt.OFLAG_COPIED:
            low, high = int(inside[0]), int(inside[-1]) + 1
            words = self.file.l2_entries(offset, low, high)  # entries between those that change are written as they are
            _put_entries(words, inside - low, change, rows, width)
            self._tables.append(_TableWrite(index, offset, low * width, words, fresh=False))
            return
        table = np.zeros(header.cluster_size // 8, np.uint64)
        if offset:  # shared with an internal snapshot: the active image gets a table of its own
            table[:] = self.file.l2_entries(offset, 0, header.l2_entries)
            self._dropped.append(np.array([offset // header.cluster_size], np.int64))
        _put_entries(table, inside, change, rows, width)
        place = int(self.allocator.allocate(1)[0]) * header.cluster_size
        self._tables.append(_TableWrite(index, place, 0, table, fresh=True))

    @property
    def pending_tables(self) -> int:
        """Number of changes of L2 tables that wait for `commit_batch`."""
        return len(self._tables)

    def commit_batch(self) -> None:
        """Make the batch valid on disk, in the order that the module's docstring sets out.

        Raises:
            OSError: A write or a flush failed; the image reads as before or as after.
        """
        self._amid = True
        self._extend()
        for table in self._tables:
            if table.fresh:
                write_all(self._descriptor, table.words.astype(">u8").tobytes(), table.offset)
        self._write_refcounts()
        if self._tables:
            self._link_tables()
        self._release_dropped()
        self._amid = False

    def abandon_batch(self) -> None:
        """Forget what was prepared since the last commit; the file is cut back to what is in use.

        Where a commit has failed amid its writes, what the file says now is read again, and clusters that it counts in
        vain are given back.

        Raises:
            ImageError: It cannot be told which these are; they stay leaked.
            OSError: A write failed once more; likewise.
        """
        self._tables.clear()
        self._dropped.clear()
        size = os.fstat(self._descriptor).st_size
        if self._amid:  # the header may name another refcount table than before
            self.header = parse_header(os.pread(self._descriptor, self.header.cluster_size, 0), size)
            self.file = Qcow2File(self._descriptor, self.header, size)
        self.allocator = Allocator(self._descriptor, self.header, size)
        if self._amid:
            self.release_leaks()
        else:
            self._cut(self._file_size)

    def finish(self) -> None:
        """Give back what lies behind the last cluster in use; what was given back is on the disk then."""
        self._cut()
        if self._freed:
            self.flush()

    # --- the image as a whole -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Clear autoclear bits that are not known here, as the specification demands of whoever writes an image."""
        if self.header.autoclear_features & ~fmt.AUTOCLEAR_KNOWN:
            known = self.header.autoclear_features & fmt.AUTOCLEAR_KNOWN
            write_all(self._descriptor, struct.pack(">Q", known), fmt.AUTOCLEAR_OFFSET)
            self.header = replace(self.header, autoclear_features=known)
            self.flush()

    def mark_bitmaps_in_use(self) -> None:
        """Mark persistent dirty bitmaps as inconsistent, because writes that follow are not recorded in them.

        Raises:
            MalformedImageError: The bitmap directory is damaged.
        """
        place = directory_place(self.header, self.file.file_size)
        if place is None:
            return
        offset, size = place
        count, *_ = fmt.BITMAPS_EXTENSION.unpack_from(self.header.extension(fmt.EXT_BITMAPS) or b"")
        write_all(self._descriptor, marked_in_use(os.pread(self._descriptor, size, offset), count), offset)
        self.flush()

    def reserve_size(self, size: int) -> None:
        """Make the L1 table large enough for a virtual size of `size` bytes; the size itself stays as it is.

        Raises:
            MalformedImageError: QEMU allows no L1 table of that length.
            OSError: A write failed.
        """
        needed = self.header.l1_entries_needed(size)
        if needed <= self.header.l1_size:
            return
        if needed * 8 > fmt.MAX_L1_BYTES:
            raise MalformedImageError(f"a disk of {size} bytes needs an L1 table larger than QEMU allows")
        self._amid = True
        clusters = -(-needed * 8 // self.header.cluster_size)
        offset = self.allocator.allocate_adjacent(clusters) * self.header.cluster_size
        l1 = np.zeros(needed, np.uint64)
        l1[: len(self.file.l1)] = self.file.l1
        self._extend()
        write_all(self._descriptor, l1.astype(">u8").tobytes(), offset)
        self._write_refcounts()
        write_all(self._descriptor, struct.pack(">IQ", needed, offset), fmt.L1_FIELDS_OFFSET)
        self.flush()
        old = np.arange(-(-self.header.l1_size * 8 // self.header.cluster_size), dtype=np.int64)
        self._dropped.append(old + self.header.l1_table_offset // self.header.cluster_size)
        self.header = replace(self.header, l1_size=needed, l1_table_offset=offset)
        self.file.header = self.header
        self.file.l1 = l1
        self.file.forget()
        self._release_dropped()
        self._amid = False

    def set_size(self, size: int) -> None:
        """Set the virtual size in bytes; `reserve_size` must have made room for it."""
        write_all(self._descriptor, struct.pack(">Q", size), fmt.SIZE_OFFSET)
        self.header = replace(self.header, size=size)
        self.file.header = self.header
        self.flush()

    def set_backing(self, name: bytes | None, backing_format: str | None) -> None:
        """Record another backing file, or none.

        The name is written where nothing is read yet and flushed; then one write of the header's first bytes switches
        offset, length and format at once.

        Raises:
            UnsupportedImageError: The name does not fit into the first cluster.
            OSError: A write failed.
        """
        header, head = self.header.place_backing(name, backing_format)
        offset = header.backing_file_offset
        if name is not None and offset == len(head) and offset + len(name) <= fmt.SECTOR:
            head += name
        elif name is not None:
            write_all(self._descriptor, name, offset)
            self.flush()
        write_all(self._descriptor, head, 0)
        self.flush()
        self.header = header
        self.file.header = header

    def empty(self) -> None:
        """Drop every cluster of the active image, so that its backing file provides all of it.

        Internal snapshots keep theirs. The file is cut back to what is still in use.

        Raises:
            OSError: A write failed; the image reads the same.
        """
        header = self.header
        for index in np.flatnonzero(self.file.l1 & _OFFSET).tolist():
            offset = int(self.file.l1[index]) & fmt.OFFSET_MASK
            entries = self.file.l2_entries(offset, 0, header.l2_entries)
            self._drop(entries[0 :: header.l2_entry_size // 8])
            self._dropped.append(np.array([offset // header.cluster_size], np.int64))
        self.file.l1[:] = 0
        self.file.forget()
        write_all(self._descriptor, bytes(header.l1_size * 8), header.l1_table_offset)
        self.flush()
        self._release_dropped()
        self.finish()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _link_tables(self) -> None:
        """Write what makes the batch's clusters part of the image, and flush."""
        for table in self._tables:
            data = table.words.astype(">u8").tobytes()
            if not table.fresh:
                write_all(self._descriptor, data, table.offset + 8 * table.first)
                continue
            self.file.l1[table.l1_index] = np.uint64(table.offset | fmt.OFLAG_COPIED)
            entry = struct.pack(">Q", table.offset | fmt.OFLAG_COPIED)
            write_all(self._descriptor, entry, self.header.l1_table_offset + 8 * table.l1_index)
        self._tables.clear()
        self.file.forget()
        self.flush()

    def _extend(self) -> None:
        """Make the file as long as its last cluster, so that a cluster that ends in zeros is there as a whole."""
        end = self.allocator.end * self.header.cluster_size
        if os.fstat(self._descriptor).st_size < end:
            os.ftruncate(self._descriptor, end)
        self.file.file_size = max(self.file.file_size, end)

    def _cut(self, at_least: int = 0) -> None:
        """Cut the file after the last cluster in use, but not below `at_least` bytes."""
        end = max(self.allocator.used_end() * self.header.cluster_size, at_least)
        if os.fstat(self._descriptor).st_size > end:
            os.ftruncate(self._descriptor, end)
            self._freed = True

    def _write_refcounts(self) -> None:
        self._extend()
        self.allocator.write_blocks()
        self.flush()
        if self.allocator.needs_link:
            self.allocator.link_blocks()
            self.flush()
            self._dropped.append(self.allocator.take_old_table())
            offset, clusters = self.allocator.table_place
            self.header = replace(self.header, refcount_table_offset=offset, refcount_table_clusters=clusters)
            self.file.header = self.header

    def _drop(self, entries: NDArray[np.uint64]) -> None:
        """Remember the host clusters that L2 entries refer to, to be released after the next flush."""
        size = self.header.cluster_size
        packed = (entries & np.uint64(fmt.OFLAG_COMPRESSED)) != 0
        offset = (entries[~packed] & _OFFSET).astype(np.int64)
        self._dropped.append(offset[offset != 0] // size)
        if packed.any():
            start, length = compressed_extents(entries[packed], self.header.cluster_bits)
            first, last = start // size, (start + length - 1) // size
            for step in range(int((last - first).max()) + 1):
                self._dropped.append((first + step)[first + step <= last])

    def _release_dropped(self) -> None:
        """Release what was dropped, now that nothing on disk refers to it, and give freed clusters back."""
        dropped = [clusters for clusters in self._dropped if len(clusters)]
        self._dropped.clear()
        if not dropped:
            return
        freed = np.concatenate([self.allocator.release(clusters) for clusters in dropped])
        self.allocator.write_blocks()
        self.flush()
        freed.sort(kind="stable")
        self.allocator.punch(freed)
        self._freed = True


def _put_entries(
    words: NDArray[np.uint64], inside: NDArray[np.int64], change: TableChange, rows: NDArray[np.int64], width: int
) -> None:
    """Put the new entries `rows` of a change into the `words` of a table, at the places `inside`."""
    words[inside * width] = change.new[rows]
    if change.bitmaps is not None:
        words[inside * width + 1] = change.bitmaps[rows]
