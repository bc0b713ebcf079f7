"""Running what makes or removes whole files: a new overlay, and the removal of images."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from backchain import locks
from backchain.basemark import BaseMark
from backchain.engines.freshness import require_same_file, require_same_machines, require_same_overlays
from backchain.engines.intents import intent_of
from backchain.errors import BackchainError, StalePlanError, UsageError
from backchain.filename import printable
from backchain.hostfile import sync_folder
from backchain.journal import PREFIX, SCRATCH_SUFFIX, Journal, erase, note
from backchain.operations import Commit, Delete
from backchain.pending import find_path, is_settled, may_exist, spent_images
from backchain.qcow2.create import create_image
from backchain.record import Stage, Written
from backchain.recovery import tidy_up

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.operations import Snapshot
    from backchain.plan import Plan
    from backchain.record import Record


def make_overlay(plan: Plan, operation: Snapshot) -> int:
    """Make a new overlay: complete under a scratch name first, then under its own.

    Returns:
        Bytes that it takes on disk.

    Raises:
        StalePlanError: The chain has changed since the plan was made.
        UsageError: The file exists by now.
        OSError: There is no room.
    """
    info, relink = plan.before[operation.image], plan.relinked[0]
    chain = [plan.before[i] for i in plan.before.chain(operation.image)]
    with ExitStack() as stack:
        for below in chain:
            descriptor = _open(below.path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            locks.take(descriptor, below.path, writing=False)
            require_same_file(plan, below.id, descriptor)
        mark = None if any(below.encrypted for below in chain) else BaseMark.of(chain).encode()
        scratch = _scratch_name(operation.overlay)
        journal = Journal.begin(replace(intent_of(plan), written=(Written(scratch),)))
        try:
            link = (relink.name or "", relink.format or "raw")
            create_image(scratch, info.virtual_size or 0, backing=link, base_mark=mark)
            _take_name(scratch, operation.overlay)
        finally:
            try:
                scratch.unlink(missing_ok=True)
                sync_folder(operation.overlay.parent)  # before the journal goes, which knows of the scratch name
            except OSError:
                journal.close()
                raise
            journal.discard()
    return operation.overlay.stat().st_blocks * 512


def _scratch_name(overlay: Path) -> Path:
    """Give a name beside `overlay` that nobody uses and no search takes for an image."""
    return overlay.parent / f"{PREFIX}{secrets.token_hex(8)}{SCRATCH_SUFFIX}"


def _take_name(scratch: Path, path: Path) -> None:
    """Give a finished file its name, which must still be free."""
    try:
        path.hardlink_to(scratch)
    except FileExistsError as error:
        raise UsageError(f"{printable(str(path))} exists already", "choose another name") from error
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise UsageError(f"{printable(str(path))} exists already", "choose another name") from None
        scratch.rename(path)


def remove(plan: Plan) -> None:
    """Remove the images of a plan, overlays before what backs them.

    Raises:
        StalePlanError: One has changed, or something needs it by now.
        ImageInUseError: Another process uses one.
        OSError: A file cannot be removed.
    """
    with ExitStack() as stack:
        for image in plan.removable:
            info = plan.before[image]
            descriptor = _open(info.path, os.O_RDONLY | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            locks.take(descriptor, info.path, writing=True)
            require_same_file(plan, image, descriptor)
        require_same_overlays(plan, plan.removable)
        require_same_machines(plan)
        journal = Journal.begin(intent_of(plan))
        try:
            for image in plan.removable:
                path = plan.before[image].path
                path.unlink()
                sync_folder(path.parent)  # an overlay is gone for good before what backs it goes
        except BaseException:
            with suppress(OSError):
                journal.reach(Stage.ABANDONED)
            journal.close()
            raise
        journal.discard()


def forget(plan: Plan) -> None:
    """Remove the journals that remember what is not the case any more, now that a plan was run.

    These are invalid images of which none is left, whoever removed them, and images that read a mix until now. What
    an interrupted commit was to bring may be in place by now, too: what it has leaked is given back, else its journal
    stays, as it knows of that.
    """
    for record in plan.before.surroundings.journals:
        if record.alive or record.intent.operation != "commit":
            continue
        with suppress(OSError):
            if record.stage is Stage.LEFT:
                if _are_gone(record, plan):
                    erase(record.path)
            elif record.stage is Stage.UNDONE:
                if _completes(plan, record) or is_settled(record, plan.after):
                    erase(record.path)
            elif _completes(plan, record):
                note(record, Stage.CLEANING)
                if _names_all(plan, record):
                    with suppress(BackchainError):
                        tidy_up(record, finished=True)


def _are_gone(record: Record, plan: Plan) -> bool:
    """Whether no invalid image that a journal remembers is left after a plan, under any name."""
    if find_path(plan.before, str(record.intent.target)) is None:  # another chain, of which the plan knows nothing
        return False
    gone = set(plan.removable) if isinstance(plan.operation, Delete) else set()
    left = any(may_exist(path) for path, _ in record.intent.invalidated)
    return not left and not spent_images([record], plan.before) - gone


def _completes(plan: Plan, record: Record) -> bool:
    """Whether a plan has committed all that a commit which did not come to its end was to bring."""
    operation, graph = plan.operation, plan.before
    top, base = (find_path(graph, record.intent.arguments[name]) for name in ("top", "base"))
    return isinstance(operation, Commit) and operation.base == base and top in graph.chain(operation.top)


def _names_all(plan: Plan, record: Record) -> bool:
    """Whether a plan has named as changed all images that an earlier operation wrote, as far as they are there."""
    named = {plan.target, plan.emptied, *plan.invalidated, *(r.image for r in plan.relinked)}
    return all(find_path(plan.before, str(w.path)) in {None, *named} for w in record.intent.written)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StalePlanError(f"{printable(str(path))} is gone", "plan again") from error
