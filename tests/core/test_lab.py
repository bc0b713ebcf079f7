"""The lab, held against QEMU: sound images, and every cluster comes from the layer whose name it bears."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.errors import UsageError
from backchain.image import ImageState
from backchain.lab import CLUSTER_SIZE, LAYERS, Layer, make_lab

from . import qemu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    make_lab(folder)
    return folder


def chain_of(lab: Path, name: str) -> list[str]:
    parents = {layer.name: layer.backing for layer in LAYERS}
    chain = [name]
    while (below := parents[chain[-1]]) is not None:
        chain.append(below)
    return chain


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_every_image_is_sound(lab: Path, layer: Layer) -> None:
    path = lab / f"{layer.name}.qcow2"
    assert qemu.check(path).clean
    names = [entry["filename"] for entry in qemu.backing_chain(path)]
    assert [n.rpartition("/")[2].removesuffix(".qcow2") for n in names] == chain_of(lab, path.stem)


@pytest.mark.parametrize("name", [layer.name for layer in LAYERS])
def test_each_cluster_says_which_layer_provides_it(lab: Path, name: str) -> None:
    """What QEMU reads and where QEMU's map says it comes from agree with the text in the clusters themselves."""
    chain = chain_of(lab, name)
    view = qemu.view(lab / f"{name}.qcow2")
    written = set()
    for extent in qemu.map_json(lab / f"{name}.qcow2"):
        for start in range(extent["start"], extent["start"] + extent["length"], CLUSTER_SIZE):
            content = view[start : start + CLUSTER_SIZE]
            if extent["data"]:
                provider = chain[extent["depth"]]
                line = f"{provider} cluster {start // CLUSTER_SIZE} ".encode().ljust(31, b".") + b"\n"
                assert content == line * (CLUSTER_SIZE // 32)
                written.add(provider)
            else:
                assert content == bytes(CLUSTER_SIZE)
    assert written == set(chain)


def test_what_the_layers_hold_adds_up_to_the_view(lab: Path) -> None:
    for name in (layer.name for layer in LAYERS):
        by_name = {layer.name: layer for layer in LAYERS}
        expected = bytearray(by_name[name].size)
        for layer in (by_name[n] for n in reversed(chain_of(lab, name))):
            for cluster in layer.written():
                text = f"{layer.name} cluster {cluster} ".ljust(31, ".") + "\n"
                expected[cluster * CLUSTER_SIZE : (cluster + 1) * CLUSTER_SIZE] = text.encode() * 2048
            for cluster in layer.cleared():
                expected[cluster * CLUSTER_SIZE : (cluster + 1) * CLUSTER_SIZE] = bytes(CLUSTER_SIZE)
        assert qemu.view(lab / f"{name}.qcow2") == bytes(expected), name


def test_it_is_small_and_the_map_is_worth_looking_at(lab: Path) -> None:
    assert sum(qemu.allocated(p) for p in lab.iterdir()) < 60 << 20
    root = LAYERS[0]
    assert 0.5 < len(root.written()) * CLUSTER_SIZE / root.size < 0.65
    assert all(layer.cleared() for layer in LAYERS if layer.name.startswith("Snap"))
    assert len(qemu.map_json(lab / "Snap-4.qcow2")) > 50


def test_it_is_the_same_every_time(lab: Path, tmp_path: Path) -> None:
    for path in make_lab(tmp_path):
        assert qemu.digest(path) == qemu.digest(lab / path.name)


def test_it_can_be_moved_and_hangs_together(lab: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    qemu.copy_folder(lab, moved)
    graph = discover([moved])
    assert all(graph[i].state is ImageState.OK for i in graph)
    assert all(graph[i].path.parent == moved for i in graph)
    assert sorted(graph[i].label for i in graph if graph.is_base(i)) == ["Golden", "RootBase"]
    assert sorted(graph[i].label for i in graph.leaves()) == ["Db-2", "Snap-4", "Web-1"]


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "Db-2.qcow2").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        make_lab(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["Db-2.qcow2"]
