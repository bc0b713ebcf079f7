"""Jobs that follow a script instead of a clock, so that what a test sees does not depend on time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from backchain.plan import Plan


class ScriptedJob(Job):
    """A job that admits few clusters at a time and calls back once a number of them has been admitted.

    Attributes:
        admitted: Clusters admitted so far.
        grants: Clusters of each admission, in order.
    """

    def __init__(self, plan: Plan, *, at: int, then: Callable[[Job], None] = Job.cancel, grant: int = 1) -> None:
        """Call `then` (by default: cancel) once, before the admission that follows cluster number `at`."""
        super().__init__(plan)
        self.admitted = 0
        self.grants: list[int] = []
        self._at = at
        self._then = then
        self._grant = grant

    def admit_now(self, clusters: int, bytes_each: int) -> int:
        if self.admitted >= self._at:
            then, self._then = self._then, _nothing
            then(self)
        asked = min(clusters, self._grant, max(self._at - self.admitted, 1))
        granted = super().admit_now(asked, bytes_each)
        if granted:
            self.admitted += granted
            self.grants.append(granted)
        return granted


def _nothing(job: Job) -> None:
    pass
