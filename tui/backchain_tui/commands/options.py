"""Options that several commands share, and what goes with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backchain.errors import UnsupportedImageError
from backchain.filename import printable
from backchain_tui.stdio import complain

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageInfo

_UNITS = "bkmgtpe"
_MOST = (1 << 63) - 1


class NamedPath(click.Path):
    """A path as it was given; what is wrong with the file is said where it is opened.

    An empty one is refused: a script's unset variable would else stand for the working directory.
    """

    def __init__(self, path_type: type[Path | str] = Path, *, folder: bool = False) -> None:
        """Give paths of a type; completion offers folders alone if `folder` is set."""
        super().__init__(file_okay=not folder, path_type=path_type)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the path."""
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return self.coerce_path_result(value)


scan_option = click.option(
    "--scan",
    metavar="FOLDER",
    multiple=True,
    type=NamedPath(folder=True),
    help="Another folder in which overlays may lie (repeatable). The chain's own folders are always searched.",
)
"""``--scan FOLDER``, as parameter `scan`: a tuple of paths."""

FORMATS = click.Choice(["qcow2", "raw"])
"""What ``-f`` takes: the formats that can be read."""

format_option = click.option("-f", "image_format", metavar="FMT", type=FORMATS, help="Format of the image: qcow2.")
"""``-f FMT``, as parameter `image_format`."""

_cache_mode = click.Choice(["none", "off", "writeback", "unsafe", "directsync", "writethrough"])

cache_option = click.option(
    "-t", "cache", metavar="CACHE", type=_cache_mode, expose_value=False, help="As in qemu-img; has no effect here."
)
"""``-t CACHE``, which is taken for the sake of scripts: what is written is always flushed in order."""

source_cache_option = click.option(
    "-T", "source_cache", metavar="CACHE", type=_cache_mode, expose_value=False,
    help="As in qemu-img; has no effect here.",
)  # fmt: skip
"""``-T CACHE``, likewise."""

leftovers_option = click.option(
    "--delete", "remove_leftovers", is_flag=True,
    help="Remove the images that nothing needs afterwards, once all that is left was verified as a whole.",
)  # fmt: skip
"""``--delete``, as parameter `remove_leftovers`."""


def require_format(image: ImageInfo, expected: str | None) -> None:
    """Make sure that an image has the format that was named with -f.

    Raises:
        UnsupportedImageError: It is another.
    """
    if expected is not None and expected != image.format:
        raise UnsupportedImageError(
            f"{image.display_path} is {image.format}, not {printable(expected)}", "leave -f out, or name another image"
        )


def parse_size(text: str) -> int:
    """Read a number of bytes, at least 1, as `parse_offset` does.

    Raises:
        click.BadParameter: It is none, or 0.
    """
    count = _bytes(text)
    if not count:
        raise _no_size(text)
    return count


def parse_offset(text: str) -> int:
    """Read a number of bytes with the suffixes of qemu-img: 10M, 1.5G, 4096, 0x10000, 0 (powers of 1024).

    Raises:
        click.BadParameter: It is none, or does not fit into 63 bits.
    """
    count = _bytes(text)
    if count is None:
        raise _no_size(text)
    return count


def _bytes(text: str) -> int | None:
    """Give the bytes that `text` stands for (a half is rounded up, a fraction needs a unit), or None."""
    from fractions import Fraction

    text = text.strip()
    if re.fullmatch(r"0x[0-9a-f]{1,16}", text, re.IGNORECASE | re.ASCII):
        count = int(text, 16)
    elif match := re.fullmatch(rf"(\d{{1,20}})(\.\d{{0,40}})?([{_UNITS}]?)", text, re.IGNORECASE | re.ASCII):
        unit = 1024 ** _UNITS.index(match[3].lower() or "b")
        fraction = Fraction(f"0{match[2]}0") if match[2] else Fraction(0)
        if fraction and unit == 1:
            return None
        count = int((int(match[1]) + fraction) * unit + Fraction(1, 2))
    else:
        return None
    return count if count <= _MOST else None


def _no_size(text: str) -> click.BadParameter:
    return click.BadParameter(f"{printable(text)!r} is not a size such as 10M, 1G or 4096")


def show_interrupted(graph: ChainGraph) -> None:
    """Say on standard error which jobs were interrupted, and how to go on with them."""
    if not graph.interrupted:
        return
    from backchain_tui.recovery_words import headline, way_on

    for record in graph.interrupted:
        complain(f"interrupted: {headline(record)}; {way_on(record)}")


def show_incomplete(graph: ChainGraph) -> None:
    """Say on standard error what was not looked at: overlays may hide there."""
    for line in graph.incomplete:
        complain(f"not looked at: {line}")
