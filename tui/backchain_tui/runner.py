"""One run of a plan in a thread of its own, which never keeps anybody waiting. No Textual here."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backchain.errors import BackchainError

if TYPE_CHECKING:
    from backchain.engines.base import Engine
    from backchain.jobs import Job
    from backchain.plan import Plan
    from backchain_tui.speed import Speed

LEAVE_SECONDS = 2.0
"""How long leaving waits for a cancelled job to stop; then it leaves all the same, as the chain stays readable."""


class Run:
    """A job and its thread.

    Attributes:
        job: The job, for whoever shows it.
        speed: Its rate limit.
        verified: How much of what the surviving images read was compared: "no", "sampled" or "whole"; "" until then.
    """

    def __init__(self, plan: Plan, forced: frozenset[str], speed: Speed) -> None:
        """Make a run that has not started.

        Args:
            plan: The plan to run.
            forced: Codes of the hazards that the user has confirmed.
            speed: The rate limit to start with.
        """
        from backchain.jobs import Job

        self.job: Job = Job(plan, bytes_per_second=speed.limit)
        self.speed = speed
        self.verified = ""
        self._plan = plan
        self._forced = forced
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
        except BackchainError as error:
            self.job.end(error)
        except Exception as error:  # noqa: BLE001 - a defect of the engine must end the job, or the screen waits for ever
            self.job.end(BackchainError(f"{type(error).__name__}: {error}", "this is a defect of backchain"))
        else:
            self.job.end()
