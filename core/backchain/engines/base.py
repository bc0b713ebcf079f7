"""What every engine offers: run a plan, marking a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from backchain.verify import Extent

if TYPE_CHECKING:
    from backchain.errors import BackchainError
    from backchain.jobs import Job
    from backchain.plan import Plan


@dataclass(frozen=True, slots=True)
class Result:
    """What a run really did, or what became of it.

    Attributes:
        plan: The plan that was run.
        status: "done"; "cancelled" or "failed" when the run ended so; "blocked" when hazards kept it from beginning.
        clusters: Clusters written.
        bytes: Guest data bytes written.
        growth_bytes: What the target's file grew by on disk, in bytes (0 when it shrank).
        seconds: Wall time.
        verified: What was verified: "no", "sampled" or "whole".
        error: Why it is not done; empty when it is.
    """

    plan: Plan
    status: str
    clusters: int
    bytes: int
    growth_bytes: int
    seconds: float
    verified: str
    error: str = ""

    @classmethod
    def unfinished(cls, job: Job, error: BackchainError) -> Result:
        """Make the result of a run that `error` has prevented, or has ended amid its work.

        Args:
            job: The run's job. Nobody looks at what the target's file has grown by when the run ends amid its work.
            error: Why it is not done.
        """
        progress = job.progress()
        status = str(job.state) if job.state.ended else "blocked"
        return cls(job.plan, status, progress.clusters, progress.bytes, 0, progress.seconds, "no", error.message)

    def to_json(self) -> dict[str, Any]:
        """Give the result's JSON document: the plan's fields with what was really written."""
        return self.plan.to_json() | {
            "clusters": self.clusters,
            "bytes": self.bytes,
            "growth_bytes": self.growth_bytes,
            "status": self.status,
            "seconds": round(self.seconds, 6),
            "verified": self.verified,
            **({"error": self.error} if self.error else {}),
        }


class Engine(Protocol):
    """A way to run plans."""

    name: str

    def run(
        self, plan: Plan, job: Job, forced: frozenset[str] = frozenset(), *, verify: Extent = Extent.SAMPLED
    ) -> Result:
        """Run `plan`, marking `job` as it goes; ends the job exactly once.

        Args:
            plan: The plan; its chain must still be as it was.
            job: A fresh job of that plan. It has ended when this returns or raises.
            forced: Codes of hazards of severity "confirm" that the user has accepted.
            verify: How much of what the surviving images read is compared with what they read before.

        Raises:
            StalePlanError: The chain is no longer as it was when the plan was made.
            BlockedError: A hazard of the plan forbids it.
            ImageInUseError: Another process holds a lock.
            UnsupportedImageError: An image has a feature that this engine does not write.
            ImageIOError: Reading or writing failed; the chain still reads the same.
            JobCancelledError: The user cancelled; likewise.
            VerificationError: A surviving image would not read what it should; no link was changed.
        """
        ...
