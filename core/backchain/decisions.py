"""What becomes of the target's L2 entries when some units of its clusters are written, and others zeroed.

A unit is what the target allocates: a cluster, or a subcluster with extended L2 entries (sections "L2 table entry" and
"Extended L2 Entries" of QEMU's qcow2 specification).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.qcow2 import format as fmt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.qcow2.header import Header

_OFFSET = np.uint64(fmt.OFFSET_MASK)
_ONE = np.uint64(1)


@dataclass(slots=True)
class TableChange:
    """L2 entries before and after, of the clusters that are touched; all arrays have one item for each.

    Attributes:
        clusters: int64: guest clusters of the target, ascending.
        old: uint64: entries as they are.
        new: uint64: entries as they will be, without the host offset of clusters in `fresh`.
        bitmaps: uint64: subcluster bitmaps as they will be, or None without extended L2 entries.
        changed: bool: the entry or its bitmap changes.
        fresh: bool: the cluster needs a new host cluster.
        dropped: bool: the old host cluster (or compressed data) loses this reference.
    """

    clusters: NDArray[np.int64]
    old: NDArray[np.uint64]
    new: NDArray[np.uint64]
    bitmaps: NDArray[np.uint64] | None
    changed: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    dropped: NDArray[np.bool_]

    def rows(self, guest: NDArray[np.int64], cluster_size: int) -> NDArray[np.int64]:
        """Give the place of the cluster of each guest offset (bytes), all of which must be touched."""
        return np.searchsorted(self.clusters, guest // cluster_size)


@dataclass(slots=True)
class Had:
    """What the target holds: per unit bool arrays of shape (clusters, units per cluster), else (clusters,).

    Attributes:
        alloc: The unit has data.
        zero: The unit reads as zeros by a flag.
        host: The cluster has a host cluster.
        compressed: The cluster is compressed.
        own: Its host cluster is nobody else's (OFLAG_COPIED).
    """

    alloc: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    host: NDArray[np.bool_]
    compressed: NDArray[np.bool_]
    own: NDArray[np.bool_]

    @classmethod
    def decode(cls, old: NDArray[np.uint64], bitmaps: NDArray[np.uint64] | None, header: Header) -> Had:
        """Decode L2 entries, with their subcluster bitmaps when the image has such."""
        compressed = (old & np.uint64(fmt.OFLAG_COMPRESSED)) != 0
        host = ((old & _OFFSET) != 0) & ~compressed
        own = host & ((old & np.uint64(fmt.OFLAG_COPIED)) != 0)
        if bitmaps is None:
            zero = ((old & np.uint64(fmt.OFLAG_ZERO)) != 0) & ~compressed & (header.version >= 3)
            return cls(((host & ~zero) | compressed)[:, None], zero[:, None], host, compressed, own)
        bits = np.arange(fmt.SUBCLUSTERS_PER_CLUSTER, dtype=np.uint64)
        alloc = ((bitmaps[:, None] >> bits) & _ONE) != 0
        zero = ((bitmaps[:, None] >> (bits + np.uint64(32))) & _ONE) != 0
        alloc[compressed] = True
        zero[compressed] = False
        return cls(alloc, zero, host, compressed, own)


def decide(
    header: Header, had: Had, clusters: NDArray[np.int64], old: NDArray[np.uint64],
    old_bitmaps: NDArray[np.uint64] | None, written: NDArray[np.bool_], zeroed: NDArray[np.bool_],
) -> tuple[TableChange, NDArray[np.bool_]]:  # fmt: skip
    """Decide the new L2 entries, and which units are filled as a whole.

    Args:
        header: The target's.
        had: What it holds.
        clusters: int64, shape (clusters,): the guest clusters, ascending; each is touched.
        old: uint64, shape (clusters,): their entries.
        old_bitmaps: uint64, same shape: their subcluster bitmaps, or None.
        written: bool, shape (clusters, units): the units that will hold data.
        zeroed: bool, same shape: those that will read as zeros by a flag.

    Returns:
        The change of the tables, and bool of shape (clusters, units): units to be written as a whole.
    """
    alloc_after = (had.alloc & ~zeroed) | written
    wants_host = alloc_after.any(axis=1)
    fresh = wants_host & ~had.own & (written.any(axis=1) | had.compressed)
    filled = (written & (~had.alloc | ~had.own[:, None])) | (fresh[:, None] & alloc_after)
    dropped = (had.host | had.compressed) & (fresh | ~wants_host)
    new = np.where(fresh | ~wants_host, np.uint64(0), old)
    if old_bitmaps is None:
        flag = np.uint64(fmt.OFLAG_ZERO if header.version >= 3 else 0)
        new = np.where(written[:, 0] & ~fresh, new & ~np.uint64(fmt.OFLAG_ZERO), new)
        new = np.where(zeroed[:, 0], flag, new)
        return TableChange(clusters, old, new, None, fresh | (new != old), fresh, dropped), filled
    bits = np.arange(fmt.SUBCLUSTERS_PER_CLUSTER, dtype=np.uint64)
    zero_after = (had.zero & ~written) | zeroed
    bitmaps = (alloc_after.astype(np.uint64) << bits).sum(axis=1, dtype=np.uint64)
    bitmaps |= (zero_after.astype(np.uint64) << (bits + np.uint64(32))).sum(axis=1, dtype=np.uint64)
    changed = fresh | (new != old) | (bitmaps != old_bitmaps)
    return TableChange(clusters, old, new, bitmaps, changed, fresh, dropped), filled
