"""The builtin engine: runs a plan with backchain's own qcow2 code, and no QEMU on the machine.

Windows of the guest's disk make up a batch: their data is copied in the kernel, then their metadata is made valid
(the order is `backchain.qcow2.writer`'s). Cancelled or failed between two batches the chain reads the same: a commit's
target is covered by the layers above it, a pull's target holds the same data that its backing file gave.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from backchain import locks
from backchain.clustermap import Qcow2Layer, make_layer
from backchain.engines.base import Result
from backchain.engines.copier import Copier
from backchain.errors import (
    BackchainError,
    BlockedError,
    ImageInUseError,
    ImageIOError,
    StalePlanError,
    UnsupportedImageError,
)
from backchain.image import Fingerprint, naming, require_header
from backchain.jobs import Phase
from backchain.operations import Commit
from backchain.planning import transfer_over, view_of
from backchain.qcow2 import format as fmt
from backchain.qcow2.writer import Qcow2Writer

if TYPE_CHECKING:
    from backchain.image import ImageId
    from backchain.jobs import Job
    from backchain.plan import Plan, Relink
    from backchain.transfer import Transfer

_BATCH_BYTES = 512 * 1024 * 1024
"""Guest data that is copied between two flushes, at least; a flush costs as much as some megabytes of copying."""
_BATCH_TABLES = 256
"""Changed L2 tables that are kept in memory at most: 16 MiB with 64 KiB clusters."""


class BuiltinEngine:
    """Runs commits and pulls on qcow2 and raw images."""

    name = "builtin"

    def run(self, plan: Plan, job: Job, forced: frozenset[str] = frozenset()) -> Result:
        """Run `plan`, marking `job`; see `backchain.engines.base.Engine.run`.

        Args:
            plan: The plan; its chain must still be as it was.
            job: A fresh job of that plan. It has ended when this returns or raises.
            forced: Codes of hazards of severity "confirm" that the user has accepted.

        Raises:
            BlockedError: A hazard stops the run; `ImageInUseError` when it is a lock.
            StalePlanError: The chain has changed since the plan was made.
            UnsupportedImageError: An image has a feature that this engine does not write.
            ImageIOError: Reading or writing failed; the chain still reads the same.
            JobCancelledError: The user cancelled; likewise.
        """
        started = time.monotonic()
        try:
            _refuse(plan, forced)
            job.start()
            with ExitStack() as stack:
                run = _Run(plan, job, stack)
                with naming(plan.before[plan.target]):
                    run.perform()
                result = Result(
                    plan, "done", job.progress().clusters, job.progress().bytes, run.growth(),
                    time.monotonic() - started, "no",
                )  # fmt: skip
        except BackchainError as error:
            job.end(error)
            raise
        except OSError as error:
            failure = ImageIOError(
                f"{plan.before[plan.target].display_path}: {os.strerror(error.errno or 0)}",
                "the chain still reads the same; mend the cause and run it again",
            )
            job.end(failure)
            raise failure from error
        except BaseException as error:
            job.end(BackchainError(f"{type(error).__name__}: {error}"))
            raise
        job.end()
        return result


def _refuse(plan: Plan, forced: frozenset[str]) -> None:
    stopping = plan.stopping(forced)
    if not stopping:
        return
    worst = next((h for h in stopping if h.code == "in-use"), stopping[0])
    if worst.code == "in-use":
        raise ImageInUseError(worst.message)
    raise BlockedError(f"{worst.code}: {worst.message}")


class _Run:
    """One run: open files, locks, and the steps in their order."""

    def __init__(self, plan: Plan, job: Job, stack: ExitStack) -> None:
        self._plan = plan
        self._job = job
        self._view = view_of(plan)
        self._writers: dict[ImageId, Qcow2Writer] = {}
        self._descriptors: dict[ImageId, int] = {}
        emptied = () if plan.emptied is None else (plan.emptied,)
        self._written = {plan.target, *(r.image for r in plan.relinked), *emptied}
        for image in dict.fromkeys((*self._view, *self._written)):
            self._open(image, stack)
        self._before = os.fstat(self._descriptors[plan.target])

    def _open(self, image: ImageId, stack: ExitStack) -> None:
        """Open an image as QEMU would, take its locks, and make sure that it is what was planned for."""
        info = self._plan.before[image]
        writing = image in self._written
        descriptor = os.open(info.path, (os.O_RDWR if writing else os.O_RDONLY) | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        locks.take(descriptor, info.path, writing=writing)
        if Fingerprint.of(os.fstat(descriptor)) != self._plan.fingerprints.get(image):
            raise StalePlanError(f"{info.display_path} has changed since the plan was made", "plan again")
        self._descriptors[image] = descriptor
        if writing and info.format == "qcow2":
            _check_writable(info.display_path, require_header(info).incompatible_features)
            with naming(info):
                self._writers[image] = Qcow2Writer(descriptor, require_header(info))

    def perform(self) -> None:
        """Copy, then relink, then clean up."""
        plan, job = self._plan, self._job
        layers = [make_layer(plan.before[i], self._descriptors[i]) for i in self._view]
        transfer = transfer_over(layers, self._view, plan.target, plan.sources)
        grow_to = self._grow_to()
        target = self._writers.get(plan.target)
        for image in self._writers:
            self._check(image)
        for writer in self._writers.values():
            writer.prepare()
        if target is not None:
            if isinstance(plan.operation, Commit):
                target.mark_bitmaps_in_use()
            if grow_to is not None:
                target.reserve_size(grow_to)
            layer = layers[transfer.target]
            assert isinstance(layer, Qcow2Layer)
            layer.file = target.file  # the writer keeps its L1 table current
        self._copy(transfer, target)
        job.enter(Phase.RELINKING)
        if grow_to is not None:
            self._grow(grow_to)
        for relink in plan.relinked:
            self._relink(relink)
        job.enter(Phase.CLEANING)
        if plan.emptied is not None:
            with naming(plan.before[plan.emptied]):
                self._writers[plan.emptied].empty()

    def _check(self, image: ImageId) -> None:
        """Make sure, before anything is written, that an image is sound and that its new link fits."""
        writer = self._writers[image]
        with naming(self._plan.before[image]):
            writer.check()
            for relink in self._plan.relinked:
                if relink.image == image:
                    writer.header.with_backing(_recorded(relink), relink.format).encode()

    def growth(self) -> int:
        """Give the bytes by which the target's file grew on disk; 0 when it shrank."""
        after = os.fstat(self._descriptors[self._plan.target])
        return max(0, (after.st_blocks - self._before.st_blocks) * 512)

    def _copy(self, transfer: Transfer, target: Qcow2Writer | None) -> None:
        job, plan = self._job, self._plan
        descriptor = self._descriptors[plan.target]
        copier = Copier(transfer, descriptor, job)
        pending = 0
        try:
            for window in transfer.windows():
                job.enter(Phase.COPYING)
                hosts = target.place(window.first, window.tables) if target and window.tables else None
                copier.copy(window, hosts)
                pending += int(window.pieces.length.sum())
                if target is not None and (pending >= _BATCH_BYTES or target.pending_tables >= _BATCH_TABLES):
                    job.enter(Phase.FLUSHING)
                    target.commit_batch()
                    pending = 0
            job.enter(Phase.FLUSHING)
            if target is not None:
                target.commit_batch()
            if target is not None:
                target.finish()
            else:
                os.fdatasync(descriptor)
        except BaseException:
            if target is not None:
                target.abandon_batch()
            raise

    def _grow_to(self) -> int | None:
        """Give the virtual size in bytes that a commit's target must grow to, or None."""
        top, target = self._plan.before[self._view[0]], self._plan.before[self._plan.target]
        size = top.virtual_size or 0
        return size if size > (target.virtual_size or 0) else None

    def _grow(self, size: int) -> None:
        writer = self._writers.get(self._plan.target)
        if writer is not None:
            writer.set_size(size)
            return
        descriptor = self._descriptors[self._plan.target]
        if os.fstat(descriptor).st_size < size:
            os.ftruncate(descriptor, size)
        os.fdatasync(descriptor)

    def _relink(self, relink: Relink) -> None:
        with naming(self._plan.before[relink.image]):
            self._writers[relink.image].set_backing(_recorded(relink), relink.format)


def _recorded(relink: Relink) -> bytes | None:
    return os.fsencode(relink.name) if relink.name is not None else None


def _check_writable(name: str, incompatible: int) -> None:
    """Refuse what is read but not written here.

    Raises:
        UnsupportedImageError: The image is dirty, corrupt, or has a feature that is not written.
    """
    allowed = fmt.INCOMPAT_COMPRESSION | fmt.INCOMPAT_EXTL2
    if incompatible & ~allowed:
        raise UnsupportedImageError(f"{name}: incompatible features {incompatible & ~allowed:#x} are not written")
