"""The map of a chain as ``qemu-img map`` gives it: extents merged and flagged by the same rules.

Source: ``img_map`` in QEMU's qemu-img.c and the qemu-img manual.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import chain_map
from backchain.errors import BackchainError
from backchain.runs import ZERO_STATES, Runs, RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.image import ImageInfo


_ROWS_AT_ONCE = 4096
"""Rows that are made Python's numbers of at once, which take ten times the memory."""

_FEWEST_RUNS, _MOST_RUNS = 2048, 32768
"""Runs that are worked on at once."""


class Kind(IntFlag):
    """What ``qemu-img map`` says of an extent, as bits of `Extents.kind`."""

    PRESENT = 1
    """The data is in the image at the extent's depth."""
    ZERO = 2
    """It reads as zeros."""
    DATA = 4
    """It is stored (compressed data included)."""
    COMPRESSED = 8
    """It is stored compressed."""


def _kinds() -> NDArray[np.uint8]:
    """Make the table from a `RunState` to a `Kind`."""
    absent = (RunState.UNALLOCATED, RunState.UNALLOCATED_RESERVED, RunState.PAST_END, RunState.ABSENT)
    stored = (RunState.DATA, RunState.COMPRESSED, RunState.DATA_HOLE)
    return np.array([
        (state not in absent) * Kind.PRESENT | (state in ZERO_STATES) * Kind.ZERO | (state in stored) * Kind.DATA
        | (state == RunState.COMPRESSED) * Kind.COMPRESSED
        for state in RunState
    ], np.uint8)  # fmt: skip


_KINDS = _kinds()
_COMPRESSED = np.uint8(Kind.COMPRESSED)


@dataclass(slots=True)
class Extents:
    """Extents of a map as parallel arrays, of which there may be millions; ascending, none adjoins its like.

    Attributes:
        start: int64, shape (n,): guest offset in bytes.
        length: int64, shape (n,): bytes.
        depth: uint16, shape (n,): 0 for the image itself, 1 for its backing file, and so on.
        kind: uint8, shape (n,): a `Kind`.
        offset: int64, shape (n,): host offset in bytes, -1 where there is none.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    depth: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    offset: NDArray[np.int64]

    @classmethod
    def of(cls, runs: Runs) -> Extents:
        """Say of a window's runs what ``qemu-img map`` says of them; neighbours may be alike."""
        kind = _KINDS.take(runs.state)
        offset = np.where(kind & _COMPRESSED, -1, runs.host)
        return cls(runs.start, runs.length, runs.layer, kind, offset)

    def __len__(self) -> int:
        return len(self.start)

    def rows(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield start, length, depth, kind and offset of each extent."""
        for low in range(0, len(self), _ROWS_AT_ONCE):
            part = self.take(slice(low, low + _ROWS_AT_ONCE))
            yield from zip(
                part.start.tolist(), part.length.tolist(), part.depth.tolist(), part.kind.tolist(),
                part.offset.tolist(), strict=True,
            )  # fmt: skip

    def take(self, part: slice) -> Extents:
        """Give some neighbouring extents."""
        return Extents(self.start[part], self.length[part], self.depth[part], self.kind[part], self.offset[part])

    def after(self, before: Extents) -> Extents:
        """Give the extents of `before`, which end where these begin, and these behind them."""
        return Extents(
            np.concatenate((before.start, self.start)), np.concatenate((before.length, self.length)),
            np.concatenate((before.depth, self.depth)), np.concatenate((before.kind, self.kind)),
            np.concatenate((before.offset, self.offset)),
        )  # fmt: skip

    def merged(self) -> Extents:
        """Join neighbours that are alike, as ``img_map`` does: from adjacent host offsets, or without any."""
        fresh = np.ones(len(self), bool)
        following = np.where(self.offset >= 0, self.offset + self.length, -1)
        np.not_equal(self.offset[1:], following[:-1], out=fresh[1:])
        fresh[1:] |= (self.depth[1:] != self.depth[:-1]) | (self.kind[1:] != self.kind[:-1])
        first = np.flatnonzero(fresh)
        if len(first) == len(self):
            return self
        length = np.add.reduceat(self.length, first)
        return Extents(self.start[first], length, self.depth[first], self.kind[first], self.offset[first])


def qemu_map(images: Sequence[ImageInfo], start: int = 0, length: int | None = None) -> Iterator[Extents]:
    """Map a chain (top first) as ``qemu-img map`` does, in batches.

    Args:
        images: The chain.
        start: Guest offset in bytes at which to begin (``--start-offset``).
        length: Bytes to map at most (``--max-length``); None means up to the end of the disk.

    Yields:
        Extents in ascending order over what of the range lies on the disk; of a range of no bytes one without length,
        as in qemu-img's answer.

    Raises:
        ImageError: An image cannot be opened or is damaged.
    """
    last: Extents | None = None  # what follows may go on with it
    for runs in _gathered(chain_map(images, start, None if length is None else start + length)):
        extents = Extents.of(runs)
        extents = (extents if last is None else extents.after(last)).merged()
        if len(extents) > 1:
            yield extents.take(slice(-1))
        last = extents.take(slice(-1, None))
    yield last or Extents.of(Runs.one(start, start, RunState.UNALLOCATED))


def _gathered(windows: Iterable[Runs]) -> Iterator[Runs]:
    """Make windows worth working on: few runs take as long as a thousand, very many take much memory."""
    waiting: list[Runs] = []
    count = 0
    try:
        for window in windows:
            waiting.append(window)
            count += len(window)
            if count >= _FEWEST_RUNS:
                yield from (waiting[0] if len(waiting) == 1 else Runs.join(waiting)).parts(_MOST_RUNS)
                waiting, count = [], 0
    except BackchainError:  # what comes before the damage is known
        yield from waiting
        raise
    if waiting:
        yield Runs.join(waiting)
