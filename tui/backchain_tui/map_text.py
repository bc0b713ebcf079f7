"""A map as text: qemu-img's JSON document, and its table.

A fragmented image has millions of extents. The document is therefore written by numpy, thousands of lines at a time:
every line gets the same columns, numbers are written four digits at once into theirs, and what a column does not need
is left blank (bytes of zero) and taken out of the whole at the end. The map of 11,620 extents takes 2.7 ms to write
that way, 6.1 ms line by line with Python's formatting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backchain.errors import BackchainError, UnsupportedImageError
from backchain.filename import file_in_json, printable
from backchain.mapping import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from backchain.image import ImageInfo
    from backchain.mapping import Extents

_LINES_AT_ONCE = 2048
_BLANK = b"\0"
_POWER = 10_000
"""Numbers are written in groups of four digits."""
_BETWEEN = b",\n"


# --- the document -----------------------------------------------------------------------------------------------------


def json_pieces(batches: Iterable[Extents]) -> Iterator[str]:
    """Give the document in pieces, spaced as qemu-img spaces it."""
    first = True
    for extents in batches:
        for low in range(0, len(extents), _LINES_AT_ONCE):
            lines = _lines(extents.take(slice(low, low + _LINES_AT_ONCE))).tobytes().replace(_BLANK, b"")
            yield (b"[" + lines.removeprefix(_BETWEEN) if first else lines).decode("ascii")
            first = False
    yield "]\n"


def _lines(extents: Extents) -> NDArray[np.uint8]:
    """Give a line for each extent; uint8, shape (n, bytes of a line): ASCII, and blanks."""
    placed = extents.offset >= 0
    offset = numerals(np.maximum(extents.offset, 0))
    offset[~placed] = 0
    columns = (
        _BETWEEN + b'{ "start": ', numerals(extents.start), b', "length": ', numerals(extents.length),
        b', "depth": ', numerals(extents.depth.astype(np.int64)), _FLAGS.take(extents.kind + placed * _PLACED, axis=0),
        offset, b"}",
    )  # fmt: skip
    like_all = b"".join(c if isinstance(c, bytes) else bytes(c.shape[1]) for c in columns)
    lines = np.empty((len(extents), len(like_all)), np.uint8)
    lines[:] = np.frombuffer(like_all, np.uint8)
    end = 0
    for column in columns:
        end += len(column) if isinstance(column, bytes) else column.shape[1]
        if not isinstance(column, bytes):
            lines[:, end - column.shape[1] : end] = column
    return lines


def _flags() -> NDArray[np.uint8]:
    """Make the table of what the document says of each kind of extent, without and with a place in the file.

    Returns:
        uint8, shape (2 * kinds, bytes): ASCII, blanks at the end.
    """
    names = {"present": Kind.PRESENT, "zero": Kind.ZERO, "data": Kind.DATA, "compressed": Kind.COMPRESSED}
    kinds = [
        "".join(f', "{name}": {"true" if kind & flag else "false"}' for name, flag in names.items())
        for kind in range(1 << len(Kind))
    ]
    words = np.array([kind + place for place in ("", ', "offset": ') for kind in kinds], "S")
    return words.view(np.uint8).reshape(len(words), -1)


def _groups() -> NDArray[np.uint32]:
    """Make the table of groups of digits: 0000 to 9999, then the same without the zeros in front, 0 all blank.

    Returns:
        uint32, shape (20,000,): four bytes each.
    """
    number = np.arange(_POWER)
    digits = np.stack([number // 1000, number // 100 % 10, number // 10 % 10, number % 10], axis=1) + ord("0")
    short = np.where(number[:, None] < (1000, 100, 10, 1), 0, digits)
    return np.concatenate((digits, short)).astype(np.uint8).view(np.uint32).ravel()


_FLAGS = _flags()
_PLACED = np.uint8(len(_FLAGS) // 2)
_GROUPS = _groups()


def numerals(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Write numbers in decimal.

    Args:
        numbers: int64, shape (n,), at least one, none negative.

    Returns:
        uint8, shape (n, digits of the greatest): ASCII, blank (zero bytes) in front.
    """
    width = len(str(int(numbers.max())))
    count = -(-width // 4)
    text = np.empty((len(numbers), count), np.uint32)
    rest = numbers
    for group in range(count - 1, 0, -1):
        above = rest // _POWER
        text[:, group] = _GROUPS[np.where(above > 0, rest - _POWER * above, rest + _POWER)]
        rest = above
    text[:, 0] = _GROUPS[rest + _POWER]
    digits = text.view(np.uint8)
    digits[numbers == 0, -1] = ord("0")
    return digits[:, -width:]


# --- the table --------------------------------------------------------------------------------------------------------


def table_pieces(batches: Iterable[Extents], names: Sequence[str]) -> Iterator[str]:
    """Give the table in pieces of many lines: data that has a place in a file.

    Args:
        batches: What is mapped.
        names: The names of the chain's files, the top's first.

    Raises:
        UnsupportedImageError: Data has no such place because it is compressed, as in qemu-img.
    """
    piece: list[str] = []
    try:
        for line in _table_lines(batches, names):
            piece.append(line)
            if len(piece) >= _LINES_AT_ONCE:
                yield "".join(piece)
                piece.clear()
    except BackchainError:  # what comes before it is shown
        yield "".join(piece)
        raise
    yield "".join(piece)


def _table_lines(batches: Iterable[Extents], names: Sequence[str]) -> Iterator[str]:
    stored, shown = int(Kind.DATA | Kind.ZERO), int(Kind.DATA)
    yield f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n"
    for extents in batches:
        for start, length, depth, kind, offset in extents.rows():
            if kind & stored != shown:
                continue
            if offset < 0:
                raise UnsupportedImageError(
                    f"the data at {start:#x} is compressed and has no offset", "--output json shows it"
                )
            yield f"{_hex(start)}{_hex(length)}{_hex(offset)}{printable(names[depth])}\n"


def file_names(image: str, chain: Sequence[ImageInfo]) -> list[str]:
    """Give the names of a chain's files as qemu-img shows them: as given, and from there on as the links lead.

    Source: ``path_combine`` in QEMU's block.c, which joins text and folds nothing away.
    """
    names = [image]
    for overlay in chain[:-1]:
        link = overlay.backing
        assert link is not None
        if link.name.startswith("json:"):
            names.append(file_in_json(link.name) or str(link.path))
        elif link.name.startswith("file:"):
            names.append(link.name.removeprefix("file:"))
        else:
            folder = "" if link.name.startswith("/") else names[-1][: names[-1].rfind("/") + 1]
            names.append(folder + link.name)
    return names


def _hex(value: int) -> str:
    """Give a number as C's ``%#-16x``, which writes no prefix before a zero."""
    return f"{value:#x}".ljust(16) if value else "0".ljust(16)
