"""Chain specs: pure values that say how to make a real forest of images with QEMU's tools, and the making.

A spec is small and comparable, so that hypothesis can shrink it and a failure can be read. Offsets and lengths are in
sectors of 512 bytes and are cut to the layer when it is built, so that every spec is legal whatever its sizes.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import qemu

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
_NOISE_BYTES = 1 << 20


@dataclass(frozen=True)
class Write:
    """One command of a layer.

    Attributes:
        kind: "data" (bytes that tell their position), "zero" (write -z), "unmap" (write -z -u), "discard" or
            "compressed" (whole clusters that compress; made before all others, each cluster once).
        start: First sector of the layer.
        sectors: How many.
        times: The command is repeated so often, each time `every` sectors further on.
    """

    kind: str
    start: int
    sectors: int
    times: int = 1
    every: int = 0

    def ranges(self, size: int) -> list[tuple[int, int]]:
        """Give (offset, length) in bytes of each repetition, cut to a disk of `size` bytes."""
        found = []
        for n in range(self.times):
            start = (self.start + n * self.every) * SECTOR
            if start < size:
                found.append((start, min(self.sectors * SECTOR, size - start)))
        return found


@dataclass(frozen=True)
class Layer:
    """One image.

    Attributes:
        size: Virtual size in bytes: for qcow2 a multiple of 512, for raw any length.
        parent: Index of the layer that backs it, None for a base.
        snapshot: An internal snapshot is made after this many of the commands; None for no snapshot.
    """

    size: int
    parent: int | None = None
    format: str = "qcow2"
    cluster_bits: int = 16
    compat: str = "1.1"
    extended_l2: bool = False
    refcount_bits: int = 16
    compression: str = "zlib"
    preallocation: str = "off"
    snapshot: int | None = None
    commands: tuple[Write, ...] = ()

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    def options(self) -> dict[str, Any]:
        """Give the options for ``qemu-img create``."""
        options: dict[str, Any] = {"cluster_size": self.cluster_size, "compat": self.compat}
        if self.compat != "0.10":
            options["refcount_bits"] = self.refcount_bits
            if self.extended_l2:
                options["extended_l2"] = "on"
            if self.compression != "zlib":
                options["compression_type"] = self.compression
        if self.preallocation != "off" and (self.parent is None or self.extended_l2):
            options["preallocation"] = self.preallocation
        return options


@dataclass(frozen=True)
class Forest:
    """A base with a chain of overlays above it, and possibly branches; layers come after what backs them."""

    layers: tuple[Layer, ...]


@dataclass
class Built:
    """A forest on disk: `paths` in the order of the spec's layers, all in `folder`.

    Attributes:
        before: What qemu-img check said of each image once it was made.
    """

    spec: Forest
    folder: Path
    paths: list[Path]
    before: list[qemu.Check] = field(default_factory=list)

    @property
    def top(self) -> Path:
        """The last image, which is the top of the chain when the spec has no branches."""
        return self.paths[-1]

    @property
    def usable(self) -> bool:
        """Whether QEMU made every image without an error of its own (its compressed writes can)."""
        return not any(c.corruptions for c in self.before)

    def chain(self, index: int) -> list[int]:
        """Give the indices from layer `index` down to its base."""
        found = [index]
        while (parent := self.spec.layers[found[-1]].parent) is not None:
            found.append(parent)
        return found

    def copied(self, folder: Path) -> Built:
        """Copy the whole forest to a folder that does not exist yet."""
        qemu.copy_folder(self.folder, folder)
        return Built(self.spec, folder, [folder / p.name for p in self.paths], list(self.before))


def build(spec: Forest, folder: Path) -> Built:
    """Make the images of `spec` in `folder` (which must not exist yet) with qemu-img and qemu-io.

    Raises:
        qemu.QemuError: A tool refused.
    """
    folder.mkdir()
    noise = folder.parent / f"{folder.name}.noise"
    noise.mkdir()
    paths: list[Path] = []
    for index, layer in enumerate(spec.layers):
        path = folder / f"{'abcdefgh'[index]}.{layer.format}"
        if layer.format == "raw":
            _build_raw(path, layer, index)
        else:
            parent = paths[layer.parent] if layer.parent is not None else None
            _build_qcow2(path, layer, index, parent, noise)
        _settle(path)
        paths.append(path)
    return Built(spec, folder, paths, [qemu.check(p) for p in paths])


def _settle(path: Path) -> None:
    """Bring a file to the disk, where a file system settles what it takes (ext4 allocates late)."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _build_raw(path: Path, layer: Layer, index: int) -> None:
    data = noise_bytes(index, compressible=False)
    with path.open("wb") as file:
        file.truncate(layer.size)
        for command in layer.commands:
            for start, length in command.ranges(layer.size):
                file.seek(start)
                file.write((data * (length // len(data) + 1))[:length] if command.kind == "data" else bytes(length))


def _build_qcow2(path: Path, layer: Layer, index: int, parent: Path | None, noise: Path) -> None:
    qemu.create(path, layer.size, backing=parent, **layer.options())
    first = _compressed_commands(layer, index, noise)
    rest = [c for c in layer.commands if c.kind != "compressed"]
    if first:
        qemu.io(path, *first)
    cut = len(rest) if layer.snapshot is None else min(layer.snapshot, len(rest))
    _run_commands(path, layer, index, rest[:cut], noise)
    if layer.snapshot is not None:
        # Narrow refcounts cannot count a snapshot of everything; such an image then has none.
        qemu.attempt("qemu-img", "snapshot", "-c", "kept", path)
        _run_commands(path, layer, index, rest[cut:], noise)


def _run_commands(path: Path, layer: Layer, index: int, commands: list[Write], noise: Path) -> None:
    texts = [
        _command(index, command.kind, start, length, noise)
        for command in commands
        for start, length in command.ranges(layer.size)
    ]
    if texts:
        qemu.io(path, *texts)


def _command(index: int, kind: str, start: int, length: int, noise: Path) -> str:
    if kind == "data":
        return f"write -q -s {_source(noise, index, start, length, packed=False)} {start} {length}"
    verb = {"zero": "write -q -z", "unmap": "write -q -z -u", "discard": "discard -q"}[kind]
    return f"{verb} {start} {length}"


def _compressed_commands(layer: Layer, index: int, noise: Path) -> list[str]:
    """Compressed writes go cluster by cluster, each cluster once (QEMU 7.2 may corrupt what is written twice).

    For the same reason a preallocated image gets none.
    """
    if "preallocation" in layer.options():
        return []
    clusters: dict[int, None] = {}
    for command in layer.commands:
        if command.kind == "compressed":
            for start, length in command.ranges(layer.size):
                first, last = start >> layer.cluster_bits, start + length - 1 >> layer.cluster_bits
                clusters.update(dict.fromkeys(range(first, last + 1)))
    commands = []
    for cluster in clusters:
        start = cluster << layer.cluster_bits
        length = min(layer.cluster_size, layer.size - start)
        source = _source(noise, index, start, length, packed=True)
        commands.append(f"write -q -c -s {source} {start} {length}")
    return commands


def _source(folder: Path, index: int, start: int, length: int, *, packed: bool) -> Path:
    """Write the bytes for one command to a file; which they are depends on layer and place."""
    path = folder / f"{index}-{start}-{length}-{packed:d}"
    data = noise_bytes(index, compressible=packed)
    begin = start % (len(data) - SECTOR) + 1
    path.write_bytes(data[begin : begin + length])
    return path


@lru_cache(maxsize=32)
def noise_bytes(index: int, *, compressible: bool) -> bytes:
    """Give a MiB that differs from layer to layer and from place to place; compressible to about a third or not."""
    data = random.Random(index).randbytes(_NOISE_BYTES)
    return data.translate(bytes(b & 3 for b in range(256))) if compressible else data


def supports_holes(folder: Path) -> bool:
    """Say whether the file system of `folder` reports holes, as the raw layouts need."""
    path = folder / "hole"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        try:
            return os.lseek(file.fileno(), 0, os.SEEK_DATA) < 0
        except OSError:
            return True
        finally:
            path.unlink()
