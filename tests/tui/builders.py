"""Images, forests and plans as values, for tests of the screen that need no file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backchain.graph import ChainGraph
from backchain.image import ImageId, ImageInfo, ImageState
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.plan import CopyList, Hazard, Plan, Relink, Severity, SourceCopy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backchain.operations import Operation

GIB = 1 << 30
CLUSTER = 65_536


def image(
    name: str, disk_size: int | None = GIB, state: ImageState = ImageState.OK, image_format: str = "qcow2"
) -> ImageInfo:
    """Make an image of 20 GiB whose identity is its name."""
    virtual = None if state in {ImageState.MISSING, ImageState.UNREADABLE} else 20 * GIB
    size = None if virtual is None else disk_size
    return ImageInfo(
        ImageId(name), Path(f"/lab/{name}.qcow2"), image_format, virtual_size=virtual, disk_size=size, file_size=size,
        cluster_size=CLUSTER, state=state,
    )  # fmt: skip


def forest(links: Mapping[str, str | None], **infos: ImageInfo) -> ChainGraph:
    """Make a graph from overlay -> backing file; `infos` (by name) replace plain images."""
    sizes = (16.4, 6.8, 4.4, 3.1, 1.6)
    images = [infos.get(n, image(n, int(sizes[k % 5] * GIB))) for k, n in enumerate(links)]
    pairs = [(ImageId(o), ImageId(b)) for o, b in links.items() if b is not None]
    return ChainGraph(images, pairs)


def chain(*names: str) -> ChainGraph:
    """Make a linear chain, base first."""
    return forest(dict(zip(names, (None, *names), strict=False)))


FIVE = ("RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4")
"""The chain of the figures."""


def five() -> ChainGraph:
    """Make the chain of the figures."""
    return chain(*FIVE)


def sparklines(graph: ChainGraph) -> dict[ImageId, list[float]]:
    """Make a sparkline per image: dense in bases, in patches elsewhere; the same every time."""
    lines = {}
    for number, name in enumerate(graph):
        grid = np.arange(64)
        wave = np.sin(grid * (0.23 + 0.11 * number) + number) + np.sin(grid * 0.71 * (number + 1))
        lines[name] = np.clip(0.75 + wave * 0.2 if graph.is_base(name) else wave * 0.6 - 0.15, 0, 1).tolist()
    return lines


def commit(
    graph: ChainGraph, base: str, top: str, clusters: Sequence[int] | None = None, hazards: Sequence[Hazard] = ()
) -> Plan:
    """Make the plan of a commit; `clusters` per source, the topmost first."""
    base_id, top_id = ImageId(base), ImageId(top)
    between = graph.between(top_id, base_id) or ()
    overlays = graph.overlays_of(top_id)
    emptied = None if overlays else top_id
    moved = overlays or ((top_id,) if graph.backing_of(top_id) != base_id else ())
    relinked = [Relink(o, graph.backing_of(o), base_id, f"{base}.qcow2", "qcow2") for o in moved]
    invalid = tuple(i for i in between if i != emptied)
    return _plan(
        graph, Commit(base_id, top_id), base_id, between, clusters, relinked, invalid, invalid, emptied, hazards
    )


def pull(graph: ChainGraph, image_name: str, base: str | None, clusters: Sequence[int] | None = None) -> Plan:
    """Make the plan of a pull; `clusters` per source, the topmost first."""
    top, base_id = ImageId(image_name), ImageId(base) if base is not None else None
    between = (graph.between(top, base_id) or ())[1:]
    name = None if base is None else f"{base}.qcow2"
    relinked = [Relink(top, graph.backing_of(top), base_id, name, name and "qcow2")]
    unneeded = tuple(i for i in between if set(graph.dependents(i)) <= {top, *between, *graph.dependents(top)})
    needed = {i for i in between if set(graph.overlays_of(i)) - {top, *between}}
    return _plan(
        graph, Pull(top, base_id), top, between, clusters, relinked, (), tuple(i for i in unneeded if i not in needed),
        None, (),
    )  # fmt: skip


def rebase(
    graph: ChainGraph, image_name: str, backing: str | None, clusters: Sequence[int] | None = None, *,
    unsafe: bool = False,
) -> Plan:  # fmt: skip
    """Make the plan of a rebase; `clusters` per source, the topmost first."""
    top, new = ImageId(image_name), ImageId(backing) if backing is not None else None
    view = graph.chain(top)
    sources = () if unsafe else view[1 : view.index(new) if new in view else len(view)]
    name = None if backing is None else f"{backing}.qcow2"
    relinked = [Relink(top, graph.backing_of(top), new, name, name and "qcow2")]
    unneeded: list[ImageId] = []
    for source in sources:
        kept = graph.chain(new) if new is not None else ()
        if set(graph.overlays_of(source)) <= {top, *unneeded} and source not in kept:
            unneeded.append(source)
    return _plan(graph, Rebase(top, new, unsafe), top, sources, clusters, relinked, (), tuple(unneeded), None, ())


def snapshot(graph: ChainGraph, image_name: str, overlay: str) -> Plan:
    """Make the plan of a new overlay."""
    below = ImageId(image_name)
    made = image(overlay, 200 * 1024)
    operation = Snapshot(below, made.path)
    empty = CopyList.nothing(CLUSTER)
    relink = Relink(made.id, None, below, f"{image_name}.qcow2", "qcow2")
    after = graph.with_changes(add=[made], relink={made.id: below})
    return Plan(
        operation, "builtin", made.id, (), empty, 200 * 1024, (relink,), (), (), None, (),
        (("qemu-img", "qemu-img create"),), graph, after, {},
    )  # fmt: skip


def delete(graph: ChainGraph, *names: str, hazards: Sequence[Hazard] = ()) -> Plan:
    """Make the plan of a removal; the images are named overlays first."""
    images = tuple(ImageId(n) for n in names)
    return Plan(
        Delete(images), "builtin", images[0], (), CopyList.nothing(CLUSTER), 0, (), (), images, None, tuple(hazards),
        (("qemu-img", "rm"),), graph, graph.with_changes(remove=images), {},
    )  # fmt: skip


def sibling_hazard(*names: str) -> Hazard:
    """Make the hazard of siblings that a commit would corrupt."""
    return Hazard("sibling-corruption", Severity.BLOCK, tuple(ImageId(n) for n in names), "siblings would be corrupted")


def _plan(
    graph: ChainGraph, operation: Operation, target: ImageId, sources: Sequence[ImageId],
    clusters: Sequence[int] | None, relinked: Sequence[Relink], invalidated: tuple[ImageId, ...],
    removable: tuple[ImageId, ...], emptied: ImageId | None, hazards: Sequence[Hazard],
) -> Plan:  # fmt: skip
    counts = list(clusters) if clusters is not None else [40 + 25 * n for n in range(len(sources))]
    copies = tuple(SourceCopy(s, c, c * CLUSTER) for s, c in zip(sources, counts, strict=True))
    runs = len(copies)
    copy_list = CopyList(CLUSTER, np.cumsum([0, *counts])[:runs].astype(np.int64), np.array(counts, np.int64))
    changed = [replace(graph[i], state=ImageState.INVALID) for i in invalidated]
    return Plan(
        operation, "builtin", target, copies, copy_list, sum(counts) * CLUSTER * 64, tuple(relinked), invalidated,
        removable, emptied, tuple(hazards), (("qemu-img", "qemu-img commit"),), graph,
        graph.with_changes(relink={r.image: r.new for r in relinked}, replace=changed), {},
    )  # fmt: skip
