"""A job on the screen: it is started, watched, steered and seen to its end, in the picture of its plan."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backchain.errors import JobCancelledError
from backchain_tui import plan_words
from backchain_tui.describe import Row, Tone
from backchain_tui.runner import Run
from backchain_tui.screens.picture import PictureScreen
from backchain_tui.screens.question import Answer, Question
from backchain_tui.speed import Speed
from backchain_tui.widgets.bars import TitleBar
from backchain_tui.widgets.job_panel import JobPanel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backchain.errors import BackchainError
    from backchain.plan import Plan
    from backchain.recovery import Tidied
    from backchain_tui.session import Session

_MAP_EVERY = 1 / 10
"""Least seconds between two looks at the map."""

_SLOWEST_TICK = 5
"""A terminal that cannot keep up gets every fifth frame, no fewer."""


class RunningScreen(PictureScreen):
    """The part of an operation's screen that has to do with its job.

    Attributes:
        plan: The plan that is shown, or None while there is none.
        job_run: The job and its thread, once it was started.
        ended: Whether the job is over.
        changed: Whether files may have changed.
    """

    def __init__(self, session: Session) -> None:
        """Make the screen for a session."""
        super().__init__(session)
        self.plan: Plan | None = None
        self.job_run: Run | None = None
        self.ended = self.changed = False
        self._phase = 0.0
        self._last_tick = self._last_map = time.monotonic()
        self._every = 1
        self._skipped = 0

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self.job_run is not None and not self.ended

    @property
    def cancellable(self) -> bool:
        """Whether leaving would cancel the job; one that has ended is merely tidied up after."""
        return self.job_run is not None and not self.job_run.job.state.ended

    def start_clock(self) -> None:
        """Start the screen's one timer, unless the application's clock stands still."""
        if self.backchain.frames:
            self.set_interval(1 / self.backchain.frames, self.tick)

    def start(self, plan: Plan, forced: frozenset[str]) -> None:
        """Run a plan, unless it is no longer the one that is shown.

        Args:
            plan: The plan that the user has agreed to.
            forced: Codes of the hazards that the user has confirmed.
        """
        if self.plan is not plan or self.job_run is not None:
            return
        if self.diagram is not None:
            self.diagram.mark({})
        self.panes.choose(1)
        self.launch(plan, forced, Speed.to_watch(plan) if self.session.lab else Speed())
        self.update_map()

    def launch(self, plan: Plan, forced: frozenset[str], speed: Speed) -> None:
        """Run a plan in this picture, be it the one that is shown or one that tidies up after it."""
        self.job_run = Run(plan, forced, speed, lambda: self.sequel(plan))
        self.ended = False
        panel = self.query_one("#job", JobPanel)
        panel.display = True
        if self.diagram is not None:
            self.diagram.focus()
        self.job_run.start()
        self.query_one(TitleBar).tell(plan_words.title(plan), "running")
        self.refresh_bindings()

    def tick(self) -> None:
        """Take one reading of the job and show it; the screen's one timer calls this."""
        now = time.monotonic()
        gap, self._last_tick = now - self._last_tick, now
        rate = self.backchain.frames or 15.0
        self._every = min(_SLOWEST_TICK, self._every + 1) if gap > 2 / rate else max(1, self._every - 1)
        self._skipped += 1
        diagram = self.diagram
        if diagram is None or self.ended or (self._skipped < self._every and not (self.job_run and self.job_run.over)):
            return
        self._skipped = 0
        if self.job_run is not None:
            self._show_progress(now, gap)
        elif self.plan is not None and self.app.screen is self:
            self._phase += min(gap, 0.5) / 2
            diagram.advance(self._phase)

    def _show_progress(self, now: float, gap: float) -> None:
        assert self.job_run is not None
        assert self.diagram is not None
        job = self.job_run.job
        progress = job.progress()
        moving = progress.state == "running"
        if moving:
            self._phase += min(gap, 0.5)
        shares = {
            c.source: (float(job.source_bytes[n]) / c.bytes if c.bytes else progress.fraction)
            for n, c in enumerate(job.plan.copies)
        }
        if job.plan is self.plan:
            self.diagram.set_job(shares, busy=moving, phase=self._phase)
        else:
            self.diagram.advance(self._phase)
        if now - self._last_map >= _MAP_EVERY:
            self._last_map = now
            self.map.advance()
        paused = progress.state == "paused"
        phase = "paused" if paused else str(progress.phase)
        self.query_one(TitleBar).tell(plan_words.title(job.plan), "paused" if paused else "running")
        name = job.plan.operation.name
        self.query_one("#job", JobPanel).show(name, progress, f"{phase} · {self.job_run.speed.text}")
        if self.job_run.over:
            self._finish()
        elif not self.cancellable:
            self.refresh_bindings()

    def _finish(self) -> None:
        assert self.job_run is not None
        run = self.job_run
        self.ended = self.changed = True
        self.session.touch(run.job.plan)
        self.map.advance()
        if run.job.error is None:
            self.job_done(run)
        elif isinstance(run.job.error, JobCancelledError):
            text = plan_words.cancelled(run.job.plan, run.job.progress().clusters)
            self.tell_end(run, text, "cancelled", end="bad")
        else:
            self.job_failed(run, run.job.error)
        self.job_over()
        self.refresh_bindings()

    def sequel(self, plan: Plan) -> Tidied | None:
        """Do what belongs to the end of a job that has ended well, in its thread."""
        del plan
        return None

    def job_over(self) -> None:
        """Do what follows the end of a job, be it good or bad."""

    def job_done(self, run: Run) -> None:
        """Show in the picture that a job has ended well."""
        assert self.diagram is not None
        plan = run.job.plan
        self.diagram.set_job({c.source: 1.0 for c in plan.copies}, busy=False)
        self.diagram.settle(_size_on_disk(plan.after[plan.target].path) if plan.target in plan.after else None)
        self.session.settle(plan)

    def job_failed(self, run: Run, error: BackchainError) -> None:
        """Show that a job has failed, and what to do about it."""
        self.tell_end(run, f"{error.title}: {error.message}", "failed", end="bad")
        self.complain(error)

    def complain(self, error: BackchainError) -> None:
        """Say what went wrong."""
        rows = [Row("", error.message, Tone.BAD), Row("", error.hint)]
        self.app.push_screen(Question(error.title, rows, [Answer("ok", "Back")]))

    def tell_end(self, run: Run, text: str, word: str, *, end: str = "good") -> None:
        """Write the last words on a job.

        Args:
            run: The job.
            text: What came of it.
            word: The same in one word.
            end: "good" or "bad".
        """
        plan = run.job.plan
        self.query_one("#job", JobPanel).show(plan.operation.name, run.job.progress(), text, end=end)
        self.query_one(TitleBar).tell(plan_words.title(plan), word)
        if plan is self.plan:
            self.picture.border_subtitle = "" if end == "good" else f"{word}: the lower row was not reached"

    def action_pause(self) -> None:
        """Stop before the next cluster."""
        self._with_job(lambda run: run.job.pause())

    def action_resume(self) -> None:
        """Go on."""
        self._with_job(lambda run: run.job.resume())

    def action_step(self) -> None:
        """Copy one cluster, then pause."""
        self._with_job(lambda run: run.job.step())

    def action_faster(self) -> None:
        """Raise the speed."""
        self._with_job(lambda run: run.faster())

    def action_slower(self) -> None:
        """Lower the speed."""
        self._with_job(lambda run: run.slower())

    def action_cancel(self) -> None:
        """Stop the job."""
        self._with_job(lambda run: run.job.cancel())

    def _with_job(self, act: Callable[[Run], object]) -> None:
        if self.job_run is not None and self.running:
            act(self.job_run)
            self.tick()
            self.refresh_bindings()

    def leave_job(self) -> None:
        """Cancel the job on the way out, or wait a moment for what follows its end."""
        if self.job_run is not None:
            self.job_run.leave()


def _size_on_disk(path: Path) -> int | None:
    """Give the bytes that a file takes on disk, None when it cannot be looked at."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return None
