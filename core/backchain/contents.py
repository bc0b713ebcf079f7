"""Guest data of open layers: read where a run says that it is, and compared between two views.

Two views are compared without reading where the maps prove them equal: zeros on both sides, or the same place in the
same file. Elsewhere the first 4 KiB of a unit are read before the rest, as units that differ mostly do so there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer, map_window
from backchain.errors import UnsupportedImageError
from backchain.hostfile import COPY_CHUNK
from backchain.image import naming
from backchain.pausing import go_on
from backchain.qcow2 import format as fmt
from backchain.runs import ZERO_STATES, Runs, RunState, split_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer
    from backchain.pausing import Pause

ASKED_AT_ONCE = 64
"""Reads that are asked for before the first of them is waited for; see `GuestReader.ask_for`."""
_PROBE = 4096
_READS_ZERO = np.zeros(len(RunState), bool)
_READS_ZERO[[*ZERO_STATES, RunState.UNALLOCATED, RunState.UNALLOCATED_RESERVED]] = True
_ZEROS = bytes(COPY_CHUNK)


def reads_zero(states: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which runs read as zeros without a look at their data, by their states (`RunState`); same shape."""
    return _READS_ZERO[states]


class GuestReader:
    """Reads guest data through the layers of one view; the last decompressed cluster is kept."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Read through `layers`, which a run's layer number counts in."""
        self._layers = tuple(layers)
        self._unpacked: tuple[int, int, bytes] | None = None

    def read(self, guest: int, layer: int, host: int, length: int, *, compressed: bool) -> bytes:
        """Give `length` bytes of guest data from the guest offset `guest` on.

        Args:
            guest: Guest offset in bytes.
            layer: Number of the layer that provides them.
            host: Offset in its file in bytes, or the L2 entry of a compressed cluster.
            length: Bytes; of a compressed cluster at most what is left of it.
            compressed: Whether the data is compressed.

        Raises:
            ImageError: A compressed cluster does not decompress.
            OSError: Reading failed.
        """
        if compressed:
            data = self._cluster(layer, host)
            inside = guest % len(data)
            return data[inside : inside + length]
        data = os.pread(self._layers[layer].descriptor, length, host)
        while len(data) < length:
            more = os.pread(self._layers[layer].descriptor, length - len(data), host + len(data))
            if not more:  # a file may end amid its last cluster; the rest reads as zeros
                return data + bytes(length - len(data))
            data += more
        return data

    def ask_for(self, layer: int, host: int, length: int) -> None:
        """Have the kernel fetch what will be read soon, so that a disk works on several reads at once.

        Args:
            layer: Number of the layer that provides it, uncompressed.
            host: Offset in its file in bytes.
            length: Bytes.
        """
        with suppress(OSError):  # it is advice
            os.posix_fadvise(self._layers[layer].descriptor, host, length, os.POSIX_FADV_WILLNEED)

    def _cluster(self, layer: int, entry: int) -> bytes:
        if self._unpacked is None or self._unpacked[:2] != (layer, entry):
            self._unpacked = (layer, entry, read_packed(self._layers[layer], entry))
        return self._unpacked[2]


def read_packed(layer: Layer, entry: int) -> bytes:
    """Give the guest data of the compressed cluster that an L2 entry of `layer` names; safe to call in threads.

    Raises:
        ImageError: It does not decompress, or the layer is no qcow2 image.
        OSError: Reading failed.
    """
    if not isinstance(layer, Qcow2Layer):
        raise UnsupportedImageError(f"{layer.info.display_path}: a raw image cannot hold compressed data")
    with naming(layer.info):
        return layer.file.read_compressed(entry)


@dataclass(slots=True)
class _Side:
    """One view's part of pieces that are cut alike: arrays of shape (pieces,)."""

    layer: NDArray[np.int64]
    host: NDArray[np.int64]
    zero: NDArray[np.bool_]
    compressed: NDArray[np.bool_]

    @classmethod
    def of(cls, runs: Runs) -> _Side:
        return cls(
            runs.layer.astype(np.int64), runs.host, reads_zero(runs.state), runs.state == RunState.COMPRESSED
        )  # fmt: skip


class Comparison:
    """Two views through layers of their own, compared window by window."""

    def __init__(
        self, one: Sequence[Layer], other: Sequence[Layer], *, limit: int | None = None, pause: Pause = go_on
    ) -> None:
        """Compare the view through `one` with that through `other`; the same file may be among both.

        Args:
            one: Layers that the runs of the first view count in.
            other: Layers that the runs of the second view count in.
            limit: Bytes that `sectors` compares at most; what lies beyond counts as different, unread.
            pause: Called between reads.
        """
        self._pause = pause
        self._one, self._other, self._left = tuple(one), tuple(other), limit
        self._readers = GuestReader(one), GuestReader(other)
        numbers = {info: n for n, info in enumerate(dict.fromkeys(layer.info.id for layer in (*one, *other)))}
        self._files = tuple(np.array([numbers[la.info.id] for la in side] or [-1], np.int64) for side in (one, other))

    @property
    def exhausted(self) -> bool:
        """Whether the limit was reached, so that not everything was compared."""
        return self._left is not None and self._left < 0

    def units(
        self, one: Runs, other: Runs, unit: int, candidates: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Say which units of a window read differently.

        Args:
            one: The window in the first view; it starts at a multiple of `unit`.
            other: The same window in the second.
            unit: Bytes of a unit; the window's last may be shorter.
            candidates: bool, shape (units,): the units that matter; the others count as equal, and are not read.

        Returns:
            bool, shape (units,).

        Raises:
            ImageError: Data cannot be decompressed.
            OSError: Reading failed.
        """
        start = int(one.start[0])
        edges = np.arange(start, one.end, unit, dtype=np.int64)
        pieces = self._undecided(one, other, edges[1:])
        differ = np.zeros(len(edges), bool)
        wanted = (piece for piece in pieces if candidates[(piece[0] - start) // unit])
        while some := list(islice(wanted, ASKED_AT_ONCE)):
            self._pause()
            self._ask_for_probes(some)
            for guest, length, first, second in some:
                number = (guest - start) // unit
                differ[number] = differ[number] or self._differ(guest, length, first, second)
        return differ

    def _ask_for_probes(self, pieces: Sequence[tuple[int, int, _Place, _Place]]) -> None:
        """Ask for what `_differ` reads first of some pieces."""
        for _, length, *places in pieces:
            for reader, (layer, host, zero, compressed) in zip(self._readers, places, strict=True):
                if not zero and not compressed:
                    reader.ask_for(layer, host, min(_PROBE, length))

    def ranges(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield all ranges (start, length) below `end` bytes, whole sectors, in which the two views differ.

        The layers must be whole views, top first; adjacent ranges are joined.

        Raises:
            ImageError: A table or compressed data is damaged.
            OSError: Reading failed.
        """
        step = min(layer.window_bytes for layer in (*self._one, *self._other))
        pending: tuple[int, int] | None = None
        for first in range(0, end, step):
            stop = min(end, first + step)
            for start, length in self.sectors(
                map_window(self._one, first, stop), map_window(self._other, first, stop)
            ):  # fmt: skip
                if pending is not None and sum(pending) == start:
                    pending = (pending[0], pending[1] + length)
                    continue
                if pending is not None:
                    yield pending
                pending = (start, length)
        if pending is not None:
            yield pending

    def sectors(self, one: Runs, other: Runs) -> Iterator[tuple[int, int]]:
        """Yield the guest ranges (start, length) in bytes, whole sectors, in which a window reads differently.

        Raises:
            ImageError: Data cannot be decompressed.
            OSError: Reading failed.
        """
        for guest, length, first, second in self._undecided(one, other, np.zeros(0, np.int64)):
            if self._left is not None:
                self._left -= length
                if self._left < 0:
                    yield guest, length
                    continue
            for offset in range(0, length, COPY_CHUNK):
                self._pause()
                part = min(COPY_CHUNK, length - offset)
                data = self._read(0, guest, offset, part, first), self._read(1, guest, offset, part, second)
                if data[0] != data[1]:
                    yield from _differing_sectors(guest + offset, *data)

    def _undecided(
        self, one: Runs, other: Runs, edges: NDArray[np.int64]
    ) -> Iterator[tuple[int, int, _Place, _Place]]:  # fmt: skip
        """Yield the pieces, cut at `edges`, that the maps do not prove equal."""
        cut = split_at(one, np.concatenate((other.start[1:], edges)))
        below = split_at(other, cut.start[1:])
        first, second = _Side.of(cut), _Side.of(below)
        same_place = self._files[0][first.layer] == self._files[1][second.layer]
        same_place &= (first.host == second.host) & (first.compressed == second.compressed)
        equal = (first.zero & second.zero) | (same_place & ~first.zero & ~second.zero)
        index = np.flatnonzero(~equal)
        columns = (cut.start[index], cut.length[index], *_columns(first, index), *_columns(second, index))
        for guest, length, l1, h1, z1, c1, l2, h2, z2, c2 in zip(*(c.tolist() for c in columns), strict=True):
            yield guest, length, (l1, h1, z1, c1), (l2, h2, z2, c2)

    def _differ(self, guest: int, length: int, first: _Place, second: _Place) -> bool:
        probe = min(_PROBE, length)
        if self._read(0, guest, 0, probe, first) != self._read(1, guest, 0, probe, second):
            return True
        for offset in range(probe, length, COPY_CHUNK):
            part = min(COPY_CHUNK, length - offset)
            if self._read(0, guest, offset, part, first) != self._read(1, guest, offset, part, second):
                return True
        return False

    def _read(self, side: int, guest: int, offset: int, length: int, place: _Place) -> bytes:
        layer, host, zero, compressed = place
        if zero:
            return _ZEROS if length == len(_ZEROS) else bytes(length)
        inside = 0 if compressed else offset
        return self._readers[side].read(guest + offset, layer, host + inside, length, compressed=compressed)


_Place = tuple[int, int, bool, bool]
"""Layer, host offset or L2 entry, whether it reads as zeros, whether it is compressed."""


def _columns(side: _Side, index: NDArray[np.int64]) -> tuple[NDArray[np.generic], ...]:
    return side.layer[index], side.host[index], side.zero[index], side.compressed[index]


def _differing_sectors(guest: int, one: bytes, other: bytes) -> Iterator[tuple[int, int]]:
    """Yield the ranges of sectors in which two equally long pieces differ; a last sector may be short."""
    size = -(-len(one) // fmt.SECTOR) * fmt.SECTOR
    rows = [np.frombuffer(d.ljust(size, b"\0"), np.uint8).reshape(-1, fmt.SECTOR) for d in (one, other)]
    differ = np.concatenate(([False], (rows[0] != rows[1]).any(axis=1), [False]))
    edges = np.flatnonzero(differ[1:] != differ[:-1])
    for first, last in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
        yield guest + first * fmt.SECTOR, (last - first) * fmt.SECTOR
