"""What a plan is about to do, in the words of the journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backchain.operations import Commit, Delete, Pull, Rebase
from backchain.record import Intent, Link, Written

if TYPE_CHECKING:
    from backchain.image import ImageId, ImageInfo
    from backchain.plan import Plan


def intent_of(plan: Plan) -> Intent:
    """Give what a plan is about to do, with paths in place of identities.

    They lead through no symlinked folder and no ``..``, so that they tell how the images lie from the journal.
    """
    written = [plan.target, *(r.image for r in plan.relinked)]
    written += [plan.emptied] if plan.emptied is not None else []
    spent = plan.invalidated
    if isinstance(plan.operation, Delete):
        written, spent = list(plan.operation.images), plan.operation.images
    links = tuple(
        Link(_place(plan.info(r.image)), _place(plan.info(r.new)) if r.new is not None else None, r.name, r.format)
        for r in plan.relinked
    )
    return Intent(
        plan.operation.name, _arguments(plan), _place(plan.info(plan.target)),
        tuple(_written(plan.info(i)) for i in dict.fromkeys(written)), links,
        tuple((_place(plan.before[i]), plan.fingerprints[i]) for i in spent if i in plan.fingerprints),
    )  # fmt: skip


def _place(info: ImageInfo) -> Path:
    return _resolved(info.path) if info.remote is None else info.path


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path.parent)) / path.name


def _written(info: ImageInfo) -> Written:
    if info.fingerprint is None:
        return Written(_place(info))
    return Written(_place(info), info.format, info.fingerprint.inode, info.fingerprint.mtime_ns)


def _arguments(plan: Plan) -> dict[str, Any]:
    def path(image: ImageId | None) -> str | None:
        return str(_place(plan.info(image))) if image is not None else None

    operation = plan.operation
    if isinstance(operation, Commit):
        return {"base": path(operation.base), "top": path(operation.top), "keep_top": operation.keep_top}
    if isinstance(operation, Pull):
        return {"image": path(operation.image), "base": path(operation.base)}
    if isinstance(operation, Rebase):
        return {
            "image": path(operation.image), "backing": path(operation.backing), "unsafe": operation.unsafe,
            "backing_name": operation.backing_name, "backing_format": operation.backing_format,
        }  # fmt: skip
    if isinstance(operation, Delete):
        return {"images": [path(i) for i in operation.images]}
    return {"image": path(operation.image), "overlay": str(_resolved(operation.overlay))}
