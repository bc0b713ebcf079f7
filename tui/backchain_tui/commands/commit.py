"""``backchain commit``: merge layers down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backchain_tui.commands.changing import Request, changing_options, execute
from backchain_tui.commands.finding import find_base, find_image, named_files, require_backing
from backchain_tui.commands.options import NamedPath, cache_option, format_option, leftovers_option, require_format

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="merge layers down into a base")
@click.argument("top", metavar="TOP", type=NamedPath())
@click.option(
    "-b", "base", metavar="BASE", type=click.Path(),
    help="The image that receives the data (default: TOP's backing file).",
)  # fmt: skip
@click.option("-d", "keep_top", is_flag=True, help="Leave TOP as it is when it is the active layer (else: emptied).")
@format_option
@cache_option
@leftovers_option
@changing_options
def commit(
    top: Path, base: str | None, image_format: str | None, request: Request, *, keep_top: bool, remove_leftovers: bool
) -> int:
    """Merge TOP and every layer above BASE down into BASE.

    Overlays of TOP are backed by BASE afterwards; TOP and the layers between are then invalid. If TOP has no overlay
    it is the active layer: its data goes down, and it stays as an emptied overlay of BASE.
    """
    from backchain.discover import discover
    from backchain.operations import Commit

    graph = discover([top, *named_files(base, top)], scan=request.scan)
    image = find_image(graph, top)
    require_format(graph[image], image_format)
    backing = require_backing(graph, image, "commit into")
    target = find_base(graph, image, base) if base is not None else backing
    return execute(graph, Commit(target, image, keep_top), request, remove_leftovers=remove_leftovers)
