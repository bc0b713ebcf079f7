"""Lookup: what a chain holds in some short ranges of the guest's disk, far apart from one another.

A window's map is made of all that its tables say. Samples of a large disk ask for one cluster in thousands: their L2
entries are picked out and decoded as if they were a table of their own, layer by layer down the chain, all samples at
once. A commit on a disk of 200 GiB reads 128 samples twice; a window for each took 60 of its 390 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.clustermap import Qcow2Layer
from backchain.contents import reads_zero
from backchain.image import naming
from backchain.pieces import Pieces, distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer


def stored_within(layers: Sequence[Layer], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Pieces:
    """Give the guest data that is stored in some ranges; what is missing reads as zeros.

    Args:
        layers: A whole view, top first.
        starts: int64, shape (n,): guest offsets in bytes at which the ranges begin.
        ends: int64, shape (n,): where they end; the ranges are ascending and apart.

    Raises:
        ImageError: A table is damaged.
    """
    none = np.zeros(0, np.int64)
    held = _plain(0, none, none)
    for number, layer in enumerate(layers):
        inside = starts < layer.size  # past the end of a backing file the guest reads zeros
        asked = _plain(number, starts[inside], np.minimum(ends[inside], layer.size))
        if not len(asked):
            break
        if not isinstance(layer, Qcow2Layer):  # a hole of a raw image is zeros when it is read
            return held.merged(asked)
        own, left = _looked_up(layer, asked)
        held, starts, ends = held.merged(own), left.guest, left.guest + left.length
    return held


def _looked_up(layer: Qcow2Layer, asked: Pieces) -> tuple[Pieces, Pieces]:
    """Give what an image itself stores of the pieces that are asked for, and what it leaves to its backing file."""
    size = layer.file.header.cluster_size
    clusters, _ = distinct(asked.cut(size).guest // size)
    with naming(layer.info):
        runs = layer.file.runs_of(clusters)
    runs.layer = np.full(len(runs), asked.layer[0], np.uint16)
    own, left = (
        _put_back(Pieces.of(runs, keep), clusters, size).within(asked.guest, asked.guest + asked.length)
        for keep in (~reads_zero(runs.state), runs.unresolved())
    )
    return own, left


def _put_back(pieces: Pieces, clusters: NDArray[np.int64], size: int) -> Pieces:
    """Give pieces of a disk that is made of some clusters of another one, where they are on that one.

    Args:
        pieces: Pieces of the disk whose cluster number n is `clusters[n]` of the other.
        clusters: int64, ascending.
        size: Bytes of a cluster.
    """
    apart = pieces.cut(size)
    number, inside = np.divmod(apart.guest, size)
    apart.guest = clusters[number] * size + inside
    return apart


def _plain(layer: int, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Pieces:
    """Make pieces that a layer provides where it would if it were a raw image."""
    no = np.zeros(len(starts), bool)
    return Pieces(starts, ends - starts, np.full(len(starts), layer, np.int64), no, no, starts)
