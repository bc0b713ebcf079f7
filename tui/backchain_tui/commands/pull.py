"""``backchain pull``: copy layers up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backchain_tui.commands.changing import Request, changing_options, execute
from backchain_tui.commands.finding import find_base, find_image, named_files, require_backing
from backchain_tui.commands.options import NamedPath, cache_option, format_option, leftovers_option, require_format

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="copy layers up into an image")
@click.argument("image", metavar="IMAGE", type=NamedPath())
@click.option(
    "-b", "base", metavar="BASE", type=click.Path(),
    help="The new backing file (default: none, IMAGE then stands alone).",
)  # fmt: skip
@format_option
@cache_option
@leftovers_option
@changing_options
def pull(
    image: Path, base: str | None, image_format: str | None, request: Request, *, remove_leftovers: bool
) -> int:  # fmt: skip
    """Copy what lies between BASE and IMAGE up into IMAGE.

    IMAGE is backed by BASE afterwards. The layers between stay as they are and valid; IMAGE needs them no more.
    """
    from backchain.discover import discover
    from backchain.operations import Pull

    graph = discover([image, *named_files(base, image)], scan=request.scan)
    found = find_image(graph, image)
    require_format(graph[found], image_format)
    require_backing(graph, found, "pull from")
    below = find_base(graph, found, base) if base is not None else None
    return execute(graph, Pull(found, below), request, remove_leftovers=remove_leftovers)
