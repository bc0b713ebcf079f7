"""Digests take in what QEMU reads, and nothing of how it is stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from backchain.digests import BLOCK, view_digest
from backchain.errors import MalformedImageError

from . import chains, qemu
from .images import backed, chain_of
from .strategies import WINDOWS, forests
from .trial import windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backchain.digests import Range

    from .chains import Forest
    from .folders import Folders

GIB = 1 << 30


class Record:
    """Keeps all that it is given, in the place of a hash of it."""

    def __init__(self) -> None:
        self._taken = b""

    def update(self, data: bytes, /) -> None:
        self._taken += data

    def digest(self) -> bytes:
        return self._taken


def what_qemu_reads(view: bytes, ranges: Sequence[Range]) -> bytes:
    """Give the blocks of some ranges that are not zeros, each after its number."""
    taken = b""
    for start, end in ranges:
        for place in range(start, min(end, len(view)), BLOCK):
            if data := view[place : min(place + BLOCK, end)].rstrip(b"\0"):
                taken += b"%d:" % (place // BLOCK) + data
    return taken


@st.composite
def apart(draw: st.DrawFn, size: int) -> list[Range]:
    """Draw ranges that begin with a block, ascending; the last may reach past the end of the disk."""
    edges = draw(st.lists(st.integers(0, size // BLOCK + 1), min_size=2, max_size=24, unique=True).map(sorted))
    cut = draw(st.sampled_from((0, 1, 512, 4096, BLOCK - 1)))
    return [(low * BLOCK, high * BLOCK - cut) for low, high in zip(edges[0::2], edges[1::2], strict=False)]


@given(spec=forests(), window=WINDOWS, data=st.data())
def test_any_ranges_of_any_chain(folders: Folders, spec: Forest, window: int, data: st.DataObject) -> None:
    with windows_of(window), folders.fresh() as folder:
        top = chains.build(spec, folder / "images").top
        view = qemu.view(top)
        blocks = [(place, place + BLOCK) for place in range(0, len(view), BLOCK)]
        event(f"blocks: {len(blocks)}, layers: {len(spec.layers)}")
        for ranges in (blocks[0::2], blocks[1::2], [(0, len(view))], data.draw(apart(len(view)))):
            assert view_digest(backed(top), ranges, Record()) == what_qemu_reads(view, ranges), ranges


def test_samples_of_a_large_disk(tmp_path: Path) -> None:
    """Samples lie in tables of their own, in none, and past the end of what backs the disk."""
    root, middle = chain_of(tmp_path, "root", "middle", size=60 * GIB)
    top = tmp_path / "top.qcow2"
    qemu.create(top, 100 * GIB, backing=middle)
    qemu.io(root, "write -q -P 1 3G 64k", "write -q -P 2 50G 8M")
    qemu.io(middle, "write -q -P 3 50G 64k", "write -q -z 51539607552 1M", "write -q -P 9 30G 4k")
    qemu.io(top, "write -q -P 4 99G 64k")
    written = {3 * GIB: (1, BLOCK), 50 * GIB: (3, BLOCK), 50 * GIB + BLOCK: (2, BLOCK),
               30 * GIB: (9, 4096), 99 * GIB: (4, BLOCK)}  # fmt: skip
    places = sorted({*written, *range(0, 100 * GIB, 7 * GIB)})
    expected = b"".join(
        b"%d:" % (place // BLOCK) + bytes([value]) * length
        for place, (value, length) in sorted(written.items()) if place in places
    )  # fmt: skip
    assert view_digest(backed(top), [(p, p + BLOCK) for p in places], Record()) == expected


def test_what_lies_past_the_end_of_a_base_is_not_read(tmp_path: Path) -> None:
    """A disk that was made shorter keeps what its last cluster holds behind the new end."""
    base = tmp_path / "base.qcow2"
    qemu.create(base, 256 * 1024)
    qemu.io(base, "write -q -P 5 0 256k")
    qemu.run("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", base, "131584")
    top = tmp_path / "top.qcow2"
    qemu.create(top, 256 * 1024, backing=base)
    ranges = [(0, BLOCK), (2 * BLOCK, 3 * BLOCK), (3 * BLOCK, 4 * BLOCK)]
    expected = b"0:" + b"\5" * BLOCK + b"2:" + b"\5" * 512
    assert what_qemu_reads(qemu.view(top), ranges) == view_digest(backed(top), ranges, Record()) == expected


def test_a_damaged_table_is_said(tmp_path: Path) -> None:
    _, top = chain_of(tmp_path, "root", "top", size=60 * GIB)
    qemu.io(top, "write -q -P 1 0 64k", "write -q -P 1 40G 64k")
    chain, ranges = backed(top), [(0, BLOCK), (40 * GIB, 40 * GIB + BLOCK)]
    view_digest(chain, ranges, hashlib.sha256())
    (host,) = (e["offset"] for e in qemu.map_json(top) if e["start"] == 40 * GIB)
    table = top.read_bytes()
    place = table.index((host | 1 << 63).to_bytes(8, "big"))
    with top.open("r+b") as file:
        file.seek(place)
        file.write(((host + 512) | 1 << 63).to_bytes(8, "big"))
    with pytest.raises(MalformedImageError, match=r"top\.qcow2"):
        view_digest(chain, ranges, hashlib.sha256())
    assert view_digest([chain[1]], ranges, Record()) == b""
