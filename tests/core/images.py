"""Small forests made by qemu-img, and what a graph says of them in plain names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backchain.discover import discover
from backchain.image import ImageState, read_image_info

from . import qemu

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageInfo

MIB = 1 << 20


def chain_of(folder: Path, *names: str, size: int = MIB, **options: Any) -> list[Path]:
    """Make a chain of qcow2 images with relative links, the base first; a base that is there already is kept."""
    paths = [folder / f"{name}.qcow2" for name in names]
    for below, path in zip([None, *paths], paths, strict=False):
        if not path.exists():
            qemu.create(path, size if below is None else None, backing=below, **options)
    return paths


def backed(path: Path) -> list[ImageInfo]:
    """Read an image's header and those of what backs it, the top first."""
    chain = [read_image_info(path)]
    while (link := chain[-1].backing) is not None:
        assert link.path is not None
        chain.append(read_image_info(link.path, image_format=link.format))
    return chain


def label_links(graph: ChainGraph) -> set[tuple[str, str]]:
    """Give the links as (overlay, backing file) by label."""
    return {(graph[overlay].label, graph[backing].label) for overlay, backing in graph.digraph.edges}


def states(graph: ChainGraph) -> dict[str, ImageState]:
    """Give each image's state by label."""
    return {info.label: info.state for info in graph.images.values()}


def problems(graph: ChainGraph) -> dict[str, str]:
    """Give each image's problem by label."""
    return {info.label: info.problem for info in graph.images.values()}


def overlay(path: Path, backing: str, backing_format: str | None) -> Path:
    """Make an overlay of 1 MiB with any link, whether or not it leads anywhere."""
    recorded = backing_format or "raw"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", recorded, "-b", backing, path, "1M")
    if backing_format is None:  # QEMU writes no link without a format any more: make the extension an unknown one
        path.write_bytes(path.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\x12\x34\x56\x78", 1))
    return path


def invalid(folder: Path) -> set[str]:
    """Give the names of the files that a commit has invalidated."""
    return {i.path.name for i in discover([folder]).images.values() if i.state is ImageState.INVALID}
