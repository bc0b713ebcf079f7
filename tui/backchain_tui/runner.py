"""One run of a plan in a thread of its own, which never keeps anybody waiting. No Textual here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backchain.errors import BackchainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backchain.engines.base import Engine
    from backchain.jobs import Job
    from backchain.plan import Plan
    from backchain.recovery import Tidied
    from backchain_tui.speed import Speed

LEAVE_SECONDS = 2.0
"""How long leaving waits for a cancelled job to stop; then it leaves all the same, as the chain stays readable."""


class Run:
    """A job and its thread.

    Attributes:
        job: The job, for whoever shows it.
        speed: Its rate limit.
        verified: How much of what the surviving images read was compared: "no", "sampled" or "whole"; "" until then.
        tidied: What was tidied up after the job; None for nothing.
        problem: Why that could not be done; the job itself has ended well.
    """

    def __init__(
        self, plan: Plan, forced: frozenset[str], speed: Speed, sequel: Callable[[], Tidied | None] = lambda: None
    ) -> None:  # fmt: skip
        """Make a run that has not started.

        Args:
            plan: The plan to run.
            forced: Codes of the hazards that the user has confirmed.
            speed: The rate limit to start with.
            sequel: Done after a job that has ended well, in its thread: whoever leaves waits for it as for the job.
        """
        from backchain.jobs import Job

        self.job: Job = Job(plan, bytes_per_second=speed.limit)
        self.speed = speed
        self.verified = ""
        self.tidied: Tidied | None = None
        self.problem: BackchainError | None = None
        self._plan = plan
        self._forced = forced
        self._sequel = sequel
        self._thread = threading.Thread(target=self._run, name="backchain-job", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the job has ended and its thread is gone."""
        return self.job.state.ended and not self._thread.is_alive()

    def faster(self) -> None:
        """Raise the rate limit."""
        self.speed.faster()
        self.job.set_limit(self.speed.limit)

    def slower(self) -> None:
        """Lower the rate limit."""
        self.speed.slower(self.job.progress().rate)
        self.job.set_limit(self.speed.limit)

    def leave(self) -> None:
        """Cancel, and wait a moment for the engine to put its tools down."""
        self.job.cancel()
        self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        from backchain.engines.builtin import BuiltinEngine

        engine: Engine = BuiltinEngine()
        try:
            self.verified = engine.run(self._plan, self.job, self._forced).verified
        except Exception as error:  # noqa: BLE001 - a defect of the engine must end the job, or the screen waits for ever
            self.job.end(_told(error))
        else:
            self.job.end()
            self._tidy_up()

    def _tidy_up(self) -> None:
        try:
            self.tidied = self._sequel()
        except Exception as error:  # noqa: BLE001 - nobody else would tell of it
            self.problem = _told(error)


def _told(error: Exception) -> BackchainError:
    """Give an error as one that can be shown; what backchain does not raise on purpose is a defect."""
    if isinstance(error, BackchainError):
        return error
    return BackchainError(f"{type(error).__name__}: {error}", "this is a defect of backchain")
