"""Digests of what a guest reads: of whole disks or of samples, the same however the data is stored.

A view is hashed in blocks of 64 KiB; a block of zeros counts as not there, so that holes, zero clusters and written
zeros give the same digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from backchain.clustermap import map_window, open_layers
from backchain.contents import ASKED_AT_ONCE, GuestReader, reads_zero
from backchain.lookup import stored_within
from backchain.pausing import go_on
from backchain.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backchain.clustermap import Layer
    from backchain.image import ImageInfo
    from backchain.pausing import Pause

BLOCK = 65536
"""Bytes that are hashed at once; samples are of this size."""

_LONGEST_PART = 4
"""What is hashed at once is at most a quarter of a window."""

_MOST_BLOCKS = 65536
"""Blocks of a range at once, at most: a raw disk is one window of a terabyte."""

Range = tuple[int, int]
"""Guest offsets (start, end) in bytes; the start is a multiple of `BLOCK`."""


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Take in what follows."""

    def digest(self) -> bytes:
        """Give the digest of all that was taken in."""


def view_digest(images: Sequence[ImageInfo], ranges: Sequence[Range], digest: Digest, pause: Pause = go_on) -> bytes:
    """Hash what a chain reads in some ranges of guest bytes; what lies past its end counts as zeros.

    Args:
        images: The chain, top first.
        ranges: Ascending, apart from one another.
        digest: What hashes, with nothing in it yet.
        pause: Called between the blocks that are read.

    Raises:
        ImageError: An image cannot be opened or is damaged.
        OSError: Reading failed.
    """
    with open_layers(images) as layers:
        reader = GuestReader(layers)
        for part in _together(ranges, layers):
            for block, data in _blocks(_stored(layers, part).cut(BLOCK), reader):
                pause()
                digest.update(b"%d:" % block)
                digest.update(data)
    return digest.digest()


def _together(ranges: Sequence[Range], layers: Sequence[Layer]) -> Iterator[list[Range]]:
    """Yield the ranges in groups that are hashed at once; long ranges are cut up."""
    window = min(layer.window_bytes for layer in layers)
    longest = min(max(window // _LONGEST_PART // BLOCK, 1), _MOST_BLOCKS) * BLOCK
    group: list[Range] = []
    left = longest
    for start, end in ranges:
        end = min(end, layers[0].size)
        for first in range(start, end, longest):
            piece = (first, min(end, first + longest))  # no block is cut in two
            if group and piece[1] - piece[0] > left:
                yield group
                group, left = [], longest
            group.append(piece)
            left -= piece[1] - piece[0]
    if group:
        yield group


def _stored(layers: Sequence[Layer], ranges: Sequence[Range]) -> Pieces:
    """Give what is stored in some ranges: a single one may be long, and few of its tables hold anything."""
    if len(ranges) == 1:
        runs = map_window(layers, *ranges[0])
        return Pieces.of(runs, ~reads_zero(runs.state))
    starts, ends = np.array(ranges, np.int64).T
    return stored_within(layers, starts, ends)


def _blocks(pieces: Pieces, reader: GuestReader) -> Iterator[tuple[int, bytes]]:
    """Yield (number, data) of the blocks that are not all zeros, without their zero tail; no piece crosses a block."""
    columns = (pieces.guest, pieces.layer, pieces.host, pieces.length, pieces.compressed)
    rows = list(zip(*(c.tolist() for c in columns), strict=True))
    block, end = -1, 0
    parts: list[bytes] = []  # mostly one, which is joined and stripped without a copy
    for number, (guest, layer, host, length, packed) in enumerate(rows):
        if number % ASKED_AT_ONCE == 0:
            for _, other, place, size, compressed in rows[number : number + ASKED_AT_ONCE]:
                if not compressed:
                    reader.ask_for(other, place, size)
        if guest // BLOCK != block:
            if stripped := b"".join(parts).rstrip(b"\0"):
                yield block, stripped
            block, end = guest // BLOCK, guest // BLOCK * BLOCK
            parts.clear()
        if guest > end:
            parts.append(bytes(guest - end))
        parts.append(reader.read(guest, layer, host, length, compressed=packed))
        end = guest + length
    if stripped := b"".join(parts).rstrip(b"\0"):
        yield block, stripped
