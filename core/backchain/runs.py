"""Runs: stretches of a guest's disk that one layer provides in one way, as parallel numpy arrays.

Runs, not clusters, are what travels through backchain: a terabyte disk written in one go is a single run. They come
in windows (a few L2 tables each), so that memory does not grow with the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


class RunState(IntEnum):
    """How a run's guest data is stored; the values of `Runs.state`."""

    UNALLOCATED = 0
    """Not in this layer: the backing file provides it."""
    DATA = 1
    """Host clusters hold it."""
    ZERO = 2
    """Reads as zeros by a flag, without a host cluster."""
    ZERO_ALLOCATED = 3
    """Reads as zeros by a flag, while a host cluster stays reserved."""
    COMPRESSED = 4
    """Compressed; `Runs.host` holds the raw L2 entry and each run is one cluster."""
    UNALLOCATED_RESERVED = 5
    """Not in this layer, though a host cluster is reserved (extended L2: other subclusters use it)."""
    PAST_END = 6
    """Unallocated here, and past the end of the (shorter) backing file: reads as zeros."""
    ABSENT = 7
    """Unallocated in every layer of the chain: reads as zeros."""
    HOLE = 8
    """A hole of a raw file: reads as zeros, host offset known."""
    DATA_HOLE = 9
    """Allocated, but the host file has a hole there (preallocation): data that reads as zeros."""


ZERO_STATES = (
    RunState.ZERO, RunState.ZERO_ALLOCATED, RunState.PAST_END, RunState.ABSENT, RunState.HOLE, RunState.DATA_HOLE,
)  # fmt: skip

_COMPRESSED = int(RunState.COMPRESSED)
_UNALLOCATED = int(RunState.UNALLOCATED)
_RESERVED = int(RunState.UNALLOCATED_RESERVED)
"""numpy compares with plain numbers in a fourth of the time that members of an enumeration take."""


@dataclass(slots=True)
class Runs:
    """A window of runs: ascending, without gaps, [start[0], end) of the guest's disk in bytes.

    Attributes:
        start: int64, shape (n,): guest offset in bytes.
        state: uint8, shape (n,): a `RunState`.
        layer: uint16, shape (n,): 0 for the top of the chain, counting down to the base.
        host: int64, shape (n,): offset in the layer's file in bytes, -1 where there is none.
        end: Guest offset in bytes after the last run.
    """

    start: NDArray[np.int64]
    state: NDArray[np.uint8]
    layer: NDArray[np.uint16]
    host: NDArray[np.int64]
    end: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def length(self) -> NDArray[np.int64]:
        """Length of each run in bytes; int64, shape (n,)."""
        length = np.empty(len(self.start), np.int64)
        np.subtract(self.start[1:], self.start[:-1], out=length[:-1])
        length[-1:] = self.end - self.start[-1:]
        return length

    @classmethod
    def one(cls, start: int, end: int, state: RunState, *, layer: int = 0, host: int = -1) -> Runs:
        """Make a window of one run."""
        return cls(
            np.array([start], np.int64), np.array([state], np.uint8), np.array([layer], np.uint16),
            np.array([host], np.int64), end,
        )  # fmt: skip

    @classmethod
    def join(cls, windows: Iterable[Runs]) -> Runs:
        """Join adjacent windows into one; holds all of their runs in memory."""
        parts = list(windows)
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint16), np.zeros(0, np.int64), 0)
        return cls(
            np.concatenate([p.start for p in parts]), np.concatenate([p.state for p in parts]),
            np.concatenate([p.layer for p in parts]), np.concatenate([p.host for p in parts]), parts[-1].end,
        )  # fmt: skip

    def clip(self, start: int, end: int) -> Runs:
        """Give the part of the window within [start, end) bytes, which must lie inside of it."""
        first = int(np.searchsorted(self.start, start, "right")) - 1
        last = int(np.searchsorted(self.start, end, "left"))
        part = Runs(
            self.start[first:last].copy(), self.state[first:last], self.layer[first:last], self.host[first:last].copy(),
            end,
        )  # fmt: skip
        skipped = start - int(part.start[0])
        part.start[0] = start
        if skipped and part.host[0] >= 0 and part.state[0] != RunState.COMPRESSED:
            part.host[0] += skipped
        return part

    def parts(self, most: int) -> Iterator[Runs]:
        """Yield the window as adjacent ones of at most `most` runs, which share its memory."""
        for low in range(0, len(self), most):
            high = min(low + most, len(self))
            end = int(self.start[high]) if high < len(self) else self.end
            yield Runs(self.start[low:high], self.state[low:high], self.layer[low:high], self.host[low:high], end)

    def unresolved(self) -> NDArray[np.bool_]:
        """Say which runs the backing file provides; bool, shape (n,)."""
        unresolved: NDArray[np.bool_] = (self.state == _UNALLOCATED) | (self.state == _RESERVED)
        return unresolved


def coalesce(runs: Runs) -> Runs:
    """Join neighbouring runs that one layer provides in one way, from adjacent host offsets.

    Compressed clusters stay apart: each has an L2 entry of its own.
    """
    if len(runs) < 2:
        return runs
    before, state, host = runs.start[:-1], runs.state[1:], runs.host[:-1]
    keep = np.empty(len(runs), bool)
    keep[0] = True
    following = np.where(host >= 0, host + runs.start[1:] - before, -1)
    np.not_equal(runs.host[1:], following, out=keep[1:])
    keep[1:] |= (state != runs.state[:-1]) | (runs.layer[1:] != runs.layer[:-1]) | (state == _COMPRESSED)
    if keep.all():
        return runs
    return Runs(runs.start[keep], runs.state[keep], runs.layer[keep], runs.host[keep], runs.end)


def split_at(runs: Runs, boundaries: NDArray[np.int64]) -> Runs:
    """Cut runs wherever a boundary (ascending guest offsets in bytes, inside the window) falls into one.

    A compressed run that is cut keeps its L2 entry in every piece.
    """
    starts = _merged(runs.start, boundaries)
    index = np.searchsorted(runs.start, starts, "right") - 1
    if len(starts) == len(runs):
        return runs
    host, state = runs.host[index], runs.state[index]
    host += np.where((host >= 0) & (state != _COMPRESSED), starts - runs.start[index], 0)
    return Runs(starts, state, runs.layer[index], host, runs.end)


def _merged(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the distinct values of two arrays, ascending; numpy's own union hashes, which takes several times longer."""
    if not len(other):
        return one
    values = np.concatenate((one, other))
    values.sort(kind="stable")
    fresh = np.empty(len(values), bool)
    fresh[0] = True
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return values[fresh]


def overlay(upper: Runs, lower: Runs) -> Runs:
    """Put a layer over the one that backs it; both cover the same window.

    What `upper` leaves unallocated is taken from `lower`. A reserved host cluster of `upper` stays known where the
    backing file has ended (``RunState.PAST_END``), because qemu-img map reports its offset there.
    """
    covered = upper.unresolved()
    if not covered.any():
        return upper
    if len(upper) == 1 and upper.state[0] == _UNALLOCATED:
        return lower
    starts, above, below = _aligned(upper.start, lower.start)
    both = Runs.join((upper, lower))
    row = np.where(covered[above], len(upper) + below, above)  # which of both provides it
    place = row  # and which says where
    if (upper.state == _RESERVED).any():
        reserved = upper.state[above] == _RESERVED
        place = np.where(reserved & (lower.state[below] == RunState.PAST_END), above, row)
    fresh = np.ones(len(row), bool)
    fresh[1:] = (row[1:] != row[:-1]) | (place[1:] != place[:-1])
    starts, row, place = starts[fresh], row[fresh], place[fresh]
    state, host = both.state[row], both.host[place]
    host += np.where((host >= 0) & (state != _COMPRESSED), starts - both.start[place], 0)
    return coalesce(Runs(starts, state, both.layer[row], host, upper.end))


def _aligned(
    one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct values of two ascending arrays which begin alike, and where in each array every value falls.

    Sorting both together tells the places too, in half the time that looking each value up takes.

    Returns:
        Values, ascending; for each the index of the last item of `one`, and of `other`, that is not greater.
    """
    values = np.concatenate((one, other))
    order = np.argsort(values, kind="stable")
    values = values[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # of those that are equal
    ones = np.cumsum(order < len(one))[last]
    return values[last], ones - 1, last - ones
