"""Formats of images: what an overlay records, what the file itself says, and which of them counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.chain import open_chain
from backchain.discover import discover
from backchain.errors import MalformedImageError, UnsupportedImageError

from . import qemu
from .images import chain_of, label_links, overlay, problems, states
from .planned import codes, commit

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def test_the_recorded_format_stays_beside_the_detected_one(tmp_path: Path) -> None:
    """A qcow2 file that an overlay records as raw: the overlay says raw, the file says qcow2, QEMU reads raw."""
    chain_of(tmp_path, "secret", "base")
    qemu.create(tmp_path / "raw-top.qcow2", None, backing="base.qcow2", backing_format="raw")
    top = tmp_path / "raw-top.qcow2"
    for graph in (discover([top]), discover([tmp_path])):
        image = next(i for i in graph if graph[i].label == "raw-top")
        backing = graph.backing_of(image)
        assert backing is not None
        link = graph[image].backing
        assert link is not None
        assert (link.format, graph[backing].format) == ("raw", "qcow2")
        assert graph.backing_of(backing) is None, "what QEMU takes as data must not lead anywhere"
    assert [i.format for i in open_chain(top)] == ["qcow2", "raw"]
    assert [i["format"] for i in qemu.backing_chain(top)] == ["qcow2", "raw"]
    assert "secret" not in states(discover([top]))
    assert "secret" in states(discover([tmp_path]))

    qemu.create(tmp_path / "right-top.qcow2", None, backing="base.qcow2", backing_format="qcow2")
    both = discover([top])
    assert label_links(both) == {("raw-top", "base"), ("right-top", "base"), ("base", "secret")}


def test_a_raw_file_recorded_as_qcow2_and_a_format_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(MIB))
    (tmp_path / "other").write_bytes(bytes(MIB))
    for name, base, recorded in [("wrong", "data", "qcow2"), ("foreign", "other", "vmdk")]:
        overlay(tmp_path / f"{name}.qcow2", base, recorded)
    graph = discover([tmp_path])
    assert {i.label: i.format for i in graph.images.values() if i.label in {"data", "other"}} == {
        "data": "raw", "other": "vmdk",
    }  # fmt: skip
    assert problems(graph)["other"] == "format vmdk is not supported"
    with pytest.raises(MalformedImageError):
        open_chain(tmp_path / "wrong.qcow2")
    with pytest.raises(UnsupportedImageError):
        open_chain(tmp_path / "foreign.qcow2")


def test_an_absent_format_is_detected(tmp_path: Path) -> None:
    chain_of(tmp_path, "base")
    overlay(tmp_path / "top.qcow2", "base.qcow2", None)
    graph = discover([tmp_path / "top.qcow2"])
    top = graph[graph.leaves()[0]]
    assert top.backing is not None
    assert top.backing.format is None
    assert next(graph[i] for i in graph if graph.is_base(i)).format == "qcow2"


@pytest.mark.parametrize("kind", ["vmdk", "vdi", "vhdx", "qed"])
def test_the_size_of_a_disk_that_cannot_be_read_is_not_known(tmp_path: Path, kind: str) -> None:
    """QEMU makes the overlay of the disk's size; the length of the file is another."""
    base, top = tmp_path / f"base.{kind}", tmp_path / "top.qcow2"
    qemu.run("qemu-img", "create", "-q", "-f", kind, base, "4M")
    qemu.create(top, None, backing=base, backing_format=kind)
    graph = discover([top])
    sizes = {graph[i].path: graph[i].virtual_size for i in graph}
    assert sizes == {top: 4 * MIB, base: None}
    assert codes(commit(base, top)) == {"missing-backing"}
