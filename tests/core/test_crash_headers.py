"""A change of the backing file takes effect at once, whatever else the header holds and however the write is torn."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backchain.errors import UnsupportedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.header import Extension, Header, parse_header
from backchain.qcow2.writer import Qcow2Writer

from . import qemu
from .recording import recorded
from .states import States

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .folders import Folders

UNKNOWN = 0x12345678
"""A header extension that nobody knows."""
NAMES = ["b.qcow2", "./" * 120 + "b.qcow2", "./" * 350 + "b.qcow2"]
"""Names of one and the same file: within the header's first sector, across its end, behind it."""
EXTENSIONS: dict[str, list[Extension]] = {
    "as QEMU makes it": [],
    "a mark": [Extension(fmt.EXT_BASE_MARK, bytes(range(32)))],
    "a small one": [Extension(UNKNOWN, bytes(range(40)))],
    "a sector": [Extension(UNKNOWN, bytes(range(256)) * 2)],
    "more than a sector": [Extension(UNKNOWN, bytes(range(250)) * 4)],
    "two": [Extension(UNKNOWN, bytes(range(200))), Extension(UNKNOWN + 1, bytes(range(200)))],
}


def header_of(path: Path) -> Header:
    return parse_header(path.read_bytes(), path.stat().st_size)


def make(path: Path, name: str | None, extensions: Sequence[Extension], **options: object) -> Header:
    """Make an image with extensions of our own behind those of QEMU's, and the name behind them."""
    qemu.create(path, 1 << 20, **options)
    header = header_of(path)
    header = replace(header, extensions=(*header.extensions, *extensions))
    if name is not None:
        backing = Extension(fmt.EXT_BACKING_FORMAT, b"qcow2")
        header = replace(header, backing_name=name.encode(), extensions=(backing, *header.extensions))
    data = header.encode()
    with path.open("r+b") as file:
        file.write(data.ljust(header.cluster_size, b"\0"))
    return header_of(path)


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS.keys())
@pytest.mark.parametrize("compat", ["1.1", "0.10"])
def test_a_link_changes_at_once(memory: Folders, extensions: Sequence[Extension], compat: str) -> None:
    changed = 0
    for old in (None, *NAMES):
        for new, kind in ((None, None), *((name, "qcow2") for name in NAMES), ("a.raw", "raw")):
            with memory.fresh() as folder:
                changed += change(folder, extensions, compat, old, (new, kind))
    assert changed > 10


def change(
    folder: Path, extensions: Sequence[Extension], compat: str, old: str | None, link: tuple[str | None, str | None]
) -> bool:
    """Change a link and judge every state; gives False when it was refused and nothing was written."""
    qemu.create(folder / "b.qcow2", 1 << 20)
    (folder / "a.raw").write_bytes(bytes(1 << 16))
    path = folder / "top.qcow2"
    before = make(path, old, extensions, cluster_size=65536, compat=compat)
    content = path.read_bytes()
    with recorded(folder) as recording:
        descriptor = os.open(path, os.O_RDWR)
        try:
            name, kind = link
            Qcow2Writer(descriptor, before).set_backing(name.encode() if name is not None else None, kind)
        except UnsupportedImageError:
            assert path.read_bytes() == content
            return False
        finally:
            os.close(descriptor)
    assert link_of(path) == link
    states = States(recording)
    for digest in {s.files[path.name] for s in states.every()}:
        path.write_bytes(states.contents[digest])
        found = link_of(path)
        assert found in {(old, "qcow2" if old is not None else None), link}
        kept = [e for e in header_of(path).extensions if e.type in {UNKNOWN, UNKNOWN + 1}]
        assert kept == [e for e in extensions if e.type in {UNKNOWN, UNKNOWN + 1}]
        assert qemu.check(path).clean
    return True


def link_of(path: Path) -> tuple[str | None, str | None]:
    """Give the link as QEMU reads it."""
    info = qemu.info(path)
    return info.get("backing-filename"), info.get("backing-filename-format")
