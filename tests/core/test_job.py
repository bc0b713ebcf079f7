"""Pause, resume, step, cancel and rate limit, on real commits and pulls."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BackchainError, JobCancelledError
from backchain.jobs import Cell, Job, JobState, Phase
from backchain.verify import Extent

from . import chains, qemu
from .chains import Forest, Layer, Write
from .scripted import ScriptedJob
from .strategies import WAYS, WINDOWS, forests, operations
from .test_engine_oracle import trial_of
from .trial import FORCED, Trial, carried, graph_of, links, windows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backchain.plan import Plan

    from .folders import Folders

MIB = 1 << 20
PATIENCE = 60
"""Seconds after which a state that must come is taken never to come."""

CHAIN = Forest((
    Layer(2 * MIB, commands=(Write("data", 0, 1024), Write("compressed", 2048, 256))),
    Layer(2 * MIB, 0, commands=(Write("data", 256, 300), Write("zero", 1500, 400))),
    Layer(2 * MIB, 1, commands=(Write("compressed", 3072, 256), Write("data", 700, 128, 3, 640))),
    Layer(2 * MIB, 2, commands=(Write("data", 128, 128),)),
))  # fmt: skip

OPERATIONS: dict[str, Callable[[chains.Built], Trial]] = {
    "commit": lambda built: Trial.commit(built, 0, 2),
    "commit-active": lambda built: Trial.commit(built, 0, 3),
    "commit-keeping-the-top": lambda built: Trial.commit(built, 0, 3, keep_top=True),
    "pull": lambda built: Trial.pull(built, 3, 0),
    "pull-everything": lambda built: Trial.pull(built, 3, None),
    "rebase": lambda built: Trial.rebase(built, 3, 0),
}


@contextmanager
def trial(folders: Folders, name: str) -> Iterator[Trial]:
    """Build the chain and plan an operation on it."""
    with folders.fresh() as folder:
        found = OPERATIONS[name](chains.build(CHAIN, folder / "images"))
        assert not found.plan.stopping(), found.plan.hazards
        assert found.plan.clusters > 8
        yield found


class Runner:
    """Runs a plan in a thread and keeps what came of it."""

    def __init__(self, found: Trial, job: Job) -> None:
        self.job = job
        self.error: BackchainError | None = None
        self._trial = found
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            BuiltinEngine().run(self._trial.plan, self.job, FORCED)
        except BackchainError as error:
            self.error = error

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"never came: {self.job.progress()}"
            time.sleep(0.002)

    def done(self) -> int:
        """Count the cells that are done."""
        return int(np.count_nonzero(self.job.cells == Cell.DONE))

    def finish(self) -> None:
        """Wait for the thread's end."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("name", OPERATIONS)
def test_steps_and_resume(folders: Folders, name: str) -> None:
    """Paused before it starts, a job copies nothing; each step copies just as many clusters as asked."""
    with trial(folders, name) as found:
        job = Job(found.plan)
        job.pause()
        runner = Runner(found, job)
        runner.until(lambda: job.progress().seconds > 0)
        assert (runner.done(), job.state) == (0, JobState.PAUSED)
        for clusters, total in ((1, 1), (3, 4), (2, 6)):
            job.step(clusters)
            runner.until(lambda total=total: job.progress().clusters >= total)  # type: ignore[misc]
            assert job.progress().clusters == total
            assert runner.done() == total
            assert job.state is JobState.PAUSED
        job.resume()
        runner.finish()
        assert runner.error is None
        assert job.state is JobState.DONE
        assert job.progress().clusters == found.plan.clusters == runner.done()
        assert job.progress().bytes == found.plan.bytes
        found.assert_done()


@pytest.mark.parametrize("name", OPERATIONS)
def test_pause_amid_and_resume(folders: Folders, name: str) -> None:
    with trial(folders, name) as found:
        job = ScriptedJob(found.plan, at=5, then=Job.pause)
        runner = Runner(found, job)
        runner.until(lambda: job.state is JobState.PAUSED)
        runner.until(lambda: runner.done() == 5)
        assert job.progress().clusters == 5
        job.resume()
        runner.finish()
        assert job.state is JobState.DONE
        found.assert_done()


@pytest.mark.parametrize("name", OPERATIONS)
def test_cancel_while_paused(folders: Folders, name: str) -> None:
    with trial(folders, name) as found:
        job = Job(found.plan)
        job.pause()
        runner = Runner(found, job)
        job.step(3)
        runner.until(lambda: runner.done() == 3)
        job.cancel()
        runner.finish()
        assert isinstance(runner.error, JobCancelledError)
        assert_cancelled(found, job)


def test_a_limited_job_does_all_of_it(folders: Folders) -> None:
    """A rate limit changes how much is admitted at once, never what is copied."""
    with trial(folders, "commit") as found:
        job = Job(found.plan, bytes_per_second=64 * MIB)
        found.run(job)
        assert job.bytes_per_second == 64 * MIB


def test_a_limit_can_change_amid(folders: Folders) -> None:
    with trial(folders, "pull") as found:
        job = Job(found.plan, bytes_per_second=1)
        runner = Runner(found, job)
        runner.until(lambda: runner.done() >= 1)
        assert runner.done() < found.plan.clusters
        job.set_limit(None)
        runner.finish()
        assert job.state is JobState.DONE
        found.assert_done()


def test_a_job_ends_once(folders: Folders) -> None:
    """What comes after the end changes nothing: cancel, pause, step, a second end."""
    with trial(folders, "commit") as found:
        job = Job(found.plan)
        found.run(job)
        seconds = job.progress().seconds
        job.cancel()
        job.pause()
        job.step()
        job.end(JobCancelledError("late"))
        assert job.state is JobState.DONE
        assert job.error is None
        assert job.progress().seconds == seconds


def test_ends_are_counted(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine itself ends a job once, whether it is done or cancelled."""
    ends: list[BackchainError | None] = []
    original = Job.end

    def counted(job: Job, error: BackchainError | None = None) -> None:
        ends.append(error)
        original(job, error)

    monkeypatch.setattr(Job, "end", counted)
    with trial(folders, "pull") as found:
        BuiltinEngine().run(found.plan, Job(found.plan), FORCED)
    assert ends == [None]
    with trial(folders, "pull") as found, pytest.raises(JobCancelledError):
        BuiltinEngine().run(found.plan, ScriptedJob(found.plan, at=2), FORCED)
    assert len(ends) == 2
    assert isinstance(ends[1], JobCancelledError)


def test_cancelled_before_it_started(folders: Folders) -> None:
    with trial(folders, "commit") as found:
        job = Job(found.plan)
        job.cancel()
        with pytest.raises(JobCancelledError):
            BuiltinEngine().run(found.plan, job, FORCED)
        assert_cancelled(found, job)
        for path in found.built.paths:
            assert qemu.digest(path) == found.before.digests[path]


class Cancelling(Job):
    """Is cancelled in a phase, at the nth time that the engine asks whether it is."""

    def __init__(self, plan: Plan, phase: Phase, asked: int) -> None:
        super().__init__(plan)
        self._awaited, self._left = phase, asked

    def enter(self, phase: Phase) -> None:
        super().enter(phase)
        if phase is self._awaited and not self._left:
            self.cancel()

    def check_cancelled(self) -> None:
        if self.progress().phase is self._awaited:
            self._left -= 1
            if self._left == 0:
                self.cancel()
        super().check_cancelled()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("phase", "asked"), [(Phase.PREPARING, 2), (Phase.VERIFYING, 0), (Phase.VERIFYING, 5)])
def test_cancel_while_the_images_are_read(folders: Folders, name: str, phase: Phase, asked: int) -> None:
    """Before and after the copy whole disks may be read, which takes as long as the copy; no link has changed yet."""
    with trial(folders, name) as found:
        job = Cancelling(found.plan, phase, asked)
        with pytest.raises(JobCancelledError):
            BuiltinEngine().run(found.plan, job, FORCED, verify=Extent.WHOLE)
        assert_cancelled(found, job)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_cancel_that_comes_after_the_last_moment_is_too_late(folders: Folders, name: str) -> None:
    with trial(folders, name) as found:
        found.run(Cancelling(found.plan, Phase.RELINKING, 0))


@given(data=st.data())
def test_cancel_at_any_cluster(folders: Folders, data: st.DataObject) -> None:
    """Wherever a job is cancelled, every view and link is as before, and no cluster is leaked."""
    spec = data.draw(forests(min_layers=2, max_layers=4, max_branches=1))
    drawn = data.draw(operations(spec))
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), folders.fresh() as folder:
        built = chains.build(spec, folder / "images")
        assume(built.usable)
        found = trial_of(built, drawn)
        assume(not found.blocks)
        assume(found.plan.clusters)
        at = data.draw(st.integers(0, found.plan.clusters - 1), label="cancelled at")
        job = ScriptedJob(found.plan, at=at, grant=data.draw(st.sampled_from((1, 3, 1 << 20)), label="grant"))
        with pytest.raises(JobCancelledError):
            BuiltinEngine().run(found.plan, job, FORCED)
        event(f"{drawn[0]} cancelled at {at.bit_length()} bits of clusters")
        assert_cancelled(found, job)
        again(found, drawn, folder)


def assert_cancelled(found: Trial, job: Job) -> None:
    """The job says so; images are sound, views and links are as they were; the base of a commit, too, for others."""
    assert job.state is JobState.CANCELLED
    found.assert_sound()
    found.assert_views_kept()
    top = found.path(found.operation.top) if hasattr(found.operation, "top") else found.path(found.operation.image)
    before, now = found.before.views[top], qemu.view(top)
    assert before == now, "the top reads differently after a cancel"
    assert links(graph_of(found.built)) == links(found.plan.before)
    changed = {found.target}
    for path in found.built.paths:
        if path not in changed:
            assert qemu.digest(path) == found.before.digests[path], f"{path.name} was written to"


def again(found: Trial, drawn: tuple[str, int, int | None, bool], folder: Path) -> None:
    """What was cancelled can be run afresh, to the end."""
    second = trial_of(found.built, drawn)
    second.before.views.update({p: v for p, v in found.before.views.items() if p != second.target})
    second.run()
