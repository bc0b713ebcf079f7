"""Mutants of sound qcow2 files: every number that the format keeps anywhere, and values it is likely to choke on.

The places are found with struct alone, so that they do not rest on the code under test.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from . import damage
from .damage import Damage

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPIED, _PACKED, _ZERO = 1 << 63, 1 << 62, 1
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_EXTENSION_END = 0
_BITMAPS = 0x23852875
_MOST_ENTRIES = 64
"""Entries of one table that are offered for change; more would only make them hard to find."""

LENGTHS = (1 << 30, 1 << 35, 1 << 40, (1 << 44) - (1 << 21))
"""Lengths in bytes to which a file may be stretched; ext4 ends at 16 TiB."""


@dataclass(frozen=True)
class Number:
    """A big-endian number in a file: what it is, where, and how many bytes it has."""

    what: str
    offset: int
    width: int

    def read(self, data: bytes) -> int:
        """Give its value."""
        return int.from_bytes(data[self.offset : self.offset + self.width], "big")

    def changed_to(self, value: int) -> Damage:
        """Give the damage that sets it (cut to its width)."""
        return Damage(self.offset, (value & ((1 << 8 * self.width) - 1)).to_bytes(self.width, "big"))


def numbers(data: bytes) -> list[Number]:
    """Give every number of a sound qcow2 file's metadata that fits into the file."""
    found = [
        Number(f"header {name}", offset, width)
        for name, (offset, width) in damage.FIELDS.items()
        if damage.get(data, "version") >= 3 or offset < 72
    ]
    found += _extensions(data)
    found += _table("L1 entry", damage.get(data, "l1_table_offset"), damage.get(data, "l1_size"))
    for table in damage.l2_tables(data):
        found += _table("L2 entry", table, (1 << damage.get(data, "cluster_bits")) // 8)
    found += _table("refcount table entry", damage.get(data, "refcount_table_offset"), 8)
    for block in damage.refcount_blocks(data):
        found += [Number("refcounts", block + n, 1) for n in range(_MOST_ENTRIES)]
    found += _snapshots(data)
    return [n for n in found if n.offset + n.width <= len(data)]


def _table(what: str, offset: int, entries: int) -> list[Number]:
    """Give the first entries of a table, the last one, and some in between."""
    chosen = sorted({*range(min(entries, _MOST_ENTRIES)), entries - 1, entries // 2})
    return [Number(what, offset + 8 * n, 8) for n in chosen if n >= 0]


def extensions(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (type, offset of its head, length of its data) of every header extension."""
    offset = damage.get(data, "header_length") if damage.get(data, "version") >= 3 else 72
    end = damage.get(data, "backing_file_offset") or 1 << damage.get(data, "cluster_bits")
    while offset + 8 <= end:
        kind, length = struct.unpack_from(">II", data, offset)
        if kind == _EXTENSION_END:
            return
        yield kind, offset, length
        offset += 8 + -(-length // 8) * 8


def _extensions(data: bytes) -> Iterator[Number]:
    for kind, offset, length in extensions(data):
        yield Number("extension type", offset, 4)
        yield Number("extension length", offset + 4, 4)
        if kind == _BITMAPS:
            count, _, size, directory = struct.unpack_from(">IIQQ", data, offset + 8)
            yield from (Number("bitmaps", offset + 8 + at, n) for at, n in ((0, 4), (4, 4), (8, 8), (16, 8)))
            if directory + size <= len(data) and count:
                shape = ((0, 8), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2), (20, 4))
                yield from (Number("bitmap directory", directory + at, n) for at, n in shape)
        elif kind == damage.BACKING_FORMAT:
            yield from (Number("backing format", offset + 8 + n, 1) for n in range(length))


def _snapshots(data: bytes) -> Iterator[Number]:
    if not damage.get(data, "nb_snapshots"):
        return
    table = damage.get(data, "snapshots_offset")
    shape = ((0, 8), (8, 4), (12, 2), (14, 2), (16, 4), (20, 4), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8))
    yield from (Number("snapshot", table + at, n) for at, n in shape)
    yield from _table("snapshot L1 entry", *struct.unpack_from(">QI", data, table))


def values(data: bytes, number: Number) -> st.SearchStrategy[int]:
    """Draw what to put into a number: limits of its width, places of the file, and neighbours of what is there."""
    old, bits = number.read(data), 8 * number.width
    powers = [1 << n for n in range(bits)]
    limits = {0, 3, (1 << bits) - 1, (1 << bits) - 2, (1 << bits - 1) - 1, *powers}
    near = {old + 1, old - 1, old * 2, old // 2, *(old ^ p for p in powers)}
    places = _places(data) if number.width == 8 else []
    flagged = [p | f for p in places for f in (0, _COPIED, _PACKED, _COPIED | _ZERO)]
    choices = [sorted(limits), sorted(near), *([flagged] if flagged else [])]
    return st.sampled_from(choices).flatmap(st.sampled_from)


def _places(data: bytes) -> list[int]:
    """Give the offsets of all that lies in the file, and some that lie outside of it."""
    size, cluster = len(data), 1 << damage.get(data, "cluster_bits")
    last = (size - 1) // cluster * cluster
    found = {
        0, 512, cluster, cluster + 512, last, last + cluster, size, size - 1, size * 2, 1 << 40, 1 << 55, _OFFSET,
        damage.get(data, "l1_table_offset"), damage.get(data, "refcount_table_offset"),
        damage.get(data, "snapshots_offset"), *damage.l2_tables(data), *damage.refcount_blocks(data),
    }  # fmt: skip
    for table in damage.l2_tables(data):
        entries = struct.unpack_from(f">{min(_MOST_ENTRIES, cluster // 8)}Q", data, table)
        found |= {e & _OFFSET for e in entries if not e & _PACKED}
    return sorted(found)


def _number_damage(data: bytes, number: Number) -> st.SearchStrategy[Damage]:
    return values(data, number).map(number.changed_to)


TABLES = (
    "L1 entry",
    "L2 entry",
    "refcount table entry",
    "refcounts",
    "snapshot",
    "snapshot L1 entry",
    "bitmap directory",
)
"""Kinds of numbers that leave a file open to be read and written, if not soundly."""


def number_mutations(data: bytes, kinds: tuple[str, ...] = ()) -> st.SearchStrategy[tuple[Damage, ...]]:
    """Draw one to four damages to numbers; each kind (all, when none is named) is as likely as any other."""
    found: dict[str, list[Number]] = {}
    for number in numbers(data):
        if not kinds or number.what in kinds:
            found.setdefault(number.what, []).append(number)
    one = st.sampled_from(sorted(found)).flatmap(
        lambda kind: st.sampled_from(found[kind]).flatmap(lambda number: _number_damage(data, number))
    )
    copies = st.sampled_from(sorted(found)).flatmap(
        lambda kind: st.builds(
            lambda source, target: Damage(target.offset, data[source.offset : source.offset + target.width]),
            *(st.sampled_from(found[kind]),) * 2,
        )
    )
    return st.lists(st.one_of(one, one, one, copies), min_size=1, max_size=4).map(tuple)


def mutations(data: bytes) -> st.SearchStrategy[tuple[Damage, ...]]:
    """Draw damages to a sound qcow2 file: to its numbers, its tables alone, any of its metadata, or its link."""
    tables = number_mutations(data, TABLES)
    odd_links = names().map(lambda name: renamed(data, name))
    return st.one_of(tables, tables, tables, number_mutations(data), damage.damages(data), odd_links)


# --- backing file names -----------------------------------------------------------------------------------------------

_ODD_NAMES = (
    b"", b".", b"..", b"/", b"//", b"\0", b"a.qcow2\0b", b"file:", b"file:a.qcow2", b"file:///", b"json:", b"json:[]",
    b"json:1e999999", b"json:" + b"[" * 1000, b'json:{"a":' * 100, b"json:" + b"9" * 1000, b"nbd://h/x", b":", b"a:b",
    b"fat:rw:/", b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/tty", b"/proc/self/mem", b"/proc/self/fd/0",
    b"/proc/kmsg", b"/sys", b"\xff" * 1023, b"x" * 1023, b"x/" * 511, b"../" * 341, b"a.qcow2/", b"./a.qcow2",
    b"b.qcow2", b"c.qcow2", b"\x1b[31m\n", b"[red]", "\u202egnp".encode(), b"|", b"$(id)", b"'\"",
)  # fmt: skip
_KEYS = ("driver", "file", "filename", "file.filename", "file.driver", "offset", "size", "backing", "node-name")
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(),
    st.sampled_from(("qcow2", "raw", "file", "a.qcow2", "a.raw", "nbd", "\ud800", "\0", "", "vmdk", "4096")),
)  # fmt: skip


def _nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4))


_TREES = st.recursive(_LEAVES, _nested)


def names() -> st.SearchStrategy[bytes]:
    """Draw backing file names of all sorts."""
    trees = st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=4).map(lambda t: b"json:" + json.dumps(t).encode())
    return st.one_of(st.sampled_from(_ODD_NAMES), trees, st.binary(max_size=40), st.text(max_size=20).map(_encoded))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def renamed(data: bytes, name: bytes) -> tuple[Damage, ...]:
    """Give the damages that record another backing file name, behind all that the header holds."""
    cluster = 1 << damage.get(data, "cluster_bits")
    place = max([112, *(offset + 8 + -(-length // 8) * 8 for _, offset, length in extensions(data))]) + 8
    name = name[: min(1023, cluster - place)]
    head = struct.pack(">QI", place if name else 0, len(name))
    return Damage(8, head), Damage(place, name)


# --- whole files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """What to do to a file: damages, then possibly another length in bytes (what is new is a hole)."""

    damages: tuple[Damage, ...]
    length: int | None = None


@st.composite
def mutants(draw: st.DrawFn, data: bytes) -> Mutant:
    """Draw a mutant of a sound qcow2 file."""
    damages = draw(mutations(data))
    longer = draw(st.integers(0, 9)) == 9
    return Mutant(damages, draw(st.sampled_from(LENGTHS)) if longer else None)
