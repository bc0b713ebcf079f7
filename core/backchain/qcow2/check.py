"""Whether a qcow2 file's tables and refcounts agree, asked before anything is written into it; and what it leaks.

A cluster that is referred to more often than it is counted would be given out twice, or freed while it is used, be it
by an internal snapshot or a bitmap. Leaks do not count as damage.

Source: section "Host cluster management" of QEMU's qcow2 specification; ``qemu-img check`` calls the same an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import MalformedImageError, UnsupportedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.refcounts import read_counts
from backchain.qcow2.references import DAMAGED, References
from backchain.qcow2.tally import portion_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backchain.qcow2.header import Header
    from backchain.qcow2.image import Qcow2File
    from backchain.qcow2.refcounts import Counts
    from backchain.qcow2.tally import Tally

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
    for tally in _tallies(file, refcount_table, end):
        for index in tally.portions():
            counts = _counts(file, refcount_table, index)
            if counts is None:
                raise MalformedImageError(f"the image uses clusters that have no refcount; {DAMAGED}")
            if tally.disagree(index, counts):
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
    _require_known(file.header)
    found = [np.zeros(0, np.int64)]
    entries = portion_of(file.header.refcount_block_entries)
    for tally in _tallies(file, refcount_table, end):
        for index in sorted({*tally.portions(), *_counted(file, refcount_table, tally)}):
            mine = tally.of_portion(index)
            counts = _counts(file, refcount_table, index)
            if counts is None or (mine > counts).any():
                raise MalformedImageError(f"the image refers to clusters more often than it counts them; {DAMAGED}")
            excess = (counts - mine).astype(np.uint64)
            if int(excess.max(initial=0)) > _MOST_EXCESS:
                raise MalformedImageError(f"the image counts clusters far more often than it refers to them; {DAMAGED}")
            places = np.arange(index * entries, (index + 1) * entries, dtype=np.int64)
            found.append(np.repeat(places, excess.astype(np.int64)))
    return np.concatenate(found)


def _tallies(file: Qcow2File, refcount_table: NDArray[np.uint64], end: int) -> Iterator[Tally]:
    """Count all references, in as many passes over the tables as memory makes necessary; mostly that is one."""
    start, stop = 0, -(-end // portion_of(file.header.refcount_block_entries))
    while start < stop:
        references = References(file, refcount_table, end, start)
        yield references.tally
        start = references.tally.stop
        references.tally.clear()  # before the next pass fills as much


def _require_known(header: Header) -> None:
    """Make sure that nothing refers to clusters but what is counted."""
    if header.incompatible_features & fmt.INCOMPAT_DATA_FILE:
        raise UnsupportedImageError("the clusters of an external data file are not counted here")
    known = {fmt.EXT_BACKING_FORMAT, fmt.EXT_FEATURE_NAMES, fmt.EXT_BITMAPS, fmt.EXT_LUKS, fmt.EXT_BASE_MARK}
    if any(e.type not in known for e in header.extensions):
        raise UnsupportedImageError("the image has header extensions whose clusters are not known")


def _counts(file: Qcow2File, table: NDArray[np.uint64], index: int) -> Counts | None:
    """Give the refcounts of a portion, or None when nothing counts it."""
    offset = _block_offset(file, table, index)
    if not offset:
        return None
    header, entries = file.header, portion_of(file.header.refcount_block_entries)
    return read_counts(file.descriptor, header, offset, index * entries % header.refcount_block_entries, entries)


def _counted(file: Qcow2File, table: NDArray[np.uint64], tally: Tally) -> Iterator[int]:
    """Yield the portions of a tally that a refcount block counts."""
    entries = file.header.refcount_block_entries
    each = entries // portion_of(entries)
    first = tally.start // each
    for block in (np.flatnonzero(table[first : -(-tally.stop // each)]) + first).tolist():
        yield from range(max(block * each, tally.start), min((block + 1) * each, tally.stop))


def _block_offset(file: Qcow2File, table: NDArray[np.uint64], index: int) -> int:
    """Give the host offset in bytes of the refcount block that counts a portion, 0 for none."""
    entries = file.header.refcount_block_entries
    block = index * portion_of(entries) // entries
    return int(table[block]) if block < len(table) else 0
