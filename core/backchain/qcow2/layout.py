"""Where a qcow2 file keeps its own tables, so that damage which would make a write hit them is noticed first.

Source: QEMU's ``qcow2_pre_write_overlap_check`` guards against the same damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.qcow2.image import Qcow2File


def metadata_clusters(file: Qcow2File, refcount_table: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Give the host clusters of header, L1 table, L2 tables, refcount table and refcount blocks.

    Args:
        file: The open file.
        refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.

    Returns:
        int64, ascending, no cluster twice.

    Raises:
        MalformedImageError: Two tables overlap, or one is not aligned to a cluster.
    """
    header, size = file.header, file.header.cluster_size
    l2 = (file.l1 & np.uint64(fmt.OFFSET_MASK)).astype(np.int64)
    tables = np.concatenate((l2[l2 != 0], refcount_table[refcount_table != 0].astype(np.int64)))
    if (tables % size).any():
        raise MalformedImageError("an L2 table or a refcount block is not aligned to a cluster")
    parts = [
        np.zeros(1, np.int64),
        _span(header.l1_table_offset, header.l1_size * 8, size),
        _span(header.refcount_table_offset, header.refcount_table_clusters * size, size),
        tables // size,
    ]
    clusters = np.concatenate(parts)
    unique: NDArray[np.int64] = np.unique(clusters)
    if len(unique) != len(clusters):
        raise MalformedImageError("metadata of the image overlaps; run qemu-img check on it")
    return unique


def check_apart(clusters: NDArray[np.int64], metadata: NDArray[np.int64]) -> None:
    """Make sure that host clusters which will hold guest data are no metadata, and that none is used twice.

    Raises:
        MalformedImageError: One is: writing it would destroy the image.
    """
    if len(np.unique(clusters)) != len(clusters):
        raise MalformedImageError("two L2 entries name one host cluster as their own; run qemu-img check on the image")
    if np.isin(clusters, metadata).any():
        raise MalformedImageError("guest data and metadata of the image overlap; run qemu-img check on it")


def _span(offset: int, length: int, size: int) -> NDArray[np.int64]:
    return np.arange(offset // size, -(-(offset + length) // size), dtype=np.int64)
