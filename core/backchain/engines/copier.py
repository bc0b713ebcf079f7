"""Copies the pieces of a window into the target: batch by batch as the job allows, load by load as the disk likes.

A disk that was written at random has a load for every cluster. So little is done for each load; all else is done for a
window, or a batch, at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.engines.carriers import Load, carrier_to
from backchain.engines.unpacking import Unpacker
from backchain.hostfile import COPY_CHUNK
from backchain.jobs import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.jobs import Job
    from backchain.pieces import Pieces
    from backchain.transfer import Transfer, Window

_BATCH_BYTES = 4 * 1024 * 1024
"""Guest data that the job is asked for at once, and that is shown as being copied."""


@dataclass(slots=True)
class _Placed:
    """The pieces of a window, each of which lies in one cell, and where they go.

    Attributes:
        pieces: The pieces.
        to: int64, shape (n,): offset in the target's file in bytes.
        cell: int64, shape (n,): number of the cell, within the window.
        begins: bool, shape (n,): it is not copied in one go with the piece before it.
    """

    pieces: Pieces
    to: NDArray[np.int64]
    cell: NDArray[np.int64]
    begins: NDArray[np.bool_]


class Copier:
    """Moves guest data of a transfer and keeps the job's cells and counters true.

    Cells are numbered in the order in which the windows give them, which is the order of the plan's copy list.
    """

    def __init__(self, transfer: Transfer, target: int, job: Job) -> None:
        """Make a copier that writes to the file descriptor `target`."""
        self._transfer = transfer
        self._job = job
        self._first_cell = 0
        self._unpacker = Unpacker(transfer.layers)
        self._carrier = carrier_to(target, {la.descriptor for la in transfer.layers} - {target})

    def copy(self, window: Window, hosts: NDArray[np.int64] | None) -> None:
        """Copy a window's pieces; the last of them may be on their way until `finish`.

        Args:
            window: What to copy.
            hosts: int64: host offset in bytes of each cluster of the window's tables; None for a raw target.

        Raises:
            JobCancelledError: The user cancelled.
            OSError: Reading or writing failed.
        """
        placed = self._place(window, hosts)
        pieces, header, size = placed.pieces, self._transfer.target_header, self._transfer.cell_size
        if hosts is not None and header is not None and header.subcluster_size == size:
            # Each new cluster is written as a whole.
            self._carrier.expect(int(hosts.max(initial=0)) + size, size)
        if pieces.compressed.any():
            packed = placed.begins & pieces.compressed
            self._unpacker.announce(zip(pieces.layer[packed].tolist(), pieces.host[packed].tolist(), strict=True))
        for cells, part in self._batches(placed, len(window.cells)):
            self._copy_batch(placed, cells, part)
        self._first_cell += len(window.cells)

    def finish(self) -> None:
        """Have everything written; it is not flushed yet.

        Raises:
            OSError: Reading or writing failed.
        """
        self._mark_delivered(self._carrier.finish())

    def close(self) -> None:
        """End what works ahead of the copy and behind it; what was not written by now is not."""
        self._unpacker.close()
        self._carrier.close()

    def _place(self, window: Window, hosts: NDArray[np.int64] | None) -> _Placed:
        """Give the pieces of a window their places; what is adjacent in its source and in the target stays together."""
        pieces, size = window.pieces, self._transfer.cell_size
        to = pieces.guest
        if hosts is not None and window.tables is not None:
            to = hosts[window.tables.rows(pieces.guest, size)] + pieces.guest % size
        cell = np.searchsorted(window.cells, pieces.guest // size)
        begins = np.ones(len(pieces), bool)
        begins[1:] = (
            (pieces.layer[1:] != pieces.layer[:-1])
            | (pieces.zero[1:] != pieces.zero[:-1])
            | pieces.compressed[1:]
            | pieces.compressed[:-1]
            | (to[1:] != to[:-1] + pieces.length[:-1])
            | (~pieces.zero[1:] & (pieces.host[1:] != pieces.host[:-1] + pieces.length[:-1]))
            | ((size > COPY_CHUNK) & (cell[1:] != cell[:-1]))  # else a load would be larger than QEMU's largest cluster
        )
        along = to - to[np.maximum.accumulate(np.where(begins, np.arange(len(to)), 0))]
        begins[1:] |= along[1:] // COPY_CHUNK != along[:-1] // COPY_CHUNK
        return _Placed(pieces, to, cell, begins)

    def _batches(self, placed: _Placed, count: int) -> Iterator[tuple[range, slice]]:
        """Yield the `count` cells of a window as the job admits them, with the pieces that fall into them.

        Cells without a piece need no data: they become zeros by a flag.
        """
        pieces, size = placed.pieces, self._transfer.cell_size
        begins = np.flatnonzero(placed.begins)
        before = np.cumsum(pieces.length) - pieces.length
        before_load, cell_of_load = before[begins], placed.cell[begins]
        cell = piece = 0
        while cell < count:
            wanted, cost = count, 0
            if piece < len(pieces):
                cost = size
                beyond = int(np.searchsorted(before_load, before[piece] + _BATCH_BYTES))
                wanted = max(int(cell_of_load[beyond]), cell + 1) if beyond < len(begins) else count
            end = cell + self._admit(wanted - cell, cost)
            stop = int(np.searchsorted(placed.cell, end))
            yield range(cell, end), slice(piece, stop)
            cell, piece = end, stop

    def _copy_batch(self, placed: _Placed, cells: range, part: slice) -> None:
        """Copy some pieces, and mark the cells that they fall into."""
        first = self._first_cell + cells.start
        self._job.mark(first, len(cells), Cell.COPYING)
        if part.start == part.stop:
            self._job.mark(first, len(cells), Cell.DONE)
            self._job.add_done(len(cells), 0, 0)
            return
        delivered: list[Load] = []
        try:
            for load in self._loads(placed, cells, part):
                delivered += self._carrier.carry(load)
        finally:
            self._mark_delivered(delivered)

    def _loads(self, placed: _Placed, cells: range, part: slice) -> Iterator[Load]:
        """Make the loads of some pieces. Each has the cells before that in which the next one begins."""
        pieces, descriptors = placed.pieces, [la.descriptor for la in self._transfer.layers]
        sources = self._transfer.sources
        placed.begins[part.start] = True
        first = np.flatnonzero(placed.begins[part]) + part.start
        lengths = np.add.reduceat(pieces.length[: part.stop], first)
        edges = np.concatenate(([cells.start], placed.cell[first[1:]], [cells.stop]))
        columns = (placed.to, pieces.layer, pieces.zero, pieces.compressed, pieces.host, pieces.guest)
        rows = zip(
            *(column[first].tolist() for column in columns), lengths.tolist(),
            (edges[:-1] + self._first_cell).tolist(), np.diff(edges).tolist(), strict=True,
        )  # fmt: skip
        for to, layer, zero, compressed, host, guest, length, cell, count in rows:
            source: int | memoryview | None = None if zero else descriptors[layer]
            if compressed:
                data = self._unpacker.cluster((layer, host))
                inside = guest % len(data)
                source = memoryview(data)[inside : inside + length]
            counted = layer - sources.start if not zero and layer in sources else None
            yield Load(to, length, source, host, cell, count, counted)

    def _admit(self, clusters: int, bytes_each: int) -> int:
        """Ask the job; where it lets us wait, nothing is on its way meanwhile.

        Raises:
            JobCancelledError: The user cancelled; what had been admitted before is written.
            OSError: Reading or writing failed.
        """
        if granted := self._job.admit_now(clusters, bytes_each):
            return granted
        self.finish()
        return self._job.admit(clusters, bytes_each)

    def _mark_delivered(self, loads: Sequence[Load]) -> None:
        """Mark the cells of loads that follow each other."""
        if not loads:
            return
        copied: Counter[int] = Counter()
        for load in loads:
            if load.counted is not None:
                copied[load.counted] += load.length
        first, end = loads[0].cell, loads[-1].cell + loads[-1].cells
        self._job.mark(first, end - first, Cell.DONE)
        self._job.add_done(sum(load.cells for load in loads), 0, 0)
        for source, count in copied.items():
            self._job.add_done(0, source, count)
