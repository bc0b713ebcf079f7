"""Widths of text in terminal cells, and names cut to fit them.

Names come out of files and file systems: whatever they hold must take exactly the cells that the terminal library
reckons with, so the widths are those of `rich.cells`.
"""

from __future__ import annotations

import unicodedata

from rich.cells import get_character_cell_size

from backchain.filename import printable


def clean(text: str) -> str:
    """Make `text` safe for a grid of cells: controls escaped, composed, characters without a width left out."""
    text = printable(text)
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFC", text) if get_character_cell_size(c))


def cell_width(text: str) -> int:
    """Give the cells that cleaned `text` takes."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut `text` to `width` cells, leaving out its middle: names differ at both ends.

    Returns:
        At most `width` cells; empty when `width` is below 1.
    """
    if cell_width(text) <= width:
        return text
    if width < 1:
        return ""
    room = width - cell_width(ellipsis)
    if room < 1:
        return ellipsis[:width]
    tail = _take(text[::-1], room // 2)[::-1]
    return _take(text, room - cell_width(tail)) + ellipsis + tail


def _take(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    taken: list[str] = []
    for character in text:
        width -= get_character_cell_size(character)
        if width < 0:
            break
        taken.append(character)
    return "".join(taken)
