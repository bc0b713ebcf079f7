"""Numbers as people read them: sizes, counts, rates, durations and offsets, by humanize.

Sizes use binary units with the short suffixes of QEMU's own tools in tight places (16.4G) and the unambiguous ones
of IEC elsewhere (16.4 GiB). `exact` gives every byte.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import humanize

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NAMES = 4
"""Names that a sentence has, unless each of them matters."""

UNKNOWN = "unknown"
"""Shown where a missing or unreadable file leaves a number open."""

_FOREVER = 360_000.0
"""Seconds beyond which a time to go says nothing (100 hours)."""


def size(count: int | None) -> str:
    """Give a size in bytes as text, for example "1.2 MiB"; None is unknown."""
    if count is None:
        return UNKNOWN
    text = humanize.naturalsize(count, binary=True, format="%.1f")
    number, _, unit = text.partition(" ")
    if unit in {"Bytes", "Byte"}:
        return f"{number} {'byte' if number == '1' else 'bytes'}"
    return f"{number.removesuffix('.0')} {unit}"


def short_size(count: int | None) -> str:
    """Give a size in bytes in at most six columns, for example "1.2M"; None is "?"."""
    if count is None:
        return "?"
    return humanize.naturalsize(count, gnu=True, format="%.1f").replace(".0", "")


def exact(count: int | None) -> str:
    """Give a size to the byte, for example "1.2 MiB (1,310,720 bytes)"."""
    if count is None:
        return UNKNOWN
    rounded = size(count)
    return rounded if count < 1024 else f"{rounded} ({number(count)} bytes)"


def number(count: int) -> str:
    """Give a count with thousands separated, for example "1,048,576"."""
    return humanize.intcomma(count)


def counted(count: int, noun: str) -> str:
    """Give a count with its noun, for example "1 cluster" or "18 clusters"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def rate(bytes_per_second: float) -> str:
    """Give a rate, for example "412 MiB/s"."""
    return f"{size(int(bytes_per_second))}/s"


def duration(seconds: float) -> str:
    """Give a time span, for example "3.1 s", "1:27" or "2:05:09"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    text = str(timedelta(seconds=whole))
    return text.removeprefix("0:").lstrip("0") if whole < 36_000 else text


def eta(seconds: float | None) -> str:
    """Give the time to go, or a dash while it is not known or beyond belief."""
    return "–" if seconds is None or seconds > _FOREVER else duration(seconds)


def percent(fraction: float) -> str:
    """Give a share as "45.0%"; it says 100 only when everything is done."""
    return f"{min(fraction, 1.0) * 100:.1f}%" if fraction >= 1 else f"{min(fraction * 100, 99.9):.1f}%"


def offset(position: int) -> str:
    """Give an offset in a disk or a file in hexadecimal, as QEMU's tools do."""
    return f"{position:#x}"


def ascii_text(text: str) -> str:
    """Give backchain's own typography in ASCII (names keep their characters)."""
    for mark, plain in ((" · ", " | "), ("–", "-"), ("…", "..."), (" → ", " -> "), ("⇧", "shift"), ("←→", "<->")):
        text = text.replace(mark, plain)
    return text


def heading_of(lines: Sequence[str], at_most: int = 90) -> str:
    """Give the end of the first of some lines, which names the file, and say how many more there are."""
    first = lines[0] if len(lines[0]) <= at_most else "…" + lines[0][1 - at_most :]
    return f"{first} (and {len(lines) - 1} more)" if lines[1:] else first


def names(labels: list[str], *, at_most: int = MOST_NAMES) -> str:
    """Join names for a sentence: "A", "A and B", "A, B and C"; long lists end in "and 7 more"."""
    if len(labels) > at_most:
        return f"{', '.join(labels[: at_most - 1])} and {len(labels) - at_most + 1} more"
    return " and ".join(filter(None, [", ".join(labels[:-1]), *labels[-1:]]))
