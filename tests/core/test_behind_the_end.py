"""A disk that ends amid a cluster: what lies behind its end is zeros, as QEMU leaves it, once the disk has grown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backchain.discover import discover
from backchain.operations import Snapshot
from backchain.planning import make_plan

from . import damage, planned, qemu
from .trial import carried

if TYPE_CHECKING:
    from pathlib import Path

    from .trial import Way

KIB, MIB = 1024, 1024 * 1024
SIZE, GROWN = 100 * KIB, 256 * KIB

OPTIONS: dict[str, dict[str, Any]] = {
    "64k": {"cluster_size": 64 * KIB},
    "4k": {"cluster_size": 4 * KIB},
    "extended-l2": {"cluster_size": 64 * KIB, "extended_l2": "on"},
    "v2": {"cluster_size": 64 * KIB, "compat": "0.10"},
}


def soiled(path: Path, backing: Path | None = None, size: int = SIZE, **options: Any) -> Path:
    """Make an image whose free host clusters hold what was there before."""
    qemu.create(path, size, backing=backing, **options)
    with path.open("r+b") as file:
        file.seek(-(-path.stat().st_size // (64 * KIB)) * 64 * KIB)
        file.write(b"\xee" * 512 * KIB)
    return path


@pytest.mark.parametrize("length", [MIB - 100, MIB - 511, MIB + 1, 700])
def test_a_disk_that_ends_amid_a_sector(tmp_path: Path, length: int) -> None:
    """QEMU leaves off what is less than a sector, and makes overlays as long as that; so does a snapshot."""
    base, theirs, ours = (tmp_path / f"{n}.qcow2" for n in ("base", "theirs", "ours"))
    qemu.create(base, 2 * MIB)
    qemu.io(base, "write -q -P 7 0 2M")
    base.write_bytes(damage.put(base.read_bytes(), "size", length))
    qemu.create(theirs, None, backing=base)
    graph = discover([base])
    assert graph[planned.node(graph, base)].virtual_size == qemu.info(base)["virtual-size"]
    planned.run(make_plan(graph, Snapshot(planned.node(graph, base), ours)))
    assert qemu.info(ours)["virtual-size"] == qemu.info(theirs)["virtual-size"]
    assert qemu.compare(ours, theirs)
    qemu.io(ours, "write -q -P 3 0 512")
    view = qemu.view(ours)
    theirs.unlink()
    plan = planned.commit(base, ours)
    assert "base-grows" not in planned.codes(plan)
    planned.run(plan)
    assert qemu.view(base) == view


def assert_zeros_behind(path: Path, view: bytes) -> None:
    """Grow the disk: it reads as before, and zeros from there on."""
    assert qemu.check(path).clean
    assert qemu.view(path)[: len(view)] == view
    qemu.run("qemu-img", "resize", "-q", path, str(GROWN))
    assert qemu.view(path) == view.ljust(GROWN, b"\0")


@pytest.mark.parametrize("way", ["direct", "kernel"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("size", [SIZE, SIZE + 512, 98 * KIB + 1536])
def test_a_pull(tmp_path: Path, size: int, options: dict[str, Any], way: Way) -> None:
    base = tmp_path / "base.qcow2"
    qemu.create(base, size, **options)
    qemu.io(base, f"write -q -P 7 0 {size}")
    top = soiled(tmp_path / "top.qcow2", base, size, **options)
    with carried(way):
        planned.run(planned.pull(top, None))
    assert_zeros_behind(top, b"\7" * size)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_commit(tmp_path: Path, options: dict[str, Any]) -> None:
    base = soiled(tmp_path / "base.qcow2", **options)
    top = tmp_path / "top.qcow2"
    qemu.create(top, SIZE, backing=base, **options)
    qemu.io(top, f"write -q -P 7 70k {SIZE - 70 * KIB}")
    planned.run(planned.commit(base, top))
    assert_zeros_behind(base, bytes(70 * KIB) + b"\7" * (SIZE - 70 * KIB))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_commit_of_a_shorter_overlay(tmp_path: Path, options: dict[str, Any]) -> None:
    """The base's own disk goes on behind the overlay's, up to amid the same cluster."""
    base = soiled(tmp_path / "base.qcow2", **options)
    top = tmp_path / "top.qcow2"
    qemu.create(top, SIZE - 2 * KIB, backing=base, **options)
    qemu.io(top, "write -q -P 7 97k 1k")
    planned.run(planned.commit(base, top))
    assert_zeros_behind(base, bytes(97 * KIB) + b"\7" * KIB + bytes(2 * KIB))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_rebase(tmp_path: Path, options: dict[str, Any]) -> None:
    base, other = tmp_path / "base.qcow2", tmp_path / "other.qcow2"
    for path, value in ((base, 7), (other, 9)):
        qemu.create(path, SIZE, **options)
        qemu.io(path, f"write -q -P {value} 0 {SIZE}")
    top = soiled(tmp_path / "top.qcow2", base, **options)
    planned.run(planned.rebase(top, other))
    assert_zeros_behind(top, b"\7" * SIZE)
