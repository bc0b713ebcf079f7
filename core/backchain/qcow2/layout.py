"""Whether a qcow2 file's tables and refcounts agree, asked before anything is written into it.

A cluster that is referred to more often than it is counted would be given out twice, or freed while it is used. Only
what the active image refers to is counted here, so that references of internal snapshots and bitmaps never count as
damage, and leaks do not either.

Source: section "Host cluster management" of QEMU's qcow2 specification; ``qemu-img check`` calls the same an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.refcounts import read_block
from backchain.qcow2.tables import compressed_extents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.qcow2.image import Qcow2File

_DAMAGED = "run qemu-img check on it"
_OFFSET = np.uint64(fmt.OFFSET_MASK)


def check_references(file: Qcow2File, refcount_table: NDArray[np.uint64], end: int) -> None:
    """Compare the references of the active image, and of its metadata, with the refcounts.

    Args:
        file: The open file.
        refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.
        end: Number of host clusters of the file.

    Raises:
        MalformedImageError: A cluster has more references than its refcount, or is marked as nobody else's
            (OFLAG_COPIED) with another refcount than 1.
    """
    header, size = file.header, file.header.cluster_size
    references = np.zeros(end, np.uint32)
    own = np.zeros(end, bool)
    blocks = refcount_table[refcount_table != 0].astype(np.int64) // size
    for clusters in (
        np.zeros(1, np.int64),
        _span(header.l1_table_offset, header.l1_size * 8, size),
        _span(header.refcount_table_offset, header.refcount_table_clusters * size, size),
        blocks,
    ):
        _add(references, clusters)
    used = np.flatnonzero(file.l1 & _OFFSET)
    _add_standard(references, own, file.l1[used], size)
    for entry in (file.l1[used] & _OFFSET).tolist():
        entries = file.l2_entries(entry, 0, header.l2_entries)[:: header.l2_entry_size // 8]
        packed = (entries & np.uint64(fmt.OFLAG_COMPRESSED)) != 0
        _add_standard(references, own, entries[~packed], size)
        if packed.any():
            _add_compressed(references, entries[packed], header.cluster_bits, size)
    _compare(file, refcount_table, references, own)


def _add_standard(
    references: NDArray[np.uint32], own: NDArray[np.bool_], entries: NDArray[np.uint64], size: int
) -> None:
    """Count the clusters that L1 entries or standard L2 entries name."""
    offset = (entries & _OFFSET).astype(np.int64)
    named = offset != 0
    if (offset & (size - 1)).any():
        raise MalformedImageError(f"the image has a table entry that is not aligned to a cluster; {_DAMAGED}")
    _add(references, offset[named] // size)
    own[(offset // size)[named & ((entries & np.uint64(fmt.OFLAG_COPIED)) != 0)]] = True


def _add_compressed(references: NDArray[np.uint32], entries: NDArray[np.uint64], cluster_bits: int, size: int) -> None:
    """Count the clusters that compressed data touches; its last sector may reach past the end of the file."""
    start, length = compressed_extents(entries, cluster_bits)
    first, last = start // size, np.minimum((start + length - 1) // size, len(references) - 1)
    for step in range(int((last - first).max(initial=0)) + 1):
        _add(references, (first + step)[first + step <= last])


def _add(references: NDArray[np.uint32], clusters: NDArray[np.int64]) -> None:
    if len(clusters) and int(clusters.max()) >= len(references):
        raise MalformedImageError(f"the image refers to clusters past the end of its file; {_DAMAGED}")
    np.add.at(references, clusters, np.uint32(1))


def _compare(
    file: Qcow2File, table: NDArray[np.uint64], references: NDArray[np.uint32], own: NDArray[np.bool_]
) -> None:
    entries = file.header.refcount_block_entries
    for first in range(0, len(references), entries):
        index = first // entries
        mine = references[first : first + entries]
        if not mine.any():
            continue
        if index >= len(table) or not table[index]:
            raise MalformedImageError(f"the image uses clusters that have no refcount; {_DAMAGED}")
        counts = read_block(file.descriptor, file.header, int(table[index]))[: len(mine)]
        if (mine > counts).any() or (counts[own[first : first + entries]] != 1).any():
            raise MalformedImageError(f"the image refers to clusters more often than it counts them; {_DAMAGED}")


def _span(offset: int, length: int, size: int) -> NDArray[np.int64]:
    return np.arange(offset // size, -(-(offset + length) // size), dtype=np.int64)
