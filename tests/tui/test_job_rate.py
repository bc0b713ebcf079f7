"""The rate of a job is that of copying: a pause, and the single steps in it, are no part of it."""

from __future__ import annotations

import pytest

from backchain.jobs import Job
from tests.tui import builders


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("backchain.jobs.time", clock)
    return clock


def copied(job: Job, clock: Clock, seconds: float, count: int) -> float:
    """Let a job copy bytes for a while, and give its rate then."""
    clock.now += seconds
    job.add_done(1, 0, count)
    return job.progress().rate


def test_a_pause_has_no_rate_and_spoils_none(clock: Clock) -> None:
    job = Job(builders.commit(builders.five(), "RootBase", "Snap-3"))
    job.start()
    assert [copied(job, clock, 1, 1000) for _ in range(3)] == [1000.0, 1000.0, 1000.0]
    job.pause()
    clock.now += 60
    assert (job.progress().rate, job.progress().eta) == (0.0, None)
    job.step()
    assert [copied(job, clock, 20, 1000) for _ in range(3)] == [0.0, 0.0, 0.0]
    job.resume()
    assert [copied(job, clock, 1, 500) for _ in range(3)] == [500.0, 500.0, 500.0]
