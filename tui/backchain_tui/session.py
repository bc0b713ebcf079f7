"""What one sitting knows: where to look, which images an operation has left unneeded, and the maps.

No Textual here, and no numpy or networkx until something is read: the first paint does not wait for them. The methods
that read block; they belong into a thread.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backchain.image import ImageState
from backchain.pausing import go_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import Fingerprint, ImageId, ImageInfo
    from backchain.operations import Operation
    from backchain.pausing import Pause
    from backchain.plan import Plan
    from backchain_tui.mapgrid import DiskMap


@dataclass
class Session:
    """What is looked at, and what was done to it.

    Attributes:
        paths: Images and folders that the user named.
        scan: More folders in which overlays may lie.
        lab: Whether this is a lab of practice images: jobs run slowly enough to be watched, and at once.
        unneeded: Images that operations of this sitting have left without anyone who needs them, as they were then.
        sparklines: Allocated share per part of the disk, of the images looked at so far.
        in_use: Images that another process held open when the forest was read.
        touched: Folders of what jobs of this sitting have made or written to: overlays may lie there from then on.
    """

    paths: tuple[Path, ...]
    scan: tuple[Path, ...] = ()
    lab: bool = False
    unneeded: dict[ImageId, Fingerprint | None] = field(default_factory=dict)
    sparklines: dict[ImageId, list[float]] = field(default_factory=dict)
    in_use: frozenset[ImageId] = frozenset()
    touched: tuple[Path, ...] = ()

    @property
    def known(self) -> tuple[Path, ...]:
        """All folders that are looked at, and where else overlays may lie."""
        return (*(p for p in self.paths if p.is_dir()), *self.folders)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where overlays may lie, besides the images and folders that are looked at."""
        return (*self.scan, *(p for p in self.touched if p.is_dir()))

    def read(self) -> ChainGraph:
        """Read the forest.

        Raises:
            MissingImageError: One of the paths cannot be opened.
        """
        from backchain.discover import discover
        from backchain.locks import probe

        graph = self.mark(discover(self.paths, scan=self.folders))
        self.in_use = frozenset(i for i in graph if graph[i].fingerprint and probe(graph[i].path, writing=True))
        return graph

    def around(self, paths: Sequence[Path], folders: Sequence[Path] = ()) -> ChainGraph:
        """Read what hangs together with some images, which need not be among those that are looked at.

        Args:
            paths: The images.
            folders: Where overlays may lie, besides the folders that the session knows.

        Raises:
            MissingImageError: One of the paths cannot be opened.
        """
        from backchain.discover import discover

        places = [p for p in (*self.paths, *self.folders, *folders) if p.is_dir()]
        return self.mark(discover(paths, scan=list(dict.fromkeys(places))))

    def mark(self, graph: ChainGraph) -> ChainGraph:
        """Give the graph in which the images left without need bear that state."""
        marked = [
            replace(graph[i], state=ImageState.UNNEEDED)
            for i, fingerprint in self.unneeded.items()
            if i in graph and self._still_unneeded(graph, i, fingerprint)
        ]
        return graph.with_changes(replace=marked) if marked else graph

    def _still_unneeded(self, graph: ChainGraph, image: ImageId, fingerprint: Fingerprint | None) -> bool:
        """Whether an image is as it was left: not written since, and not needed again."""
        info = graph[image]
        same = info.state is ImageState.OK and info.fingerprint == fingerprint
        return same and all(o in self.unneeded for o in graph.overlays_of(image))

    def touch(self, plan: Plan) -> None:
        """Remember where the files lie that a plan has written to, to whatever end: overlays may lie there, too."""
        paths = [plan.info(image).path for image in (plan.target, *(r.image for r in plan.relinked))]
        folders = [p.parent for p in paths if p.is_file()]  # that of a device is full of things nobody should open
        self.touched = tuple(dict.fromkeys((*self.touched, *folders)))

    def settle(self, plan: Plan) -> None:
        """Remember what a plan that was run has left without need; what it has invalidated, its journal remembers."""
        for image in plan.removable:
            if image not in plan.invalidated:
                self.unneeded[image] = plan.before[image].fingerprint

    def plan(self, graph: ChainGraph, operation: Operation, pause: Pause = go_on) -> tuple[Plan, int | None]:
        """Make a plan, and give the free space for its target in bytes (None where it is unknown).

        Args:
            graph: The images as they were found.
            operation: What is asked for.
            pause: Called between reads.

        Raises:
            BackchainError: The operation makes no sense on this graph, or an image cannot be read.
        """
        from backchain.planning import make_plan

        plan = make_plan(graph, operation, pause=pause)
        return plan, free_space(plan.info(plan.target).path)


def free_space(path: Path) -> int | None:
    """Give the free bytes of the file system that holds `path` (or will); None for a device, or where it is unknown."""
    try:
        if path.is_block_device():
            return None
        status = os.statvfs(path if path.exists() else path.parent)
    except (OSError, ValueError):  # the second for a name that no file can have
        return None
    return status.f_bavail * status.f_frsize


def read_map(
    images: Sequence[ImageInfo], *, own: bool, size: int | None, started: Callable[[DiskMap], bool]
) -> DiskMap:
    """Read the map of a chain, or of one image alone, as it is now: a job may have written since it was found.

    Args:
        images: The chain, top first; one image when `own`.
        own: Show the image's own states rather than layers.
        size: Bytes of the guest's disk to show, at least; None takes that of the first image.
        started: Called with the map after each batch of windows; False stops the reading.

    Raises:
        ImageError: An image cannot be opened or is damaged.
    """
    from backchain.clustermap import chain_map
    from backchain.image import read_image_info, require_readable
    from backchain_tui.mapgrid import DiskMap

    images = [require_readable(read_image_info(i.path, image_format=i.format)) for i in images]
    top = images[0]
    disk = DiskMap(max(top.virtual_size or 0, size or 0, 1), top.cluster_size, layers=len(images), own=own)
    for _ in disk.feed(chain_map(images)):
        if not started(disk):
            break
    return disk


def read_sparkline(image: ImageInfo, parts: int = 32) -> list[float]:
    """Give the share of allocated clusters in equal parts of an image's disk, 0.0 to 1.0.

    Raises:
        ImageError: The image cannot be opened or is damaged.
    """
    disk = read_map([image], own=True, size=None, started=lambda _: True)
    cell = disk.cell_size(parts)
    cells = min(parts, -(-disk.size // cell))
    weights = disk.weights(0, cell, cells)
    return [min(1.0, float(full) / cell) for full in weights[:, 1:].sum(axis=1)]
