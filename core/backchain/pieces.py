"""Pieces: stretches of guest data on their way, as parallel arrays; unlike runs they may leave gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.runs import ZERO_STATES, RunState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.runs import Runs

_IS_ZERO = np.zeros(len(RunState), bool)
_IS_ZERO[list(ZERO_STATES)] = True


@dataclass(slots=True)
class Pieces:
    """Stretches of guest data, ascending by guest offset.

    Attributes:
        guest: int64, shape (n,): guest offset in bytes.
        length: int64, shape (n,): bytes.
        layer: int64, shape (n,): index of the layer that provides it.
        zero: bool, shape (n,): it is zeros.
        compressed: bool, shape (n,): `host` is a compressed L2 entry.
        host: int64, shape (n,): host offset in the layer's file in bytes, or the L2 entry; -1 where there is none.
    """

    guest: NDArray[np.int64]
    length: NDArray[np.int64]
    layer: NDArray[np.int64]
    zero: NDArray[np.bool_]
    compressed: NDArray[np.bool_]
    host: NDArray[np.int64]

    @classmethod
    def of(cls, runs: Runs, keep: NDArray[np.bool_]) -> Pieces:
        """Make pieces of the runs that `keep` (bool, shape (runs,)) names."""
        state = runs.state[keep]
        return cls(
            runs.start[keep], runs.length[keep], runs.layer[keep].astype(np.int64), _IS_ZERO[state],
            state == RunState.COMPRESSED, runs.host[keep],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.guest)

    def cut(self, unit: int) -> Pieces:
        """Cut the pieces at multiples of `unit` bytes of the guest's disk."""
        first = self.guest // unit
        count = (self.guest + self.length - 1) // unit - first + 1
        if not len(count) or int(count.max()) == 1:
            return self
        index = np.repeat(np.arange(len(count)), count)
        number = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        edge = (first[index] + number) * unit
        guest = np.maximum(self.guest[index], edge)
        length = np.minimum((self.guest + self.length)[index], edge + unit) - guest
        return self._moved(index, guest, length)

    def within(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Pieces:
        """Give the parts inside of some guest ranges [start, end) in bytes, which are ascending and apart."""
        low = np.searchsorted(ends, self.guest, "right")
        high = np.searchsorted(starts, self.guest + self.length, "left")
        count = np.maximum(high - low, 0)
        index = np.repeat(np.arange(len(count)), count)
        number = low[index] + np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        guest = np.maximum(self.guest[index], starts[number])
        length = np.minimum((self.guest + self.length)[index], ends[number]) - guest
        return self._moved(index, guest, length)

    def take(self, keep: NDArray[np.bool_]) -> Pieces:
        """Give the pieces that `keep` (bool, shape (n,)) names."""
        return self if keep.all() else Pieces(*(column[keep] for column in self._columns()))  # type: ignore[arg-type]

    def merged(self, other: Pieces) -> Pieces:
        """Give the pieces of both, in order; they do not overlap."""
        if not len(self) or not len(other):
            return self if len(self) else other
        order = np.argsort(np.concatenate((self.guest, other.guest)), kind="stable")
        pairs = zip(self._columns(), other._columns(), strict=True)
        return Pieces(*(np.concatenate(pair)[order] for pair in pairs))

    def _moved(self, index: NDArray[np.int64], guest: NDArray[np.int64], length: NDArray[np.int64]) -> Pieces:
        """Give parts of the pieces `index`; compressed ones keep their L2 entry."""
        host, placed = self.host[index], (self.host >= 0) & ~self.compressed
        if placed.any():
            host += placed[index] * (guest - self.guest[index])
        return Pieces(guest, length, self.layer[index], self.zero[index], self.compressed[index], host)

    def _columns(self) -> tuple[NDArray[np.generic], ...]:
        return self.guest, self.length, self.layer, self.zero, self.compressed, self.host


def distinct(ascending: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct values of an ascending array, and for each item the place of its value among them."""
    fresh = np.empty(len(ascending), bool)
    fresh[:1] = True
    np.not_equal(ascending[1:], ascending[:-1], out=fresh[1:])
    if fresh.all():  # mostly so, and adding them up takes longer than all the rest
        return ascending, np.arange(len(ascending))
    return ascending[fresh], np.cumsum(fresh) - 1
