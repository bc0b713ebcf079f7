"""Copies the pieces of a window into the target, cell by cell as the job allows, run by run as the disk likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.engines.carriers import Load, carrier_to
from backchain.engines.unpacking import Unpacker
from backchain.hostfile import COPY_CHUNK
from backchain.jobs import Cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backchain.jobs import Job
    from backchain.transfer import Transfer, Window


@dataclass(slots=True)
class _CopyRun:
    """A stretch that is copied in one go: adjacent in its source and in the target. Offsets and lengths are bytes.

    Attributes:
        host: Offset in the source's file, or the compressed L2 entry.
        to: Offset in the target's file.
        cell: Number of the first cell.
        goes_on: The next run begins in the cell in which this one ends.
    """

    guest: int
    layer: int
    host: int
    to: int
    length: int
    cell: int
    zero: bool
    compressed: bool
    goes_on: bool

    def advance(self, part: int, cells: int) -> None:
        """Move past `part` bytes and the `cells` that end in them."""
        self.guest, self.to, self.length = self.guest + part, self.to + part, self.length - part
        self.host += 0 if self.compressed else part
        self.cell += cells


class Copier:
    """Moves guest data of a transfer and keeps the job's cells and counters true.

    Cells are numbered in the order in which the windows give them, which is the order of the plan's copy list.
    """

    def __init__(self, transfer: Transfer, target: int, job: Job) -> None:
        """Make a copier that writes to the file descriptor `target`."""
        self._transfer = transfer
        self._job = job
        self._first_cell = 0
        self._admitted = 0
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
        pieces, cell_size = window.pieces, self._transfer.cell_size
        cell = np.searchsorted(window.cells, pieces.guest // cell_size) + self._first_cell
        if hosts is None or window.tables is None:
            target = pieces.guest
        else:
            target = hosts[window.tables.rows(pieces.guest, cell_size)] + pieces.guest % cell_size
        breaks = (
            (pieces.layer[1:] != pieces.layer[:-1])
            | (pieces.zero[1:] != pieces.zero[:-1])
            | pieces.compressed[1:]
            | pieces.compressed[:-1]
            | (target[1:] != target[:-1] + pieces.length[:-1])
            | (~pieces.zero[1:] & (pieces.host[1:] != pieces.host[:-1] + pieces.length[:-1]))
            | (np.diff(cell) > 1)
        )
        first = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(breaks) + 1))[: len(pieces.guest)]
        lengths = np.add.reduceat(pieces.length, first) if len(first) else pieces.length
        columns = (pieces.guest, pieces.layer, pieces.zero, pieces.compressed, pieces.host, target, cell)
        shared = np.append(cell[first[1:]] == cell[first[1:] - 1], np.array([False]))[: len(first)]
        if pieces.compressed.any():
            packed = pieces.compressed[first]
            places = (pieces.layer[first][packed].tolist(), pieces.host[first][packed].tolist())
            self._unpacker.announce(zip(*places, strict=True))
        rows = zip(
            *(column[first].tolist() for column in columns), lengths.tolist(), shared.tolist(), strict=True
        )  # fmt: skip
        for guest, layer, zero, compressed, host, to, number, length, goes_on in rows:
            self._pass_zero_cells(number)
            run = _CopyRun(guest, layer, host, to, length, number, zero, compressed, goes_on)
            self._copy_run(run)
        self._first_cell += len(window.cells)
        self._pass_zero_cells(self._first_cell)

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

    def _pass_zero_cells(self, until: int) -> None:
        """Take the cells before number `until` that need no data through the job, as they become zeros by a flag."""
        while self._admitted < until:
            start = self._admitted
            granted = self._admit(until - start, 0)
            self._admitted = start + granted
            self._mark_done(start, granted)

    def _copy_run(self, run: _CopyRun) -> None:
        """Copy one run, in parts of as many cells as the job allows."""
        cell_size = self._transfer.cell_size
        while run.length > 0:
            inside = run.guest % cell_size
            if run.cell >= self._admitted:
                wanted = max(1, -(-min(run.length + inside, max(COPY_CHUNK, cell_size)) // cell_size))
                self._admitted = run.cell + self._admit(wanted, cell_size)
            part = min(run.length, (self._admitted - run.cell) * cell_size - inside)
            count = -(-(inside + part) // cell_size)
            self._job.mark(run.cell, count, Cell.COPYING)
            unfinished = int(run.goes_on and part == run.length)
            self._mark_delivered(self._carrier.carry(self._load(run, part, count - unfinished)))
            run.advance(part, (inside + part) // cell_size)

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

    def _load(self, run: _CopyRun, length: int, cells: int) -> Load:
        """Make a load of the next `length` bytes of a run, with which `cells` cells are done."""
        layers, sources = self._transfer.layers, self._transfer.sources
        source: int | memoryview | None = None
        if run.compressed:
            data = self._unpacker.cluster((run.layer, run.host))
            inside = run.guest % len(data)
            source = memoryview(data)[inside : inside + length]
        elif not run.zero:
            source = layers[run.layer].descriptor
        counted = run.layer - sources.start if source is not None and run.layer in sources else None
        return Load(run.to, length, source, run.host, run.cell, cells, counted)

    def _mark_delivered(self, loads: Sequence[Load]) -> None:
        for load in loads:
            if load.counted is None:
                self._mark_done(load.cell, load.cells)
            else:
                self._mark_done(load.cell, load.cells, load.counted, load.length)

    def _mark_done(self, first: int, count: int, source: int = 0, copied: int = 0) -> None:
        self._job.mark(first, count, Cell.DONE)
        self._job.add_done(count, source, copied)
