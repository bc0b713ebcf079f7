"""One run of a commit, a pull or a rebase: open files, locks, and the steps in their order.

Windows of the guest's disk make up a batch: their data is carried to its place, then their metadata is made valid
(the order is `backchain.qcow2.writer`'s). Cancelled or failed between two batches the chain reads the same: a commit's
target is covered by the layers above it, the target of a pull or a rebase holds the same data that its backing file
gave. Only when all of it is in place, and reads as it should through the new chain, does a link change.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from backchain import locks
from backchain.clustermap import Qcow2Layer, make_layer
from backchain.engines.copier import Copier
from backchain.engines.freshness import require_same_file, require_same_machines, require_same_overlays
from backchain.engines.intents import intent_of
from backchain.errors import BackchainError, StalePlanError
from backchain.image import naming, require_header
from backchain.jobs import Cell, Phase
from backchain.journal import Journal
from backchain.operations import Commit, Delete, Snapshot
from backchain.qcow2 import format as fmt
from backchain.qcow2.writer import Qcow2Writer, require_writable
from backchain.record import Stage
from backchain.shapes import shape_of
from backchain.transfer import transfer_of
from backchain.verify import Extent, Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from backchain.image import ImageId
    from backchain.jobs import Job
    from backchain.plan import Plan, Relink
    from backchain.transfer import Transfer

_BATCH_BYTES = 512 * 1024 * 1024
"""Guest data that is copied between two flushes, at least; a flush costs as much as some megabytes of copying."""
_BATCH_TABLES = 256
"""Changed L2 tables that are kept in memory at most: 16 MiB with 64 KiB clusters."""


class Rewriting:
    """One run; the files are open and locked from the beginning until `stack` is left."""

    def __init__(self, plan: Plan, job: Job, stack: ExitStack) -> None:
        """Open the images as QEMU would, and make sure that they are what was planned for.

        Raises:
            ImageInUseError: Another process uses one.
            StalePlanError: The chain is no longer as it was.
            UnsupportedImageError: An image has a feature that is not written.
            OSError: One cannot be opened.
        """
        assert not isinstance(plan.operation, Snapshot | Delete)
        self._plan = plan
        self._job = job
        self._shape = shape_of(plan.before, plan.operation)
        self._tidy = True
        self._writers: dict[ImageId, Qcow2Writer] = {}
        self._descriptors: dict[ImageId, int] = {}
        written = frozenset(self._shape.written)
        for image in self._shape.involved:
            self._open(image, stack, writing=image in written)
        require_same_overlays(plan, self._shape.involved)
        if isinstance(plan.operation, Commit):
            require_same_machines(plan)
        self._before = os.fstat(self._descriptors[plan.target])

    def _open(self, image: ImageId, stack: ExitStack, *, writing: bool) -> None:
        info = self._plan.before[image]
        if info.fingerprint is None:  # a lost backing file, whose link is repaired
            return
        try:
            descriptor = os.open(info.path, (os.O_RDWR if writing else os.O_RDONLY) | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StalePlanError(f"{info.display_path} is gone", "plan again") from error
        stack.callback(os.close, descriptor)
        locks.take(descriptor, info.path, writing=writing)
        require_same_file(self._plan, image, descriptor)
        self._descriptors[image] = descriptor
        if writing and info.format == "qcow2":
            with naming(info):
                require_writable(require_header(info))
                self._writers[image] = Qcow2Writer(descriptor, require_header(info))

    def perform(self, extent: Extent) -> Extent:
        """Copy, verify, relink, clean up; give how much was verified.

        Raises:
            ImageError: An image is damaged in a way that forbids writing.
            JobCancelledError: The user cancelled.
            VerificationError: The new chain would not read what it should.
            OSError: Reading or writing failed.
        """
        plan, job = self._plan, self._job
        for image, writer in self._writers.items():
            job.check_cancelled()
            with naming(plan.before[image]):
                writer.check()
        verifier = Verifier(plan, extent if plan.copies else Extent.NO)
        verifier.before(job.check_cancelled)
        with self._journalled() as journal:
            for writer in self._writers.values():
                writer.prepare()
            with naming(plan.before[plan.target]):
                self._move()
            job.enter(Phase.VERIFYING)
            verifier.after(pause=job.check_cancelled)
            job.check_cancelled()  # the last moment at which nothing but the target has changed
            job.enter(Phase.RELINKING)
            if plan.relinked:
                journal.reach(Stage.RELINKING)
            for relink in plan.relinked:
                self._relink(relink)
            if plan.emptied is not None:
                job.enter(Phase.CLEANING)
                journal.reach(Stage.CLEANING)
                with naming(plan.before[plan.emptied]):
                    self._writers[plan.emptied].empty()
                    self._forget_mark(plan.emptied)
                verifier.after(plan.emptied)
        return verifier.extent

    @contextmanager
    def _journalled(self) -> Iterator[Journal]:
        """Keep a journal as long as something is half done; and afterwards where images were left invalid."""
        commit = isinstance(self._plan.operation, Commit)
        journal = Journal.begin(intent_of(self._plan))
        try:
            yield journal
        except BaseException:
            begun = commit and bool((self._job.cells != Cell.WAITING).any())
            amid = self._job.progress().phase in {Phase.RELINKING, Phase.CLEANING}
            if begun or amid or not self._tidy:
                with suppress(OSError):
                    journal.reach(Stage.ABANDONED)
                journal.close()
            else:
                journal.discard()
            raise
        if self._plan.invalidated:
            try:
                journal.reach(Stage.LEFT)
            finally:
                journal.close()
        else:
            journal.discard()

    def growth(self) -> int:
        """Give the bytes by which the target's file grew on disk; 0 when it shrank."""
        after = os.fstat(self._descriptors[self._plan.target])
        return max(0, (after.st_blocks - self._before.st_blocks) * 512)

    def _move(self) -> None:
        """Bring the data into the target; its size grows last."""
        plan = self._plan
        images = dict.fromkeys((*self._shape.view, *(self._shape.below or ())))
        layers = {i: make_layer(plan.before[i], self._descriptors[i]) for i in images if i in self._descriptors}
        transfer = transfer_of(self._shape, layers, plan.copy_list, self._job.check_cancelled)
        if transfer is None:
            return
        grow_to = self._grow_to()
        target = self._writers.get(plan.target)
        with self._tidied_on_failure(target):
            if target is not None:
                if isinstance(plan.operation, Commit):
                    target.mark_bitmaps_in_use()
                if grow_to is not None:
                    target.reserve_size(grow_to)
                layer = layers[plan.target]
                assert isinstance(layer, Qcow2Layer)
                layer.file = target.file  # the writer keeps its L1 table current
            self._copy(transfer, target)
        if grow_to is not None:
            self._grow(grow_to)

    def _copy(self, transfer: Transfer, target: Qcow2Writer | None) -> None:
        job, plan = self._job, self._plan
        descriptor = self._descriptors[plan.target]
        pending = 0
        with closing(Copier(transfer, descriptor, job)) as copier:
            for window in transfer.windows():
                job.enter(Phase.COPYING)
                hosts = target.place(window.tables) if target and window.tables else None
                copier.copy(window, hosts)
                pending += int(window.pieces.length.sum())
                if target is not None and (pending >= _BATCH_BYTES or target.pending_tables >= _BATCH_TABLES):
                    job.enter(Phase.FLUSHING)
                    copier.finish()
                    target.commit_batch()
                    pending = 0
            copier.finish()
        job.enter(Phase.FLUSHING)
        if target is not None:
            target.commit_batch()
            target.finish()
        else:
            os.fdatasync(descriptor)

    @contextmanager
    def _tidied_on_failure(self, target: Qcow2Writer | None) -> Iterator[None]:
        """Give back, when the block fails, what the target has counted for it in vain."""
        try:
            yield
        except BaseException:
            if target is not None:
                try:
                    target.abandon_batch()
                except (BackchainError, OSError):  # what went wrong first is what counts
                    self._tidy = False
            raise

    def _grow_to(self) -> int | None:
        """Give the virtual size in bytes that a commit's target must grow to, or None."""
        top, target = self._plan.before[self._shape.view[0]], self._plan.before[self._plan.target]
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

    def _forget_mark(self, image: ImageId) -> None:
        """Drop what an emptied overlay remembers of its base, which holds more now."""
        writer = self._writers[image]
        if writer.header.extension(fmt.EXT_BASE_MARK) is not None:
            writer.set_backing(writer.header.backing_name, writer.header.backing_format)

    def _relink(self, relink: Relink) -> None:
        name = os.fsencode(relink.name) if relink.name is not None else None
        with naming(self._plan.before[relink.image]):
            self._writers[relink.image].set_backing(name, relink.format)
