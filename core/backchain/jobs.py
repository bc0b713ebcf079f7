"""A Job: one running plan. A thread marks its cells; whoever shows it reads them on a timer.

Nobody sends an event per cluster: the engine writes the numpy array in place, and a reader takes what it finds. All
methods may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import BackchainError, JobCancelledError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backchain.plan import Plan

_BURST_SECONDS = 0.1
"""A limited job moves at most this much of a second's worth at once, so that the picture moves smoothly."""


class Cell(IntEnum):
    """State of one cluster of a job's copy list; the values of `Job.cells`."""

    WAITING = 0
    COPYING = 1
    DONE = 2
    SKIPPED = 3


class JobState(StrEnum):
    """Life of a job: created, running, paused or running again, then exactly one of done, cancelled, failed."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self in {JobState.DONE, JobState.CANCELLED, JobState.FAILED}


class Phase(StrEnum):
    """What a running job is busy with."""

    PREPARING = "preparing"
    COPYING = "copying"
    FLUSHING = "flushing"
    RELINKING = "relinking"
    CLEANING = "cleaning up"
    VERIFYING = "verifying"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One reading of a job, for a progress bar.

    Attributes:
        clusters: Clusters done.
        bytes: Guest data bytes copied.
        rate: Bytes per second over the last seconds of copying; 0 while the job is paused.
        eta: Seconds to go, or None while it is not known.
        observed: True when each cluster was seen to be copied; False when it is inferred.
    """

    state: JobState
    phase: Phase
    clusters: int
    total_clusters: int
    bytes: int
    total_bytes: int
    rate: float
    eta: float | None
    seconds: float
    observed: bool

    @property
    def fraction(self) -> float:
        """Clusters done as a share of all, 0.0 to 1.0."""
        return self.clusters / self.total_clusters if self.total_clusters else 1.0


class Job:
    """The shared state of one run.

    Attributes:
        plan: The plan that is run.
        cells: uint8, shape (plan.copy_list.clusters,): a `Cell` value per cluster of the copy list.
        source_bytes: int64, shape (len(plan.copies),): guest data bytes copied per source.
    """

    def __init__(self, plan: Plan, *, bytes_per_second: float | None = None, observed: bool = True) -> None:
        """Make a job that has not started.

        Args:
            plan: The plan to run.
            bytes_per_second: Rate limit for copied guest data, or None for none.
            observed: Whether the engine sees each cluster copied, or infers it.
        """
        self.plan = plan
        self.cells: NDArray[np.uint8] = np.zeros(plan.copy_list.clusters, np.uint8)
        self.source_bytes: NDArray[np.int64] = np.zeros(len(plan.copies), np.int64)
        self.observed = observed
        self.error: BackchainError | None = None
        self._changed = threading.Condition()
        self._state = JobState.CREATED
        self._phase = Phase.PREPARING
        self._limit = bytes_per_second
        self._steps = 0
        self._cancelled = False
        self._clusters = 0
        self._bytes = 0
        self._started: float | None = None
        self._ended: float | None = None
        self._samples: list[tuple[float, int]] = []
        self._moving_since = (0.0, 0)
        self._next_at = 0.0

    # --- read by anyone -------------------------------------------------------------------------------------------

    @property
    def state(self) -> JobState:
        """The current state."""
        return self._state

    @property
    def bytes_per_second(self) -> float | None:
        """The rate limit, or None."""
        return self._limit

    def progress(self) -> JobProgress:
        """Read the job. Cheap: no pass over the cells."""
        with self._changed:
            now = self._ended or time.monotonic()
            rate = self._rate(now)
            left = self.plan.bytes - self._bytes
            return JobProgress(
                self._state, self._phase, self._clusters, self.cells.size, self._bytes, self.plan.bytes, rate,
                left / rate if rate > 0 and self._state is JobState.RUNNING else None,
                now - self._started if self._started is not None else 0.0, self.observed,
            )  # fmt: skip

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended; give False when `timeout` seconds passed before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state.ended, timeout)

    # --- the user's hand ------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop before the next cluster; nothing happens on a job that has ended."""
        with self._changed:
            if self._state in {JobState.CREATED, JobState.RUNNING}:
                self._state = JobState.PAUSED
                self._changed.notify_all()

    def resume(self) -> None:
        """Go on after a pause."""
        with self._changed:
            if self._state is JobState.PAUSED:
                self._state = JobState.RUNNING if self._started is not None else JobState.CREATED
                self._steps = 0
                self._count_from_here()
                self._changed.notify_all()

    def step(self, clusters: int = 1) -> None:
        """Copy just `clusters` more, then pause (pauses a running job first)."""
        self.pause()
        with self._changed:
            self._steps += clusters
            self._changed.notify_all()

    def cancel(self) -> None:
        """Ask the engine to stop; the chain then reads the same as before."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def set_limit(self, bytes_per_second: float | None) -> None:
        """Change the rate limit (bytes per second of copied guest data; None for none)."""
        with self._changed:
            self._limit = bytes_per_second
            self._next_at = 0.0
            self._changed.notify_all()

    # --- the engine's side ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Mark the job as running (or paused, when it was paused before it began)."""
        with self._changed:
            self._started = time.monotonic()
            self._count_from_here()
            if self._state is JobState.CREATED:
                self._state = JobState.RUNNING

    def enter(self, phase: Phase) -> None:
        """Say what the job is busy with now."""
        self._phase = phase

    def check_cancelled(self) -> None:
        """Raise if the user has cancelled.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        if self._cancelled:
            raise JobCancelledError("cancelled by the user", "the chain reads the same as before")

    def admit(self, clusters: int, bytes_each: int) -> int:
        """Wait for permission to copy, and say how many clusters may be copied at once.

        Blocks while the job is paused without a step to take, and as long as the rate limit asks.

        Args:
            clusters: How many clusters the engine would like to copy next, at least 1.
            bytes_each: Guest bytes of each (0 for zero clusters, which are limited as one cluster's bytes).

        Raises:
            JobCancelledError: The job was cancelled.
        """
        with self._changed:
            while True:
                self.check_cancelled()
                if granted := self.admit_now(clusters, bytes_each):
                    return granted
                paused = self._state is JobState.PAUSED
                self._changed.wait(None if paused else max(self._next_at - time.monotonic(), 0))

    def admit_now(self, clusters: int, bytes_each: int) -> int:
        """Say, without a wait, how many clusters may be copied at once; see `admit`.

        Returns:
            0 when that would mean to wait, and when the job was cancelled.
        """
        with self._changed:
            if self._cancelled:
                return 0
            if self._state is JobState.PAUSED:
                step = min(self._steps, 1)
                self._steps -= step
                return step
            if self._limit is None:
                return clusters
            return 0 if self._next_at > time.monotonic() else self._take(clusters, bytes_each)

    def _take(self, clusters: int, bytes_each: int) -> int:
        cost = max(bytes_each or self.plan.copy_list.cluster_size, 1)
        limit = self._limit or 1.0
        granted = max(1, min(clusters, int(limit * _BURST_SECONDS / cost)))
        self._next_at = max(self._next_at, time.monotonic() - _BURST_SECONDS) + granted * cost / limit
        return granted

    def mark(self, first: int, count: int, cell: Cell) -> None:
        """Set `count` cells from `first` on."""
        self.cells[first : first + count] = cell

    def add_done(self, clusters: int, source: int, guest_bytes: int) -> None:
        """Count finished work: clusters, and the guest bytes copied from source number `source`."""
        with self._changed:
            self._clusters += clusters
            self._bytes += guest_bytes
            self.source_bytes[source] += guest_bytes
            now = time.monotonic()
            if not self._samples or now - self._samples[-1][0] > 0.2:
                self._samples.append((now, self._bytes))
                del self._samples[:-15]

    def end(self, error: BackchainError | None = None) -> None:
        """End the job, once: done, or cancelled or failed by `error`. Later calls change nothing."""
        with self._changed:
            if self._state.ended:
                return
            self._ended = time.monotonic()
            self.error = error
            if error is None:
                self._state = JobState.DONE
            else:
                self._state = JobState.CANCELLED if isinstance(error, JobCancelledError) else JobState.FAILED
            self._changed.notify_all()

    def _count_from_here(self) -> None:
        """Measure the rate from now on: a pause is no time of copying."""
        self._samples.clear()
        self._moving_since = (time.monotonic(), self._bytes)

    def _rate(self, now: float) -> float:
        if self._state is JobState.PAUSED:
            return 0.0
        if self._state.ended:
            first, last = (self._started or now, 0), (now, self._bytes)
        elif len(self._samples) < 2:
            first, last = self._moving_since, (now, self._bytes)
        else:
            first, last = self._samples[0], self._samples[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0
