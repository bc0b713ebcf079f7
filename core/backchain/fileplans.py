"""Plans of what makes and removes whole files: a new overlay, and the removal of images."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from backchain.commands import delete_commands, snapshot_commands
from backchain.errors import UsageError
from backchain.filename import backing_name_for, printable, resolve_backing
from backchain.hazards import delete_hazards, snapshot_hazards
from backchain.image import ImageId, ImageInfo, ImageState
from backchain.plan import CopyList, Plan, Relink, gravest_first
from backchain.qcow2.create import DEFAULT_CLUSTER_SIZE, empty_file_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.graph import ChainGraph
    from backchain.operations import Delete, Snapshot


def plan_snapshot(graph: ChainGraph, operation: Snapshot, engine: str) -> Plan:
    """Find out what a new overlay would be; see `backchain.planning.make_plan`.

    Raises:
        UsageError: The file exists, or its folder does not.
    """
    info, path = graph[operation.image], operation.overlay
    if os.path.lexists(path):
        raise UsageError(f"{printable(str(path))} exists already", "choose another name")
    if not path.parent.is_dir():
        raise UsageError(f"{printable(str(path.parent))} is not a folder", "make it first")
    if info.virtual_size is None:
        raise UsageError(f"{info.display_path} cannot be read", info.problem)
    name = backing_name_for(path, info.path, relative=True)
    size = empty_file_size(info.virtual_size)
    overlay = ImageInfo(
        ImageId(f"new:{path}"), path, "qcow2", virtual_size=info.virtual_size, disk_size=size, file_size=size,
        cluster_size=DEFAULT_CLUSTER_SIZE, backing=resolve_backing(path, name, info.format),
    )  # fmt: skip
    chain = graph.chain(operation.image)
    relink = Relink(overlay.id, None, operation.image, name, info.format)
    return Plan(
        operation, engine, overlay.id, (), CopyList.nothing(DEFAULT_CLUSTER_SIZE), size, (relink,), (), (), None,
        gravest_first(snapshot_hazards(graph, operation, name, size)), snapshot_commands(graph, operation, relink),
        graph, graph.with_changes(add=[overlay], relink={overlay.id: operation.image}),
        {i: f for i in chain if (f := graph[i].fingerprint) is not None},
    )  # fmt: skip


def plan_delete(graph: ChainGraph, operation: Delete, engine: str) -> Plan:
    """Find out what the removal of images would break; see `backchain.planning.make_plan`.

    Raises:
        UsageError: There is no such file, or it is none that may be removed.
    """
    for image in operation.images:
        info = graph[image]
        if info.fingerprint is None:
            raise UsageError(f"{info.display_path} is no file that could be removed", info.problem)
        if info.path.is_symlink():
            raise UsageError(
                f"{info.display_path} is a symlink to {printable(os.path.realpath(info.path))}", "name the file itself"
            )
        if not info.path.is_file():
            raise UsageError(f"{info.display_path} is no regular file", "only files can be removed")
    order = _users_first(graph, operation.images)
    removed = set(order)
    needed = [i for i in order if not removed.issuperset(graph.overlays_of(i))]
    lost = [replace(graph[i], state=ImageState.MISSING, problem="removed") for i in needed]
    copies = CopyList.nothing(graph[order[0]].cluster_size or DEFAULT_CLUSTER_SIZE)
    return Plan(
        operation, engine, order[0], (), copies, 0, (), (), order, None,
        gravest_first(delete_hazards(graph, operation)), delete_commands(graph, order), graph,
        graph.with_changes(replace=lost, remove=removed.difference(needed)),
        {i: f for i in order if (f := graph[i].fingerprint) is not None},
    )  # fmt: skip


def _users_first(graph: ChainGraph, images: Sequence[ImageId]) -> tuple[ImageId, ...]:
    """Order images so that a file goes before what backs it or holds its data: what is left can always be read."""
    removed = set(images)
    others = {i: [user.image for user in graph.users.get(i, ())] for i in images}
    above = {i: removed.intersection((*graph.overlays_of(i), *others[i])) for i in images}
    below: dict[ImageId, list[ImageId]] = {}
    for image, users in above.items():
        for user in users:
            below.setdefault(user, []).append(image)
    waiting = {i: len(users) for i, users in above.items()}
    order = [i for i in waiting if not waiting[i]]
    for image in order:  # it grows meanwhile
        for needed in below.get(image, ()):
            waiting[needed] -= 1
            if not waiting[needed]:
                order.append(needed)
    return (*order, *(i for i in waiting if waiting[i]))  # what is left is in a loop
