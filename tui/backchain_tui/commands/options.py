"""Options that several commands share, and what goes with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.errors import UnsupportedImageError
from backchain.filename import printable

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageInfo

scan_option = click.option(
    "--scan",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another folder in which overlays may lie (repeatable). The chain's own folders are always searched.",
)
"""``--scan FOLDER``, as parameter `scan`: a tuple of paths."""

format_option = click.option("-f", "image_format", metavar="FMT", help="Format of the image: qcow2.")
"""``-f FMT``, as parameter `image_format`."""

cache_option = click.option(
    "-t", "cache", metavar="CACHE", expose_value=False, help="As in qemu-img; has no effect here."
)
"""``-t CACHE``, which is taken for the sake of scripts: what is written is always flushed in order."""

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
    """Read a number of bytes with the suffixes of qemu-img: 10M, 1.5G, 4096 (powers of 1024).

    Raises:
        click.BadParameter: It is none, or less than 1.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([bkmgt]?)", text.strip(), re.IGNORECASE)
    count = int(float(match[1]) * 1024 ** "bkmgt".index(match[2].lower() or "b")) if match else 0
    if count < 1:
        raise click.BadParameter(f"{printable(text)!r} is not a size such as 10M, 1G or 4096")
    return count


def show_incomplete(graph: ChainGraph) -> None:
    """Say on standard error what was not looked at: overlays may hide there."""
    for line in graph.incomplete:
        click.echo(f"backchain: not looked at: {line}", err=True)
