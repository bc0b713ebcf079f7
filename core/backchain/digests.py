"""Digests of what a guest reads: of whole disks or of samples, the same however the data is stored.

A view is hashed in blocks of 64 KiB; a block of zeros counts as not there, so that holes, zero clusters and written
zeros give the same digest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import map_window, open_layers
from backchain.contents import GuestReader, reads_zero
from backchain.runs import RunState, split_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backchain.clustermap import Layer
    from backchain.image import ImageInfo
    from backchain.runs import Runs

BLOCK = 65536
"""Bytes that are hashed at once; samples are of this size."""

_WINDOW_PART = 16
"""Samples are mapped together within such a part of a window."""

Range = tuple[int, int]
"""Guest offsets (start, end) in bytes; the start is a multiple of `BLOCK`."""


def view_digest(images: Sequence[ImageInfo], ranges: Sequence[Range], *, size: int = 64) -> bytes:
    """Hash what a chain reads in some ranges of guest bytes; what lies past its end counts as zeros.

    Args:
        images: The chain, top first.
        ranges: Ascending, apart from one another.
        size: Bytes of the digest, 1 to 64.

    Raises:
        ImageError: An image cannot be opened or is damaged.
        OSError: Reading failed.
    """
    digest = hashlib.blake2b(digest_size=size)
    with open_layers(images) as layers:
        reader = GuestReader(layers)
        for part in _together(ranges, layers):
            runs = map_window(layers, part[0][0], part[-1][1])
            for start, end in part:
                for block, data in _blocks(runs.clip(start, end), reader):
                    digest.update(b"%d:" % block)
                    digest.update(data)
    return digest.digest()


def _together(ranges: Sequence[Range], layers: Sequence[Layer]) -> Iterator[list[Range]]:
    """Yield the ranges in groups that are mapped at once, what lies between them too; long ranges are cut up.

    To map an L2 table or two takes as long as to map a block, so that samples which lie close are mapped together.
    """
    step = max(min(layer.window_bytes for layer in layers) // _WINDOW_PART // BLOCK, 1) * BLOCK
    group: list[Range] = []
    for start, end in ranges:
        end = min(end, layers[0].size)
        for first in range(start, end, step):
            piece = (first, min(end, first + step))  # no block is cut in two
            if group and piece[1] - group[0][0] > step:
                yield group
                group = []
            group.append(piece)
    if group:
        yield group


def _blocks(runs: Runs, reader: GuestReader) -> Iterator[tuple[int, bytes]]:
    """Yield (number, data) of a window's blocks that are not all zeros, without their zero tail."""
    start, end = int(runs.start[0]), runs.end
    runs = split_at(runs, np.arange(start // BLOCK * BLOCK + BLOCK, end, BLOCK, dtype=np.int64))
    wanted = np.flatnonzero(~reads_zero(runs.state))
    columns = (runs.start, runs.layer, runs.host, runs.length, runs.state == RunState.COMPRESSED)
    block, data = -1, bytearray()
    for guest, layer, host, length, packed in zip(*(c[wanted].tolist() for c in columns), strict=True):
        if guest // BLOCK != block:
            if stripped := data.rstrip(b"\0"):
                yield block, bytes(stripped)
            block, data = guest // BLOCK, bytearray()
        data += bytes(guest % BLOCK - len(data))
        data += reader.read(guest, layer, host, length, compressed=packed)
    if stripped := data.rstrip(b"\0"):
        yield block, bytes(stripped)
