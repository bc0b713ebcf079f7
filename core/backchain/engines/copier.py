"""Copies the pieces of a window into the target, cell by cell as the job allows, run by run as the disk likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backchain.engines.unpacking import Unpacker
from backchain.hostfile import COPY_CHUNK, Writeback, copy_range, write_all, write_zeros
from backchain.jobs import Cell

if TYPE_CHECKING:
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
        self._target = target
        self._job = job
        self._first_cell = 0
        self._admitted = 0
        self._unpacker = Unpacker(transfer.layers)
        self._writeback = Writeback(target)

    def copy(self, window: Window, hosts: NDArray[np.int64] | None) -> None:
        """Copy a window's pieces.

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
        last = np.searchsorted(window.cells, (pieces.guest[first] + lengths - 1) // cell_size)
        shared = np.append(cell[first[1:]] == last[:-1] + self._first_cell, np.array([False]))[: len(first)]
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

    def close(self) -> None:
        """End what works ahead of the copy."""
        self._unpacker.close()

    def _pass_zero_cells(self, until: int) -> None:
        """Take the cells before number `until` that need no data through the job, as they become zeros by a flag."""
        while self._admitted < until:
            start = self._admitted
            granted = self._job.admit(until - start, 0)
            self._admitted = start + granted
            self._mark_done(start, granted)

    def _copy_run(self, run: _CopyRun) -> None:
        """Copy one run, in parts of as many cells as the job allows."""
        cell_size, sources = self._transfer.cell_size, self._transfer.sources
        while run.length > 0:
            inside = run.guest % cell_size
            if run.cell >= self._admitted:
                wanted = max(1, -(-min(run.length + inside, max(COPY_CHUNK, cell_size)) // cell_size))
                self._admitted = run.cell + self._job.admit(wanted, cell_size)
            part = min(run.length, (self._admitted - run.cell) * cell_size - inside)
            count = -(-(inside + part) // cell_size)
            self._job.mark(run.cell, count, Cell.COPYING)
            self._write(run, part)
            unfinished = int(run.goes_on and part == run.length)
            moved = not run.zero and run.layer in sources
            self._mark_done(run.cell, count - unfinished, run.layer - sources.start if moved else 0, part * moved)
            run.advance(part, (inside + part) // cell_size)

    def _mark_done(self, first: int, count: int, source: int = 0, copied: int = 0) -> None:
        self._job.mark(first, count, Cell.DONE)
        self._job.add_done(count, source, copied)

    def _write(self, run: _CopyRun, length: int) -> None:
        if run.zero:
            write_zeros(self._target, run.to, length)
        elif run.compressed:
            data = self._unpacker.cluster((run.layer, run.host))
            inside = run.guest % len(data)
            write_all(self._target, memoryview(data)[inside : inside + length], run.to)
        else:
            copy_range(self._transfer.layers[run.layer].descriptor, self._target, run.host, run.to, length)
        self._writeback.wrote(run.to, length)
