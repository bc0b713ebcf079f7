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
    from collections.abc import Iterable

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
        return np.diff(self.start, append=self.end)

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
