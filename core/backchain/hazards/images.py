"""Hazards that single images show: who holds them, what is wrong with them, what they hold besides the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain import locks, pending
from backchain.filename import printable
from backchain.hazards.facts import BLOCK, CONFIRM, WARN, Facts, unwritable
from backchain.image import ImageState
from backchain.operations import Commit, Rebase
from backchain.plan import Hazard

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from backchain.graph import ChainGraph
    from backchain.image import ImageId


def in_use(facts: Facts) -> Iterator[Hazard]:
    """An image that another process has open."""
    yield from used_images(facts.graph, facts.shape.involved, frozenset(facts.shape.written))


def used_images(graph: ChainGraph, images: Iterable[ImageId], written: Collection[ImageId]) -> Iterator[Hazard]:
    """Find the images that another process has open in a way that does not go together with ours."""
    for image in images:
        info = graph[image]
        if info.fingerprint is not None and locks.probe(info.path, writing=image in written):
            yield Hazard(
                "in-use", BLOCK, (image,),
                f"{info.name} is in use by another process; shut the machine down or use its own block jobs",
            )  # fmt: skip


def damaged(facts: Facts) -> Iterator[Hazard]:
    """An image that is marked corrupt or was not closed cleanly."""
    yield from damaged_images(facts.graph, facts.shape.involved)


def damaged_images(graph: ChainGraph, images: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the images that are marked corrupt or were not closed cleanly."""
    for image in images:
        info = graph[image]
        if info.state is ImageState.CORRUPT:
            yield Hazard("corrupt", BLOCK, (image,), f"{info.name} is marked corrupt; run qemu-img check -r all on it")
        elif info.state is ImageState.DIRTY:
            yield Hazard(
                "dirty", BLOCK, (image,), f"{info.name} was not closed cleanly; run qemu-img check -r all on it"
            )  # -r leaks takes the mark away and leaves the refcounts wrong: the next write overwrites data


def half_committed(facts: Facts) -> Iterator[Hazard]:
    """An image whose own view is to be kept, and that an interrupted commit has changed in part."""
    yield from mixed_images(facts.graph, facts.view[:1])


def mixed_images(graph: ChainGraph, images: Iterable[ImageId]) -> Iterator[Hazard]:
    """Find the images that read a mix of before and after, as a commit through them was interrupted."""
    mixed = pending.half_committed(graph)
    for image in images:
        if image in mixed:
            yield Hazard(
                "corrupt", CONFIRM, (image,),
                f"{graph[image].name} may hold a part of what a commit was to bring that did not come to its end, so "
                f"that it reads a mix of before and after; complete that commit first (backchain recover --finish, or "
                f"commit the same again)",
            )  # fmt: skip


def data_files(facts: Facts) -> Iterator[Hazard]:
    """A commit changes its target: an image whose data that file holds is a sibling."""
    if not isinstance(facts.operation, Commit):
        return
    for user in facts.graph.users.get(facts.target, ()):
        if user.is_data:
            yield Hazard(
                "needed-file", BLOCK, (facts.target,),
                f"{facts.graph[facts.target].name} is {printable(user.need)}, which this commit would change; commit "
                f"elsewhere",
            )  # fmt: skip


def permission(facts: Facts) -> Iterator[Hazard]:
    """A file that this user may not read or write, or that is not written here."""
    written = frozenset(facts.shape.written)
    for image in facts.shape.written:
        info = facts.graph[image]
        if info.format == "qcow2" and info.fingerprint is not None and info.path.is_block_device():
            yield Hazard(
                "permission", BLOCK, (image,),
                f"{info.name} is a qcow2 image on a block device, which is not written here; use qemu-img",
            )  # fmt: skip
    for image in facts.shape.involved:
        info = facts.graph[image]
        mode = os.W_OK | os.R_OK if image in written else os.R_OK
        if info.fingerprint is not None and not os.access(info.path, mode):
            unread = "cannot be read by this user; change its permissions"
            problem = unwritable(info.path) if os.access(info.path, os.R_OK) else unread
            yield Hazard("permission", BLOCK, (image,), f"{info.name} {problem}")


def encryption(facts: Facts) -> Iterator[Hazard]:
    """Encrypted data that would be stored plain; and data that cannot be read without a key."""
    encrypted = [i for i in facts.shape.involved if facts.graph[i].encrypted]
    target = facts.graph[facts.target]
    downgraded = [i for i in encrypted if i in facts.sources and not target.encrypted]
    if downgraded:
        yield Hazard(
            "encryption", CONFIRM, tuple(downgraded),
            f"{facts.names(downgraded)} {'is' if len(downgraded) == 1 else 'are'} encrypted, {target.name} is not: "
            f"the data would be stored as plain text",
        )  # fmt: skip
    if encrypted and facts.sources:
        yield Hazard(
            "encryption", BLOCK, tuple(encrypted),
            f"{facts.names(encrypted)}: the builtin engine has no key to encrypted data; use qemu-img with --object "
            f"secret",
        )  # fmt: skip


def snapshots(facts: Facts) -> Iterator[Hazard]:
    """Internal snapshots of an image read through its backing file too, and are not looked after here."""
    operation = facts.operation
    losing = facts.sources if isinstance(operation, Commit) else (facts.target,)
    if isinstance(operation, Rebase) and facts.graph.backing_of(facts.target) == operation.backing:
        losing = ()  # the same file by another name
    for image in losing:
        info = facts.graph[image]
        if info.header is not None and info.header.nb_snapshots:
            yield Hazard(
                "internal-snapshots", CONFIRM, (image,),
                f"{info.name} holds {info.header.nb_snapshots} internal snapshot(s), which this operation silently "
                f"changes; export or delete them first",
            )  # fmt: skip


def bitmaps(facts: Facts) -> Iterator[Hazard]:
    """Persistent dirty bitmaps that do not go down with the data, or do not record it."""
    if not isinstance(facts.operation, Commit):
        return
    for image in (*facts.sources, facts.target):
        info = facts.graph[image]
        if info.has_bitmaps and image == facts.target:
            message = f"{info.name}'s persistent bitmaps do not record this commit and are marked inconsistent"
        elif info.has_bitmaps:
            message = (
                f"{info.name}'s persistent bitmaps are not carried down; if a backup needs them, merge them first "
                f"(qemu-img bitmap --merge)"
            )
        else:
            continue
        yield Hazard("bitmaps", WARN, (image,), message)


def grows(facts: Facts) -> Iterator[Hazard]:
    """A commit of a larger top makes its target larger."""
    top, target = facts.graph[facts.view[0]], facts.graph[facts.target]
    if not isinstance(facts.operation, Commit) or top.virtual_size is None or target.virtual_size is None:
        return
    if top.virtual_size <= target.virtual_size:
        return
    header = target.header
    if header is not None and header.version < 3 and header.nb_snapshots:
        severity, why = BLOCK, "which a version 2 image with internal snapshots cannot do"
    elif target.fingerprint is not None and target.path.is_block_device():
        severity, why = BLOCK, "which a block device cannot do"
    else:
        severity, why = WARN, "because the top is larger"
    yield Hazard("base-grows", severity, (facts.target,), f"{target.name} grows to {top.virtual_size:,} bytes, {why}")


DETECTORS: tuple[Callable[[Facts], Iterator[Hazard]], ...] = (
    in_use, damaged, half_committed, data_files, permission, encryption, snapshots, bitmaps, grows,
)  # fmt: skip
