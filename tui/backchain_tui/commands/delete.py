"""``backchain delete``: remove images that nothing depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backchain_tui.commands.changing import Request, changing_options, execute
from backchain_tui.commands.finding import find_image
from backchain_tui.commands.options import NamedPath

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="remove images that nothing depends on")
@click.argument("images", metavar="IMAGE ...", nargs=-1, required=True, type=NamedPath())
@changing_options
def delete(images: tuple[Path, ...], request: Request) -> int:
    """Remove image files, but none that an overlay, another image's data or a virtual machine still needs."""
    from backchain.discover import discover
    from backchain.operations import Delete

    graph = discover(images, scan=request.scan)
    return execute(graph, Delete(tuple(dict.fromkeys(find_image(graph, i) for i in images))), request)
