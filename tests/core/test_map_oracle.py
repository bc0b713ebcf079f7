"""The map of a chain is qemu-img's, extent for extent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from backchain.mapping import Kind, qemu_map

from . import chains, qemu
from .chains import Forest, Layer, Write
from .images import backed
from .strategies import WINDOWS, forests
from .trial import windows_of

if TYPE_CHECKING:
    from pathlib import Path

    from .folders import Folders

KIB = 1024
MIB = 1024 * 1024


def our_map(path: Path, start: int = 0, length: int | None = None) -> list[dict[str, Any]]:
    """Give backchain's answer in the words of ``qemu-img map --output=json`` of QEMU 7.2."""
    found = []
    for extents in qemu_map(backed(path), start, length):
        for begin, size, depth, kind, offset in extents.rows():
            found.append({
                "start": begin, "length": size, "depth": depth, "present": bool(kind & Kind.PRESENT),
                "zero": bool(kind & Kind.ZERO), "data": bool(kind & Kind.DATA),
                **({"offset": offset} if offset >= 0 else {}),
            })  # fmt: skip
            assert not (kind & Kind.COMPRESSED and offset >= 0)
    return found


def assert_maps_agree(built: chains.Built) -> None:
    """Compare every image's map with qemu-img's."""
    for path in built.paths:
        assert our_map(path) == qemu.map_json(path), path.name


@given(spec=forests(clusters=1 << 18, cluster_bits=(9, 10, 12, 14, 16), most=1 << 22))
def test_random_chains_of_many_tables(folders: Folders, spec: Forest) -> None:
    """Disks of up to 2 GiB, hardly filled: what reads tables in windows meets the windows' edges."""
    commands = [c for layer in spec.layers for c in layer.commands]
    assume(sum(c.sectors * c.times for c in commands if c.kind not in {"zero", "discard", "unmap"}) < 20_000)
    with folders.fresh() as folder:
        assert_maps_agree(chains.build(spec, folder / "images"))


@given(spec=forests(), window=WINDOWS)
def test_random_chains(folders: Folders, spec: Forest, window: int) -> None:
    with windows_of(window), folders.fresh() as folder:
        built = chains.build(spec, folder / "images")
        event(f"layers: {len(spec.layers)}")
        event(f"extents: {min(len(qemu.map_json(built.top)), 30)}")
        assert_maps_agree(built)


@given(spec=forests(), window=WINDOWS, data=st.data())
def test_any_range_of_a_chain(folders: Folders, spec: Forest, window: int, data: st.DataObject) -> None:
    """``--start-offset`` and ``--max-length`` at any byte, amid clusters and past the end of the disk too."""
    with windows_of(window), folders.fresh() as folder:
        path = chains.build(spec, folder / "images").top
        size = qemu.info(path)["virtual-size"]
        for _ in range(4):
            start = data.draw(st.integers(0, size + 600))
            length = data.draw(st.none() | st.integers(0, size + 600) | st.integers(0, 1024))
            options = ["--start-offset", str(start), *([] if length is None else ["--max-length", str(length)])]
            assert our_map(path, start, length) == qemu.map_json(path, *options), (start, length)


MIXED = (
    Write("data", 0, 300),
    Write("data", 700, 3, 9, 130),
    Write("zero", 128, 128),
    Write("zero", 1030, 7, 5, 64),
    Write("unmap", 384, 200),
    Write("discard", 1536, 256),
)
PACKED = (Write("compressed", 320, 64), Write("compressed", 1280, 1, 3, 256), *MIXED)


def base(size: int = MIB, **options: Any) -> Layer:
    return Layer(size, None, **{"commands": MIXED, **options})


def overlay(size: int = MIB, parent: int = 0, **options: Any) -> Layer:
    return Layer(size, parent, **{"commands": (Write("data", 640, 32, 3, 400), Write("zero", 200, 60)), **options})


def raw(size: int = MIB, commands: tuple[Write, ...] = (Write("data", 16, 8, 5, 200),)) -> Layer:
    return Layer(size, None, "raw", commands=commands)


LAYOUTS: dict[str, tuple[Layer, ...]] = {
    "one-empty-image": (Layer(MIB),),
    "size-of-one-sector": (Layer(512, commands=(Write("data", 0, 1),)),),
    "size-zero": (Layer(0),),
    "version-2": (base(compat="0.10"), overlay(compat="0.10")),
    "version-2-overlay-on-3": (base(), overlay(compat="0.10")),
    "compressed": (base(commands=PACKED), overlay(commands=PACKED)),
    "compressed-zstd": (base(commands=PACKED, compression="zstd"), overlay()),
    "compressed-small-clusters": (base(commands=PACKED, cluster_bits=9), overlay(cluster_bits=9)),
    "compressed-2M-clusters": (base(4 * MIB, commands=(Write("compressed", 0, 8192),), cluster_bits=21), overlay()),
    "extended-l2": (base(extended_l2=True), overlay(extended_l2=True)),
    "extended-l2-16k": (base(extended_l2=True, cluster_bits=14), overlay(extended_l2=True, cluster_bits=14)),
    "extended-l2-2M": (base(4 * MIB, extended_l2=True, cluster_bits=21), overlay(4 * MIB)),
    "extended-l2-compressed": (base(extended_l2=True, commands=PACKED), overlay(extended_l2=True)),
    "extended-l2-preallocated": (base(), overlay(extended_l2=True, preallocation="metadata")),
    "many-l2-tables": (base(4 * MIB, cluster_bits=9, commands=(Write("data", 1, 1, 40, 200),)), overlay(4 * MIB)),
    "clusters-512-over-2M": (base(3 * MIB, cluster_bits=21), overlay(3 * MIB, cluster_bits=9)),
    "clusters-2M-over-512": (base(3 * MIB, cluster_bits=9), overlay(3 * MIB, cluster_bits=21)),
    "refcounts-of-1-bit": (base(refcount_bits=1), overlay(refcount_bits=64)),
    "preallocated-metadata": (base(preallocation="metadata"), overlay()),
    "preallocated-falloc": (base(preallocation="falloc"), overlay()),
    "internal-snapshot": (base(snapshot=2), overlay(snapshot=1)),
    "odd-size": (base(MIB - 512), overlay(MIB - 1536)),
    "overlay-shorter": (base(), overlay(300 * KIB)),
    "overlay-longer": (base(300 * KIB), overlay()),
    "overlay-longer-by-a-sector": (base(300 * KIB), overlay(300 * KIB + 512)),
    "middle-shorter": (base(), overlay(300 * KIB), overlay(MIB, 1, commands=(Write("data", 0, 5),))),
    "middle-shorter-and-empty": (base(), Layer(100 * KIB, 0), Layer(MIB, 1)),
    "middle-longer": (base(300 * KIB), overlay(2 * MIB), overlay(MIB, 1)),
    "raw-alone": (raw(),),
    "raw-all-hole": (raw(commands=()),),
    "raw-all-data": (raw(commands=(Write("data", 0, 2048),)),),
    "raw-odd-length": (raw(MIB - 200), overlay(commands=())),
    "raw-odd-length-data-at-end": (raw(MIB - 200, (Write("data", 2040, 8),)), overlay(2 * MIB, commands=())),
    "raw-of-a-few-bytes": (raw(7, (Write("data", 0, 1),)), Layer(4096, 0)),
    "raw-under-overlays": (raw(), overlay(), overlay(MIB, 1, cluster_bits=12)),
    "raw-shorter": (raw(100 * KIB), overlay()),
    "raw-longer": (raw(2 * MIB), overlay()),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout(folders: Folders, name: str) -> None:
    with folders.fresh() as folder:
        assert_maps_agree(chains.build(Forest(LAYOUTS[name]), folder / "images"))


def test_layouts_are_what_their_names_say(folders: Folders) -> None:
    """The oracle's own answers prove that the layouts reach the cases that they stand for."""
    with folders.fresh() as folder:
        packed = chains.build(Forest(LAYOUTS["compressed"]), folder / "packed")
        assert any(e["data"] and not e["zero"] and "offset" not in e for e in qemu.map_json(packed.top))
        prealloc = chains.build(Forest(LAYOUTS["preallocated-metadata"]), folder / "prealloc")
        assert any(e["data"] and e["zero"] for e in qemu.map_json(prealloc.paths[0]))
        holes = chains.build(Forest(LAYOUTS["raw-under-overlays"]), folder / "holes")
        assert any(not e["data"] and e["zero"] and e["depth"] == 2 and "offset" in e for e in qemu.map_json(holes.top))


def test_a_backing_file_named_by_a_path(folders: Folders) -> None:
    """Links that leave the folder: absolute, and relative to the overlay's folder."""
    with folders.fresh() as folder:
        built = chains.build(Forest((base(), overlay())), folder / "images")
        (folder / "sub").mkdir()
        for name, link in (("up.qcow2", "../images/b.qcow2"), ("abs.qcow2", str(built.top))):
            path = folder / "sub" / name
            qemu.create(path, None, backing=link)
            qemu.io(path, "write -q -P 7 128k 4k")
            assert our_map(path) == qemu.map_json(path)


@pytest.mark.slow
def test_a_terabyte(folders: Folders) -> None:
    """Sparse, with writes at its far end and beyond 32 bits of clusters."""
    with folders.fresh() as folder:
        path = folder / "big.qcow2"
        qemu.create(path, 1 << 40, cluster_size=4096)
        qemu.io(path, "write -q 0 4k", "write -q 512G 64k", "write -q -z 700G 1M", f"write -q {(1 << 40) - 4096} 4k")
        top = folder / "top.qcow2"
        qemu.create(top, 1 << 41, backing=path, cluster_size=65536)
        qemu.io(top, "write -q 511G 64k", f"write -q {(1 << 41) - 512} 512")
        assert our_map(top) == qemu.map_json(top)
