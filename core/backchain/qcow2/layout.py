"""Whether a qcow2 file's tables and refcounts agree, asked before anything is written into it; and what it leaks.

A cluster that is referred to more often than it is counted would be given out twice, or freed while it is used, be it
by an internal snapshot or a bitmap. Leaks do not count as damage.

Source: section "Host cluster management" of QEMU's qcow2 specification; ``qemu-img check`` calls the same an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError
from backchain.qcow2.refcounts import read_block
from backchain.qcow2.references import DAMAGED, References

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.qcow2.image import Qcow2File
    from backchain.qcow2.refcounts import Counts

_MOST_EXCESS = 64
"""A run that is killed leaks a reference or two of a cluster; more is damage of another kind."""


def check_references(file: Qcow2File, refcount_table: NDArray[np.uint64], end: int) -> None:
    """Compare the references of the active image, and of all that is kept beside it, with the refcounts.

    Args:
        file: The open file.
        refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.
        end: Number of host clusters of the file.

    Raises:
        MalformedImageError: A cluster has more references than its refcount, or is marked as nobody else's
            (OFLAG_COPIED) with another refcount than 1.
    """
    references = References(file, refcount_table, end)
    references.add_everything_else()
    for index in references.blocks():
        counts = _counts(file, refcount_table, index)
        if counts is None:
            raise MalformedImageError(f"the image uses clusters that have no refcount; {DAMAGED}")
        if references.disagree(index, counts):
            raise MalformedImageError(f"the image refers to clusters more often than it counts them; {DAMAGED}")


def leaked(file: Qcow2File, refcount_table: NDArray[np.uint64], end: int) -> NDArray[np.int64]:
    """Find the host clusters that are counted more often than anything refers to them.

    Args:
        file: The open file.
        refcount_table: uint64: host offsets of the refcount blocks in bytes, 0 where there is none.
        end: Number of host clusters of the file.

    Returns:
        int64: host cluster numbers, ascending; each as often as it is counted in excess.

    Raises:
        MalformedImageError: A cluster has more references than its refcount: that is no leak, but damage.
        UnsupportedImageError: Not all that may refer to clusters is known.
    """
    references = References(file, refcount_table, end)
    references.require_known()
    references.add_everything_else()
    found = [np.zeros(0, np.int64)]
    existing = np.flatnonzero(refcount_table[: -(-end // file.header.refcount_block_entries)]).tolist()
    for index in sorted({*references.blocks(), *existing}):
        mine = references.of_block(index)
        counts = _counts(file, refcount_table, index)
        if counts is None or (mine > counts).any():
            raise MalformedImageError(f"the image refers to clusters more often than it counts them; {DAMAGED}")
        excess = (counts - mine).astype(np.uint64)
        if int(excess.max(initial=0)) > _MOST_EXCESS:
            raise MalformedImageError(f"the image counts clusters far more often than it refers to them; {DAMAGED}")
        first = index * file.header.refcount_block_entries
        found.append(np.repeat(np.arange(first, first + len(mine), dtype=np.int64), excess.astype(np.int64)))
    return np.concatenate(found)


def _counts(file: Qcow2File, table: NDArray[np.uint64], index: int) -> Counts | None:
    """Give the refcounts of a block, or None when it does not exist."""
    if index >= len(table) or not table[index]:
        return None
    return read_block(file.descriptor, file.header, int(table[index]))
