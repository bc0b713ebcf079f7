"""The builtin engine: runs a plan with backchain's own qcow2 code, and no QEMU on the machine.

What moves data or changes links is run by `backchain.engines.rewriting`, what makes or removes files by
`backchain.engines.files`. Here a plan is refused or admitted, and every run comes to exactly one end.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from backchain.engines import files
from backchain.engines.base import Result
from backchain.engines.rewriting import Rewriting
from backchain.errors import BackchainError, io_error
from backchain.filename import printable
from backchain.operations import Delete, Snapshot
from backchain.verify import Extent

if TYPE_CHECKING:
    from backchain.jobs import Job
    from backchain.plan import Plan


class BuiltinEngine:
    """Runs every operation on qcow2 and raw images."""

    name = "builtin"

    def run(
        self, plan: Plan, job: Job, forced: frozenset[str] = frozenset(), *, verify: Extent = Extent.SAMPLED
    ) -> Result:
        """Run `plan`, marking `job`; see `backchain.engines.base.Engine.run`."""
        started = time.monotonic()
        try:
            if (refusal := plan.refusal(forced)) is not None:
                raise refusal
            job.start()
            job.check_cancelled()
            growth, verified = _perform(plan, job, verify)
            files.forget(plan)
            progress = job.progress()
            seconds = time.monotonic() - started
            result = Result(plan, "done", progress.clusters, progress.bytes, growth, seconds, verified)
        except BackchainError as error:
            job.end(error)
            raise
        except OSError as error:
            named = isinstance(error.filename, str)
            where = printable(error.filename) if named else plan.info(plan.target).display_path
            failure = io_error(where, error, "the chain still reads the same; mend the cause and run it again")
            job.end(failure)
            raise failure from error
        except BaseException as error:
            job.end(BackchainError(f"{type(error).__name__}: {error}"))
            raise
        job.end()
        return result


def _perform(plan: Plan, job: Job, verify: Extent) -> tuple[int, str]:
    """Run the plan; give the bytes that the target grew by on disk, and what was verified."""
    if isinstance(plan.operation, Snapshot):
        return files.make_overlay(plan, plan.operation), str(Extent.NO)
    if isinstance(plan.operation, Delete):
        files.remove(plan)
        return 0, str(Extent.NO)
    with ExitStack() as stack:
        run = Rewriting(plan, job, stack)
        verified = run.perform(verify)
        return run.growth(), str(verified)
