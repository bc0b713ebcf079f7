"""The map of a chain as ``qemu-img map`` gives it: extents merged and flagged by the same rules.

Source: ``img_map`` in QEMU's qemu-img.c and the qemu-img manual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backchain.clustermap import chain_map
from backchain.runs import ZERO_STATES, Runs, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backchain.image import ImageInfo

_STATES = len(RunState)
_ZERO = np.isin(np.arange(_STATES), ZERO_STATES)
_DATA = np.isin(np.arange(_STATES), (RunState.DATA, RunState.COMPRESSED, RunState.DATA_HOLE))
_ABSENT = np.isin(
    np.arange(_STATES),
    (RunState.UNALLOCATED, RunState.UNALLOCATED_RESERVED, RunState.PAST_END, RunState.ABSENT),
)


class Extent(NamedTuple):
    """One extent of a map: a tuple, as there may be millions. Offsets and lengths are bytes.

    Attributes:
        depth: 0 for the image itself, 1 for its backing file, and so on.
        present: The data is in the image at `depth`.
        zero: It reads as zeros.
        data: It is stored (compressed data included).
        offset: Host offset, or None where there is none.
        path: The file that `offset` counts in, or None without an offset.
    """

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    compressed: bool
    offset: int | None
    path: Path | None


def qemu_map(images: Sequence[ImageInfo], start: int = 0, length: int | None = None) -> Iterator[Extent]:
    """Map a chain (top first) as ``qemu-img map`` does.

    Args:
        images: The chain.
        start: Guest offset in bytes at which to begin (``--start-offset``).
        length: Bytes to map at most (``--max-length``); None means up to the end of the disk.

    Yields:
        Extents in ascending order over what of the range lies on the disk.

    Raises:
        ImageError: An image cannot be opened or is damaged.
    """
    pending: Extent | None = None
    for window in chain_map(images, start, None if length is None else start + length):
        for extent in _extents(window, images):
            if pending is not None and _mergeable(pending, extent):
                pending = pending._replace(length=pending.length + extent.length)
                continue
            if pending is not None:
                yield pending
            pending = extent
    # A range of no bytes still has one extent, of no length, in qemu-img's answer.
    nothing = Extent(start, 0, 0, present=False, zero=False, data=False, compressed=False, offset=None, path=None)
    yield pending or nothing


def _extents(runs: Runs, images: Sequence[ImageInfo]) -> Iterator[Extent]:
    compressed = runs.state == RunState.COMPRESSED
    offset = np.where(compressed, -1, runs.host)
    columns = zip(
        runs.start.tolist(), runs.length.tolist(), runs.layer.tolist(), (~_ABSENT[runs.state]).tolist(),
        _ZERO[runs.state].tolist(), _DATA[runs.state].tolist(), compressed.tolist(), offset.tolist(),
        strict=True,
    )  # fmt: skip
    for start, length, depth, present, zero, data, packed, host in columns:
        yield Extent(
            start, length, depth, present, zero, data, packed,
            host if host >= 0 else None, images[depth].path if host >= 0 else None,
        )  # fmt: skip


def _mergeable(first: Extent, second: Extent) -> bool:
    if (first.depth, first.present, first.zero, first.data, first.compressed) != (
        second.depth, second.present, second.zero, second.data, second.compressed,
    ):  # fmt: skip
        return False
    if first.offset is None or second.offset is None:
        return first.offset is second.offset
    return first.offset + first.length == second.offset
