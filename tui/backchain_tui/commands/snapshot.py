"""``backchain snapshot``: a new overlay."""

from __future__ import annotations

from pathlib import Path

import click

from backchain_tui.commands.changing import Request, changing_options, execute
from backchain_tui.commands.finding import find_image
from backchain_tui.commands.options import FORMATS, NamedPath


@click.command(short_help="put a new overlay on an image")
@click.argument("image", metavar="IMAGE", type=NamedPath())
@click.argument("overlay", metavar="OVERLAY", type=NamedPath())
@click.option("-F", "backing_format", metavar="FMT", type=FORMATS, help="Format of IMAGE (default: what it is).")
@changing_options
def snapshot(image: Path, overlay: Path, backing_format: str | None, request: Request) -> int:
    """Make OVERLAY, a new and empty qcow2 image that is backed by IMAGE.

    What is written from then on goes into OVERLAY, and IMAGE keeps its content. The machine must be told to use
    OVERLAY. Size and format of IMAGE are recorded, and its name relative to OVERLAY.
    """
    from backchain.discover import discover
    from backchain.operations import Snapshot

    graph = discover([image], scan=request.scan)
    return execute(graph, Snapshot(find_image(graph, image), Path.cwd() / overlay, backing_format), request)
