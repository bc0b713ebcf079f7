"""The lab: a small forest of real qcow2 images to learn on, made without QEMU and the same every time.

Two stories. RootBase is a machine with four snapshots in a row, the chain of the classic figures of block commit and
block pull. Golden is a template under two machines of its own, so that it shows what a sibling is. Every cluster that
a layer writes says in plain text which layer wrote it and where, so that ``strings`` or a hex dump proves what a
commit did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.errors import UsageError
from backchain.filename import printable
from backchain.qcow2.create import create_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTER_SIZE = 65536
"""Cluster size of every image of the lab, in bytes."""

_MIB = 1 << 20
_LINE = 32


@dataclass(frozen=True, slots=True)
class Stripe:
    """Runs of guest clusters: `count` from `first` on, `times` times, each `every` clusters after the one before."""

    first: int
    count: int
    times: int = 1
    every: int = 0

    def clusters(self) -> Iterator[int]:
        """Give the cluster numbers."""
        for n in range(self.times):
            start = self.first + n * self.every
            yield from range(start, start + self.count)


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of the lab.

    Attributes:
        name: Name without the suffix.
        backing: Name of the image that backs it, or None.
        size: Virtual size in bytes.
        data: What it writes; where stripes overlap, a cluster is written once.
        zeros: What it clears, unless it writes it.
    """

    name: str
    backing: str | None
    size: int
    data: tuple[Stripe, ...]
    zeros: tuple[Stripe, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the image file."""
        return f"{self.name}.qcow2"

    def written(self) -> list[int]:
        """Give the guest clusters that it writes, ascending."""
        return sorted({c for stripe in self.data for c in stripe.clusters()})

    def cleared(self) -> list[int]:
        """Give the guest clusters that it clears, ascending."""
        return sorted({c for stripe in self.zeros for c in stripe.clusters()} - set(self.written()))


LAYERS = (
    Layer(
        "RootBase", None, 64 * _MIB,
        (Stripe(0, 30), Stripe(36, 174), Stripe(240, 88), Stripe(352, 6, 12, 12), Stripe(512, 128), Stripe(700, 64),
         Stripe(1016, 8)),
    ),
    Layer(
        "Snap-1", "RootBase", 64 * _MIB,
        (Stripe(8, 2), Stripe(100, 24), Stripe(330, 2, 5, 8), Stripe(640, 12), Stripe(900, 8)),
        (Stripe(48, 6),),
    ),
    Layer(
        "Snap-2", "Snap-1", 64 * _MIB,
        (Stripe(9, 2), Stripe(116, 20), Stripe(260, 1, 8, 6), Stripe(648, 14), Stripe(800, 6)),
        (Stripe(560, 20), Stripe(902, 3)),
    ),
    Layer(
        "Snap-3", "Snap-2", 64 * _MIB,
        (Stripe(10, 1), Stripe(128, 16), Stripe(400, 3, 6, 10), Stripe(570, 4), Stripe(656, 12), Stripe(960, 3)),
        (Stripe(806, 2), Stripe(200, 8)),
    ),
    Layer(
        "Snap-4", "Snap-3", 64 * _MIB,
        (Stripe(10, 1), Stripe(140, 10), Stripe(404, 1, 4, 20), Stripe(664, 9), Stripe(802, 2), Stripe(980, 12)),
        (Stripe(270, 5),),
    ),
    Layer("Golden", None, 16 * _MIB, (Stripe(0, 12), Stripe(16, 20), Stripe(64, 4, 5, 12), Stripe(240, 4))),
    Layer("Web-1", "Golden", 16 * _MIB, (Stripe(18, 4), Stripe(76, 6), Stripe(160, 4)), (Stripe(30, 3),)),
    Layer("Db-1", "Golden", 16 * _MIB, (Stripe(20, 4), Stripe(100, 10), Stripe(200, 2, 3, 6))),
    Layer("Db-2", "Db-1", 16 * _MIB, (Stripe(102, 4), Stripe(206, 2), Stripe(224, 6)), (Stripe(64, 4),)),
)  # fmt: skip
"""Every image of the lab, each after the one that backs it."""


def make_lab(folder: Path) -> tuple[Path, ...]:
    """Write the lab's images into `folder`, about 55 MiB.

    The backing file names are relative, so that the folder can be moved as a whole.

    Returns:
        The images, each after the one that backs it.

    Raises:
        UsageError: One of the files exists already; then nothing is written.
        ImageIOError: Writing failed.
    """
    paths = tuple(folder / layer.file_name for layer in LAYERS)
    for path in paths:
        if path.exists():
            raise UsageError(f"{printable(str(path))} exists already", "choose an empty folder")
    for layer, path in zip(LAYERS, paths, strict=True):
        create_image(
            path,
            layer.size,
            cluster_size=CLUSTER_SIZE,
            backing=(f"{layer.backing}.qcow2", "qcow2") if layer.backing is not None else None,
            data=((cluster, pattern(layer.name, cluster)) for cluster in layer.written()),
            zeros=layer.cleared(),
            sync=False,
        )
    return paths


def pattern(name: str, cluster: int) -> bytes:
    """Give what the layer `name` writes into a guest cluster: one line of text, repeated until it is full."""
    line = f"{name} cluster {cluster} ".ljust(_LINE - 1, ".") + "\n"
    return line.encode("ascii") * (CLUSTER_SIZE // _LINE)
