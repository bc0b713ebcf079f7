"""Small sound chains by QEMU's tools in every layout, kept as bytes, so that each mutant starts from the same files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from . import chains, qemu
from .chains import Forest, Layer, Write

if TYPE_CHECKING:
    from pathlib import Path

    from .folders import Folders

_SIZE = 1 << 20
_LOW = (
    Write("compressed", 768, 128),
    Write("data", 0, 130),
    Write("zero", 256, 128),
    Write("data", 1000, 1, 4, 64),
)
_MIDDLE = (Write("data", 100, 60), Write("zero", 1200, 300), Write("data", 1900, 100))
_HIGH = (Write("compressed", 512, 128), Write("data", 64, 300), Write("zero", 900, 200))


def _chain(low: Layer, *between: Layer, high: Layer) -> Forest:
    """Give a chain of layers with commands of their own."""
    base = replace(low, commands=_LOW if low.format == "qcow2" else (Write("data", 0, 300), Write("data", 900, 9)))
    above = [replace(layer, commands=_MIDDLE) for layer in between] + [replace(high, commands=_HIGH)]
    return Forest((base, *(replace(layer, parent=n) for n, layer in enumerate(above))))


FORESTS: dict[str, Forest] = {
    "v3-64k": _chain(Layer(_SIZE), high=Layer(_SIZE)),
    "v2-64k-three": _chain(*(Layer(_SIZE, compat="0.10"),) * 2, high=Layer(_SIZE, compat="0.10")),
    "512-refcount-64": _chain(
        Layer(_SIZE, cluster_bits=9, refcount_bits=64), high=Layer(_SIZE, cluster_bits=9, refcount_bits=64)
    ),
    "4k-refcount-1-zstd-three": _chain(
        Layer(_SIZE, cluster_bits=12, refcount_bits=1, compression="zstd"), Layer(_SIZE, cluster_bits=12),
        high=Layer(_SIZE, cluster_bits=12, compression="zstd"),
    ),
    "extended-l2": _chain(
        Layer(_SIZE, cluster_bits=14, extended_l2=True), high=Layer(_SIZE, cluster_bits=14, extended_l2=True)
    ),
    "snapshots": _chain(Layer(_SIZE, cluster_bits=12, snapshot=2), high=Layer(_SIZE, cluster_bits=12, snapshot=1)),
    "bitmaps": _chain(Layer(_SIZE, cluster_bits=12), high=Layer(_SIZE, cluster_bits=12)),
    "raw-base-three": _chain(
        Layer(_SIZE - 700, format="raw"), Layer(_SIZE, cluster_bits=12), high=Layer(_SIZE)
    ),
    "grows": _chain(Layer(_SIZE // 4, cluster_bits=9), high=Layer(_SIZE, cluster_bits=16)),
    "shorter-top-2m": _chain(Layer(_SIZE * 3, cluster_bits=21), high=Layer(_SIZE, cluster_bits=12)),
}  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """The files of a sound chain by name, the base first."""

    name: str
    files: tuple[tuple[str, bytes], ...] = field(repr=False)

    def write(self, folder: Path) -> list[Path]:
        """Put the files into a folder; give their paths, the base first."""
        paths = [folder / name for name, _ in self.files]
        for path, (_, data) in zip(paths, self.files, strict=True):
            path.write_bytes(data)
        return paths


def make_seed(name: str, folder: Path) -> Seed:
    """Build one of `FORESTS` with qemu-img and qemu-io in a folder, and take its files."""
    built = chains.build(FORESTS[name], folder / "images")
    assert built.usable
    if name == "bitmaps":
        for path in built.paths:
            qemu.run("qemu-img", "bitmap", "--add", "-g", "4096", path, "kept")
    return Seed(name, tuple((path.name, path.read_bytes()) for path in built.paths))


class Seeds(dict[str, Seed]):
    """Seeds by name, each made when it is first asked for."""

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        self._folders = folders

    def __missing__(self, name: str) -> Seed:
        with self._folders.fresh() as folder:
            self[name] = make_seed(name, folder)
        return self[name]

    def __repr__(self) -> str:
        return "the seeds"
