"""The map's document, written by columns of digits, is the one that plain formatting gives, character by character."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backchain.errors import MalformedImageError
from backchain.mapping import Extents, Kind
from backchain_tui.map_text import json_pieces, numerals, table_pieces
from tests.core import qemu

from .command_line import backchain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = tuple[int, int, int, int, int]

MOST = (1 << 63) - 1
NUMBERS = st.integers(0, MOST) | st.integers(0, 18).flatmap(
    lambda power: st.integers(max(10**power - 2, 0), min(10**power + 2, MOST))
)
ROWS = st.tuples(NUMBERS, NUMBERS, st.integers(0, 65535), st.integers(0, (1 << len(Kind)) - 1), st.just(-1) | NUMBERS)


def extents(rows: list[Row]) -> Extents:
    start, length, depth, kind, offset = zip(*rows, strict=True)
    return Extents(
        np.array(start, np.int64), np.array(length, np.int64), np.array(depth, np.uint16), np.array(kind, np.uint8),
        np.array(offset, np.int64),
    )  # fmt: skip


def line(row: Row) -> str:
    """Write a line as qemu-img does (``dump_map_entry`` in qemu-img.c), and whether it is compressed."""
    start, length, depth, kind, offset = row
    words = {"present": Kind.PRESENT, "zero": Kind.ZERO, "data": Kind.DATA, "compressed": Kind.COMPRESSED}
    said = "".join(f', "{name}": {"true" if kind & flag else "false"}' for name, flag in words.items())
    place = f', "offset": {offset}' if offset >= 0 else ""
    return f'{{ "start": {start}, "length": {length}, "depth": {depth}{said}{place}}}'


@given(st.lists(NUMBERS, min_size=1))
def test_numbers_in_decimal(numbers: list[int]) -> None:
    text = numerals(np.array(numbers, np.int64))
    assert text.shape == (len(numbers), len(str(max(numbers))))
    assert [bytes(row).lstrip(b"\0").decode() for row in text] == list(map(str, numbers))


@given(st.lists(st.lists(ROWS, min_size=1, max_size=40), min_size=1, max_size=4))
def test_the_document_is_as_plain_formatting_gives_it(batches: list[list[Row]]) -> None:
    text = "".join(json_pieces(map(extents, batches)))
    assert text == "[" + ",\n".join(line(row) for rows in batches for row in rows) + "]\n"


def test_a_batch_of_many_lines() -> None:
    rows = [(n * 65536, 65536, n % 3, n % 16, n * 7 if n % 5 else -1) for n in range(5000)]
    text = "".join(json_pieces([extents(rows)]))
    assert text == "[" + ",\n".join(map(line, rows)) + "]\n"
    assert len(json.loads(text)) == 5000


def test_what_comes_before_damage_is_told() -> None:
    rows = [(n * 65536, 65536, 0, int(Kind.PRESENT | Kind.DATA), n * 65536) for n in range(3)]

    def batches() -> Iterator[Extents]:
        yield extents(rows)
        raise MalformedImageError("damaged")

    for pieces, last in ((json_pieces(batches()), line(rows[-1])), (table_pieces(batches(), ["top"]), "top\n")):
        told = []
        with pytest.raises(MalformedImageError):
            told.extend(pieces)
        assert "".join(told).endswith(last)


@pytest.mark.parametrize(
    "name",
    [
        "base.qcow2",
        "../in/base.qcow2",
        "file:in/base.qcow2",
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"in/base.qcow2"}}',
        'json:{"file.filename":"in/base.qcow2"}',
    ],
)
def test_files_are_called_what_qemu_img_calls_them(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    root, base, top = (folder / f"{stem}.qcow2" for stem in ("root", "base", "top"))
    qemu.create(root, 1 << 20)
    qemu.io(root, "write -q -P 1 0 64k")
    qemu.create(base, None, backing=root)
    qemu.io(base, "write -q -P 2 64k 64k")
    qemu.run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", name, top, "1M")
    for image in ("in/top.qcow2", "./in/top.qcow2"):
        assert backchain("map", image, cwd=tmp_path).stdout == qemu.run("qemu-img", "map", image, cwd=tmp_path)
