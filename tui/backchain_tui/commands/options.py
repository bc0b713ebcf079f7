"""Options that several commands share, and what goes with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.filename import printable

if TYPE_CHECKING:
    from backchain.graph import ChainGraph

scan_option = click.option(
    "--scan",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another folder in which overlays may lie (repeatable). The chain's own folders are always searched.",
)
"""``--scan FOLDER``, as parameter `scan`: a tuple of paths."""


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
