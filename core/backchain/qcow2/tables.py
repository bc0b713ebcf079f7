"""L2 tables decoded into runs, a window at a time, with numpy and no loop over clusters.

Why it looks as it does (measured on tables of a terabyte disk): a window is a few tables (256 KiB), small enough for
the processor's cache; one OR over the window tells whether any entry is compressed or zero, and the passes for those
are skipped when none is; neighbouring entries are compared once to find where runs begin.

Source: sections "L2 table entry", "Standard Cluster Descriptor", "Compressed Clusters Descriptor" and "Extended L2
Entries" of QEMU's qcow2 specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.runs import Runs, RunState, coalesce

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.header import Header

_COMPRESSED = np.uint64(fmt.OFLAG_COMPRESSED)
_ZERO = np.uint64(fmt.OFLAG_ZERO)
_OFFSET = np.uint64(fmt.OFFSET_MASK)
_ENTRY = np.uint64((1 << 63) - 1)
_HALF = np.uint64(0xFFFF_FFFF)
_ALIKE = {
    0: RunState.UNALLOCATED_RESERVED, 0xFFFF_FFFF: RunState.DATA, 0xFFFF_FFFF << 32: RunState.ZERO_ALLOCATED
}  # fmt: skip
"""What bitmaps say of a cluster with a host offset, all of whose subclusters are alike."""
_DATA_STATE = np.array([RunState.DATA], np.uint8)
_COMPRESSED_STATE = int(RunState.COMPRESSED)


def read_entries(raw: bytes | bytearray | memoryview) -> NDArray[np.uint64]:
    """Give big-endian table bytes as native uint64, shape (len(raw) // 8,)."""
    return native(np.frombuffer(raw, np.uint64))


class Workspace:
    """Memory for tables and for the passes over them, kept from one window to the next.

    The images of a chain are read in turn, and share one: memory that is touched for the first time costs as much as
    the work on it.

    Attributes:
        entries: uint64, shape (n,): native entries.
        steps: uint64, shape (n,): their differences.
        marks: bool, shape (n,): which of them are of interest.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._table = np.empty(0, np.uint8)
        self.make_room(0)

    def make_room(self, count: int) -> None:
        """Make the arrays at least so long; what they held is lost."""
        self.entries = np.empty(count, np.uint64)
        self.steps = np.empty(count, np.uint64)
        self.marks = np.empty(count, bool)

    def table(self, size: int) -> NDArray[np.uint8]:
        """Give memory for so many bytes of tables: the same as last time."""
        if len(self._table) < size:
            self._table = np.empty(size, np.uint8)
        return self._table[:size]


class Decoder:
    """Decodes the L2 entries of one image."""

    def __init__(self, header: Header, workspace: Workspace) -> None:
        """Decode entries of the image that has this header."""
        self._header = header
        self._workspace = workspace

    def decode(
        self, chunks: Iterable[NDArray[np.uint64]], start: int, end: int, file_size: int
    ) -> Iterator[Runs]:  # fmt: skip
        """Decode L2 entries into runs.

        Args:
            chunks: The entries of the clusters of [start, end), in order; uint64, shape (n,), or shape (2 n,) with
                extended L2 entries (entry, bitmap, entry, bitmap, ...): the bytes of the file as they are, which is
                big-endian. A chunk is done with before the next is asked for.
            start: Guest offset of the first entry's cluster, in bytes.
            end: Guest offset after the last one.
            file_size: Length of the image file in bytes; host offsets are checked against it.

        Yields:
            Adjacent windows of runs of layer 0, which cover [start, end).

        Raises:
            MalformedImageError: A host offset is unaligned or lies outside of the file, or an entry is not legal.
        """
        header, position, loose = self._header, start, _Loose()
        for stored in chunks:
            bitmaps = stored[1::2] if header.extended_l2 else None
            entries = stored if bitmaps is None else stored[0::2]
            stop = position + len(entries) * header.cluster_size
            marks = self._marked(entries, bitmaps)
            count = int(np.count_nonzero(marks))
            full = self._full(entries, bitmaps, position, stop, file_size) if count == len(entries) else None
            if full is not None:
                if position > start:
                    yield loose.decode(header, start, position, file_size)
                yield full
                start, loose = stop, _Loose()
            elif count:
                used = np.arange(count) if count == len(entries) else np.flatnonzero(marks)
                loose.add((position - start) // header.cluster_size, used, entries, bitmaps)
            position = stop
        if end > start:
            yield loose.decode(header, start, end, file_size)

    def _marked(self, entries: NDArray[np.uint64], bitmaps: NDArray[np.uint64] | None) -> NDArray[np.bool_]:
        """Mark the entries that are not zero, which is faster to look through than the entries themselves."""
        if len(self._workspace.marks) < len(entries):
            self._workspace.make_room(len(entries))
        marks = self._workspace.marks[: len(entries)]
        np.not_equal(entries, 0, out=marks)
        if bitmaps is not None:
            marks |= bitmaps != 0
        return marks

    def _full(
        self, stored: NDArray[np.uint64], bitmaps: NDArray[np.uint64] | None, start: int, end: int, file_size: int
    ) -> Runs | None:  # fmt: skip
        """Make the runs of a window in which every entry is set; None if they are not all of one plain kind.

        Within a run each entry is the one before it plus a cluster, so that what its first and its last entry show
        (flags, alignment, the farthest host offset) holds for all of them.
        """
        state = _state_of_all(bitmaps)
        if state is None:
            return None
        size, count = self._header.cluster_size, len(stored)
        entries = self._workspace.entries[:count]
        np.copyto(entries, stored.view(">u8"))
        first, last = stretches(entries, size, self._workspace.steps, self._workspace.marks)
        edges = entries[np.concatenate((first, last))]
        host = (edges & _OFFSET).view(np.int64)
        if int(np.bitwise_or.reduce(edges)) & (fmt.OFLAG_COMPRESSED | fmt.OFLAG_ZERO) or not host.all():
            return None
        _check_offsets(host, self._header, file_size)
        states = np.full(len(first), state, np.uint8)
        return Runs(start + first * size, states, np.zeros(len(first), np.uint16), host[: len(first)].copy(), end)


def stretches(
    entries: NDArray[np.uint64], cluster_size: int, steps: NDArray[np.uint64], marks: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find where entries go on from one to the next: each is the one before it plus a cluster.

    Args:
        entries: uint64, shape (n,): L2 entries in native order, at least one.
        cluster_size: Bytes.
        steps: uint64, at least n - 1 items that may be overwritten.
        marks: bool, likewise.

    Returns:
        First and last place of each stretch, int64.
    """
    count = len(entries) - 1
    np.subtract(entries[1:], entries[:-1], out=steps[:count])
    np.not_equal(steps[:count], cluster_size, out=marks[:count])
    breaks = np.flatnonzero(marks[:count])
    return np.concatenate((np.zeros(1, np.int64), breaks + 1)), np.append(breaks, count)


def _state_of_all(bitmaps: NDArray[np.uint64] | None) -> RunState | None:
    """Give the state that stored bitmaps give all clusters with a host offset, or None where they differ."""
    if bitmaps is None:
        return RunState.DATA
    return _ALIKE.get(int(native(bitmaps[:1])[0])) if bool((bitmaps == bitmaps[0]).all()) else None


class _Loose:
    """Entries in use, and their places in a window: few of many, or of several kinds."""

    def __init__(self) -> None:
        self._used: list[NDArray[np.int64]] = []
        self._entries: list[NDArray[np.uint64]] = []
        self._bitmaps: list[NDArray[np.uint64]] = []

    def add(
        self, first: int, used: NDArray[np.int64], entries: NDArray[np.uint64], bitmaps: NDArray[np.uint64] | None
    ) -> None:  # fmt: skip
        """Add the entries `used` of a chunk that begins `first` clusters after the window does."""
        self._used.append(used + first)
        self._entries.append(native(entries[used]))
        if bitmaps is not None:
            self._bitmaps.append(native(bitmaps[used]))

    def decode(self, header: Header, start: int, end: int, file_size: int) -> Runs:
        """Make the runs of the window [start, end) bytes."""
        if not self._used:
            return Runs.one(start, end, RunState.UNALLOCATED)
        used, entries = np.concatenate(self._used), np.concatenate(self._entries)
        if self._bitmaps:
            return _decode_extended(entries, np.concatenate(self._bitmaps), header, used, start, end, file_size)
        return _decode_plain(entries, header, used, start, end, file_size)


def native(stored: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give a copy of words of the file, which are big-endian, in the machine's own order (uint64, same shape)."""
    return stored.view(">u8").astype(np.uint64)  # faster than byteswap, which copies twice


def _decode_plain(
    entries: NDArray[np.uint64], header: Header, used: NDArray[np.int64], start: int, end: int, file_size: int
) -> Runs:  # fmt: skip
    """Decode standard L2 entries; `used` gives the place of each in the window, in clusters."""
    size = header.cluster_size
    if not int(np.bitwise_or.reduce(entries)) & (fmt.OFLAG_COMPRESSED | fmt.OFLAG_ZERO):
        host = (entries & _OFFSET).view(np.int64)
        _check_offsets(host, header, file_size)
        return _runs(start + used * size, size, _DATA_STATE, host, start, end)
    first, clusters = _zeros_together(entries, used)
    state, host = _decode_flagged(entries[first], header, file_size)
    return _runs(start + used[first] * size, clusters * size, state, host, start, end)


def _zeros_together(
    entries: NDArray[np.uint64], used: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
    """Find neighbouring clusters that are nothing but zero; there may be very many, and one tells of all.

    Returns:
        int64: the index of the first entry of each group, of which all others have one entry, and its clusters.
    """
    zero = entries == _ZERO
    fresh = np.ones(len(entries), bool)
    fresh[1:] = ~(zero[1:] & zero[:-1] & (used[1:] == used[:-1] + 1))
    first = np.flatnonzero(fresh)
    return first, np.diff(first, append=len(entries))


def _decode_flagged(
    entries: NDArray[np.uint64], header: Header, file_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:  # fmt: skip
    """Give state and host offset of entries of which some are compressed or zero."""
    compressed = (entries & _COMPRESSED) != 0
    zero = ((entries & _ZERO) != 0) & ~compressed
    if header.version < 3 and zero.any():
        raise MalformedImageError("an L2 entry of a version 2 image has the zero flag, which only version 3 knows")
    offset = (entries & _OFFSET).astype(np.int64)
    offset[compressed] = 0
    _check_offsets(offset, header, file_size)
    _check_compressed(entries[compressed], header, file_size)
    state = np.where(offset != 0, RunState.DATA, RunState.UNALLOCATED).astype(np.uint8)
    state[zero] = np.where(offset[zero] != 0, RunState.ZERO_ALLOCATED, RunState.ZERO)
    state[compressed] = RunState.COMPRESSED
    host = np.where(offset != 0, offset, -1)
    host[compressed] = (entries[compressed] & _ENTRY).astype(np.int64)
    return state, host


def _decode_extended(
    entries: NDArray[np.uint64], bitmaps: NDArray[np.uint64], header: Header, used: NDArray[np.int64],
    start: int, end: int, file_size: int,
) -> Runs:  # fmt: skip
    """Decode extended L2 entries; only clusters whose subclusters differ are expanded into 32 units."""
    compressed = (entries & _COMPRESSED) != 0
    offset = np.where(compressed, 0, (entries & _OFFSET).astype(np.int64))
    _check_offsets(offset, header, file_size)
    _check_compressed(entries[compressed], header, file_size)
    allocated = np.where(compressed, _HALF, bitmaps & _HALF)
    zero = np.where(compressed, 0, bitmaps >> np.uint64(32))
    if (allocated & zero).any() or (allocated[(offset == 0) & ~compressed]).any():
        raise MalformedImageError("the subcluster bitmap of an extended L2 entry contradicts itself")
    whole = ((allocated == 0) | (allocated == _HALF)) & ((zero == 0) | (zero == _HALF))
    units = np.where(whole, 1, fmt.SUBCLUSTERS_PER_CLUSTER)
    cluster = np.repeat(np.arange(len(entries)), units)
    sub = np.arange(len(cluster)) - (np.cumsum(units) - units)[cluster]
    bit = sub.astype(np.uint64)
    has_data = ((allocated[cluster] >> bit) & np.uint64(1)) != 0
    has_zero = ((zero[cluster] >> bit) & np.uint64(1)) != 0
    reserved = offset[cluster] != 0
    state = np.where(reserved, RunState.UNALLOCATED_RESERVED, RunState.UNALLOCATED).astype(np.uint8)
    state[has_data] = RunState.DATA
    state[has_zero] = np.where(reserved[has_zero], RunState.ZERO_ALLOCATED, RunState.ZERO)
    state[compressed[cluster]] = RunState.COMPRESSED
    host = np.where(reserved, offset[cluster] + sub * header.subcluster_size, -1)
    host[compressed[cluster]] = (entries[compressed] & _ENTRY).astype(np.int64)
    begin = start + used[cluster] * header.cluster_size + sub * header.subcluster_size
    length = np.where(whole, header.cluster_size, header.subcluster_size)[cluster]
    return _runs(begin, length, state, host, start, end)


def _runs(
    begin: NDArray[np.int64], length: NDArray[np.int64] | int, state: NDArray[np.uint8], host: NDArray[np.int64],
    start: int, end: int,
) -> Runs:  # fmt: skip
    """Make the runs of a window [start, end) bytes out of what is in use there; nothing is allocated in between.

    Args:
        begin: int64, shape (n,): guest offset of each piece in bytes.
        length: Bytes of each piece: int64 of the same shape, or one number for all.
        state: uint8, shape (n,): a `RunState` each; shape (1,) for one state that all have.
        host: int64, shape (n,): host offset in bytes, the L2 entry of a compressed cluster, or -1; 0 in data that has
            no host cluster after all.
        start: Guest offset in bytes at which the window begins.
        end: Where it ends.
    """
    fresh = np.empty(len(begin), bool)
    fresh[0] = True
    stop = begin + length
    if len(state) == 1:  # all is data: host offsets alone tell where one run ends
        np.not_equal(host[1:] - host[:-1], begin[1:] - begin[:-1], out=fresh[1:])
        fresh[1:] |= begin[1:] != stop[:-1]
        if not host.all():
            fresh[1:] |= (host[1:] == 0) | (host[:-1] == 0)
    else:
        following = np.where(host[:-1] >= 0, host[:-1] + stop[:-1] - begin[:-1], -1)
        np.not_equal(host[1:], following, out=fresh[1:])
        fresh[1:] |= (state[1:] != state[:-1]) | (state[1:] == _COMPRESSED_STATE) | (begin[1:] != stop[:-1])
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(begin)) - 1
    count = len(first)
    starts = np.empty(2 * count + 1, np.int64)
    starts[0], starts[1::2], starts[2::2] = start, begin[first], stop[last]
    states = np.zeros(2 * count + 1, np.uint8)
    hosts = np.full(2 * count + 1, -1, np.int64)
    hosts[1::2] = host[first]
    states[1::2] = state if len(state) == 1 else state[first]
    if len(state) == 1:
        lost = hosts == 0
        states[lost], hosts[lost] = RunState.UNALLOCATED, -1
    there = np.append(starts[1:], end) > starts
    states = states[there]
    runs = Runs(starts[there], states, np.zeros(len(states), np.uint16), hosts[there], end)
    return coalesce(runs) if (states[1:] == states[:-1]).any() else runs


def compressed_extent(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Give (host offset, length) in bytes of the compressed data that an L2 entry names.

    The length is rounded up to whole sectors, so that it may reach past the data and past the end of the file.
    """
    shift = 62 - (cluster_bits - 8)
    offset = entry & ((1 << shift) - 1)
    sectors = ((entry >> shift) & ((1 << (cluster_bits - 8)) - 1)) + 1
    return offset, sectors * fmt.SECTOR - (offset & (fmt.SECTOR - 1))


def compressed_extents(
    entries: NDArray[np.int64] | NDArray[np.uint64], cluster_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give host offsets and lengths in bytes, as `compressed_extent`, for many L2 entries; int64, shape (n,)."""
    raw = entries.astype(np.int64) & ((1 << 62) - 1)
    shift = 62 - (cluster_bits - 8)
    offset = raw & ((1 << shift) - 1)
    sectors = ((raw >> shift) & ((1 << (cluster_bits - 8)) - 1)) + 1
    return offset, sectors * fmt.SECTOR - (offset & (fmt.SECTOR - 1))


def _check_offsets(offset: NDArray[np.int64], header: Header, file_size: int) -> None:
    """Check the host offsets of standard clusters (0 stands for none)."""
    if not len(offset):
        return
    if int(np.bitwise_or.reduce(offset)) & (header.cluster_size - 1):
        raise MalformedImageError("an L2 entry names a host offset that is not aligned to a cluster")
    if int(offset.max()) >= file_size:
        raise MalformedImageError(f"an L2 entry names host offset {int(offset.max()):#x}, past the end of the file")


def _check_compressed(entries: NDArray[np.uint64], header: Header, file_size: int) -> None:
    if len(entries) and int(compressed_extents(entries, header.cluster_bits)[0].max()) >= file_size:
        raise MalformedImageError("a compressed cluster lies past the end of the file")
