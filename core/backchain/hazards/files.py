"""Hazards of making an overlay and of removing files: what else needs them, and what is not known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain import pending
from backchain.domains import read_domains
from backchain.filename import MAX_BACKING_NAME, printable, recorded_length
from backchain.hazards import formats, links
from backchain.hazards.facts import BLOCK, CONFIRM, names, unwritable
from backchain.hazards.images import damaged_images, mixed_images, used_images
from backchain.hazards.machines import removed_disks, unread_domains
from backchain.plan import Hazard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Delete, Snapshot


def snapshot_hazards(graph: ChainGraph, operation: Snapshot, name: str, needed: int) -> list[Hazard]:
    """Find what speaks against a new overlay.

    Args:
        graph: The images as they were found.
        operation: What is asked for.
        name: The backing file name that would be recorded.
        needed: Bytes that the new file takes.
    """
    chain = graph.chain(operation.image)
    return [
        *links.looped_chains(graph, chain), *links.lost_images(graph, chain),
        *links.invalid_images(graph, (operation.image,)), *links.untrusted_links(graph, chain),
        *links.forked_images(graph, chain), *damaged_images(graph, chain), *mixed_images(graph, (operation.image,)),
        *used_images(graph, chain, ()), *(h for i in chain for h in formats.recorded_format(graph, i)),
        *formats.format_of_base(graph, operation.image, operation.image, operation.backing_format),
        *_plain_overlay(graph, operation.image), *_new_file(graph, operation, name, needed),
    ]  # fmt: skip


def _plain_overlay(graph: ChainGraph, image: ImageId) -> Iterator[Hazard]:
    """The new overlay is not encrypted, whatever it is backed by."""
    if graph[image].encrypted:
        yield Hazard(
            "encryption", CONFIRM, (image,),
            f"{graph[image].name} is encrypted, the new overlay is not: what is written from then on is stored as "
            f"plain text; qemu-img create -o encrypt.format=luks makes one that is encrypted",
        )  # fmt: skip


def _new_file(graph: ChainGraph, operation: Snapshot, name: str, needed: int) -> Iterator[Hazard]:
    folder, shown = operation.overlay.parent, printable(operation.overlay.name)
    if recorded_length(name) > MAX_BACKING_NAME:
        yield Hazard(
            "path-trap", BLOCK, (operation.image,),
            f"the backing file name of {shown} would exceed {MAX_BACKING_NAME} bytes; make it nearer to "
            f"{graph[operation.image].name}",
        )  # fmt: skip
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Hazard(
            "permission", BLOCK, (operation.image,),
            f"{printable(str(folder))} {unwritable(folder, 'choose another folder')}",
        )  # fmt: skip
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        yield Hazard(
            "no-space", BLOCK, (operation.image,),
            f"{shown} needs {needed:,} bytes, but its file system has {free:,} bytes free; make room first",
        )  # fmt: skip


def delete_hazards(graph: ChainGraph, operation: Delete) -> list[Hazard]:
    """Find what still needs the files that are to be removed."""
    domains = read_domains()
    found = list(links.forked_images(graph, operation.images))
    removed = frozenset(operation.images)
    for image in operation.images:
        found += _needed(graph, image, removed)
        found += removed_disks(graph, (image,), domains)
        found += _forbidden(graph, image)
    found += _unfinished(graph, removed)
    found += used_images(graph, operation.images, removed)
    unknown = [*map(printable, graph.incomplete), *unread_domains(domains)]
    if unknown:
        message = "something unseen may need them: " + "; ".join(unknown)
        found.append(Hazard("unknown-overlays", CONFIRM, operation.images, message))
    return found


def _needed(graph: ChainGraph, image: ImageId, removed: frozenset[ImageId]) -> Iterator[Hazard]:
    name = graph[image].name
    overlays = [o for o in graph.overlays_of(image) if o not in removed]
    if overlays:
        yield Hazard(
            "needed-file", BLOCK, (image, *overlays),
            f"{name} backs {names(graph, overlays)}; rebase or pull {'it' if len(overlays) == 1 else 'them'} first",
        )  # fmt: skip
    for user in graph.users.get(image, ()):
        if user.image not in removed:
            yield Hazard("needed-file", BLOCK, (image,), f"{name} is needed: it is {printable(user.need)}")


def _unfinished(graph: ChainGraph, removed: frozenset[ImageId]) -> Iterator[Hazard]:
    """What a job that did not come to its end needs, though nothing is backed by it."""
    for top, mixed in pending.tops_of_mixes(graph):
        stays = [i for i in mixed if i not in removed]
        if top in removed and stays:
            yield Hazard(
                "needed-file", BLOCK, (top, *stays),
                f"{graph[top].name} holds what {names(graph, stays)} may lack of a commit that did not come to its "
                f"end; complete that commit first (backchain recover --finish, or commit the same again)",
            )  # fmt: skip
    for base, path in pending.bases_to_be(graph):
        if base in removed and pending.find_path(graph, str(path)) not in removed:
            yield Hazard(
                "needed-file", BLOCK, (base,),
                f"{graph[base].name} is needed: a rebase of {printable(str(path))} onto it was interrupted; finish or "
                f"leave that first (backchain recover)",
            )  # fmt: skip


def _forbidden(graph: ChainGraph, image: ImageId) -> Iterator[Hazard]:
    info = graph[image]
    if not os.access(info.path.parent, os.W_OK | os.X_OK):
        yield Hazard(
            "permission", BLOCK, (image,),
            f"{printable(str(info.path.parent))} {unwritable(info.path.parent)}",
        )  # fmt: skip
    if info.header is not None and info.header.nb_snapshots:
        yield Hazard(
            "internal-snapshots", CONFIRM, (image,),
            f"{info.name} holds {info.header.nb_snapshots} internal snapshot(s), which would be lost with it",
        )  # fmt: skip
