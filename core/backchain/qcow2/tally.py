"""Numbers of references to host clusters, kept in little memory.

A disk of 8 TiB has 134 million clusters. A reference that claims to be its cluster's only one takes a bit; the others
are counted in binary, a plane of bits for each digit: three bits a cluster for a disk with up to seven snapshots. What
still takes more than `MOST_BYTES` is counted from its start only, and the caller counts again from where that stopped.

A refcount block may count 16 million clusters, too many to unpack at once: numbers are kept by portions of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.refcounts import Counts

    Bits = NDArray[np.uint8]

MOST_BYTES = 24 << 20
"""What the counts of one pass take at most: a bit each for 12 TiB of clusters of 64 KiB."""

_PORTION = 1 << 16
"""Clusters of a portion at most."""

_DROPPED = 16
"""The highest sixteenth of the portions is given up when there are too many."""


class UsedTwiceError(Exception):
    """A cluster that a reference claims for itself has another such reference."""


def portion_of(block_entries: int) -> int:
    """Give the number of clusters of a portion, where a refcount block counts `block_entries`; both powers of two."""
    return min(block_entries, _PORTION)


class Tally:
    """How often clusters are referred to, by portions of equal length.

    References to clusters of portions that are not counted, before `start` or from `stop` on, are passed over.

    Attributes:
        start: Number of the first portion that is counted.
        stop: Number of the one behind the last; it may sink while references are added.
    """

    def __init__(self, entries: int, start: int, stop: int, most_bytes: int) -> None:
        """Begin with no references.

        Args:
            entries: Clusters of a portion; a multiple of 8.
            start: Number of the first portion to count for.
            stop: Number of the one behind the last.
            most_bytes: What the counts may take.
        """
        self.start = start
        self.stop = stop
        self._entries = entries
        self._most = max(most_bytes * 8 // entries, 2 * _DROPPED)
        self._planes = 0
        self._own: dict[int, Bits] = {}
        self._others: dict[int, list[Bits]] = {}

    def add_own(self, index: int, flags: NDArray[np.bool_]) -> None:
        """Take down references to clusters of a portion of which each claims to be the only one.

        Args:
            index: Number of the portion.
            flags: bool, shape (entries,): which clusters of the portion.

        Raises:
            UsedTwiceError: One of them is claimed already.
        """
        if not self.start <= index < self.stop:
            return
        bits = np.packbits(flags)
        known = self._own.get(index)
        if known is None:
            self._own[index] = bits
            self._bound(1)
            return
        if (known & bits).any():
            raise UsedTwiceError
        known |= bits

    def add(self, index: int, flags: NDArray[np.bool_], weight: int = 1) -> None:
        """Count references that may share their clusters, each `weight` times; arguments as of `add_own`."""
        self._add_number(index, np.packbits(flags), weight)

    def add_numbers(self, index: int, numbers: NDArray[np.int64], weight: int) -> None:
        """Count numbers of references.

        Args:
            index: Number of the portion.
            numbers: int64, shape (entries,): how many references to each cluster of the portion.
            weight: How often each of them counts.
        """
        for digit in range(int(numbers.max(initial=0)).bit_length()):
            self._add_number(index, np.packbits((numbers >> digit) & 1 != 0), weight << digit)

    def _add_number(self, index: int, bits: Bits, number: int) -> None:
        """Add the same number to all clusters whose bit is set: in binary, with a carry, as on paper."""
        if not self.start <= index < self.stop:
            return
        planes = self._others.setdefault(index, [])
        before = len(planes)
        for digit in range(number.bit_length()):
            if not number >> digit & 1:
                continue
            carry, place = bits, digit
            while carry.any():
                while len(planes) <= place:
                    planes.append(np.zeros(len(bits), np.uint8))
                carry, planes[place] = planes[place] & carry, planes[place] ^ carry
                place += 1
        if len(planes) > before:
            self._bound(len(planes) - before)

    def _bound(self, more: int) -> None:
        """Give up the highest portions when the planes are too many."""
        self._planes += more
        if self._planes <= self._most:
            return
        held = sorted(self._own.keys() | self._others.keys())
        self.stop = held[-max(len(held) // _DROPPED, 1)]
        for index in held[held.index(self.stop) :]:
            self._planes -= len(self._others.pop(index, ())) + (self._own.pop(index, None) is not None)

    def clear(self) -> None:
        """Forget all numbers and give back their memory."""
        self._own.clear()
        self._others.clear()
        self._planes = 0

    def portions(self) -> Iterator[int]:
        """Yield the numbers of the portions in which something is counted, ascending."""
        yield from sorted(self._own.keys() | self._others.keys())

    def of_portion(self, index: int) -> NDArray[np.uint32]:
        """Give the number of references to each cluster of a portion; uint32, shape (entries,)."""
        numbers = self._own_of(index).astype(np.uint32)
        for digit, plane in enumerate(self._others.get(index, ())):
            numbers += np.unpackbits(plane).astype(np.uint32) << np.uint32(digit)
        return numbers

    def disagree(self, index: int, counts: Counts) -> bool:
        """Whether the clusters of a portion are used more often than `counts` says.

        So it is, too, where a reference claims to be the only one and the count is not 1.
        """
        own = self._own_of(index)
        if bool(((counts != 1) & own).any()):
            return True
        return index in self._others and bool((self.of_portion(index) > counts).any())

    def _own_of(self, index: int) -> NDArray[np.bool_]:
        bits = self._own.get(index)
        return np.zeros(self._entries, bool) if bits is None else np.unpackbits(bits).view(bool)
