"""``backchain rebase``: another backing file for an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.errors import MissingImageError, UnsupportedImageError, UsageError
from backchain.filename import has_protocol, printable, resolve_backing
from backchain_tui.commands.changing import Request, changing_options, execute
from backchain_tui.commands.finding import find_image
from backchain_tui.commands.options import (
    FORMATS,
    NamedPath,
    cache_option,
    format_option,
    leftovers_option,
    require_format,
    source_cache_option,
)

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId


@click.command(short_help="give an image another backing file")
@click.argument("image", metavar="IMAGE", type=NamedPath())
@click.option(
    "-b",
    "backing",
    metavar="BACKING",
    type=click.Path(),
    required=True,
    help='The new backing file, relative to IMAGE\'s folder or to this one; "" for none.',
)
@click.option("-F", "backing_format", metavar="FMT", type=FORMATS, help="Format of BACKING (default: what it is).")
@click.option(
    "-u", "--unsafe", "unsafe", is_flag=True, help="Change the link alone; only if IMAGE then reads the same."
)
@format_option
@cache_option
@source_cache_option
@click.option("-U", "--force-share", is_flag=True, expose_value=False, help="As in qemu-img; has no effect here.")
@leftovers_option
@changing_options
def rebase(
    image: Path, backing: str, backing_format: str | None, image_format: str | None, request: Request, *,
    unsafe: bool, remove_leftovers: bool,
) -> int:  # fmt: skip
    """Give IMAGE another backing file, and keep what it reads.

    What differs between its old and its new backing file is copied into IMAGE first. With -u only the link is changed,
    which is allowed when IMAGE reads the same through the new one, or to repair a link whose file is gone.
    """
    from backchain.discover import discover
    from backchain.operations import Rebase

    below, name = _find_backing(image, backing)
    graph = discover([image] if below is None else [image, below], scan=request.scan)
    found = find_image(graph, image)
    require_format(graph[found], image_format)
    new = find_image(graph, below) if below is not None else None
    _refuse_no_change(graph, found, new)
    operation = Rebase(found, new, unsafe, name, backing_format if new is not None else None)
    return execute(graph, operation, request, remove_leftovers=remove_leftovers)


def _find_backing(image: Path, name: str) -> tuple[Path | None, str | None]:
    """Give the file that `name` means, and the name to record, or None to derive one.

    QEMU's own reading comes first: relative to the image's folder; then the name is recorded as it was given.

    Raises:
        MissingImageError: There is no such file.
        UnsupportedImageError: The name leads to no file of this machine.
    """
    if not name:
        return None, None
    link = resolve_backing(Path.cwd() / image, name, None)
    if link.path is None:
        raise UnsupportedImageError(f"{printable(name)} is no file of this machine", "backchain does not open it")
    if link.path.exists():
        return link.path, name
    here = Path.cwd() / name
    if not has_protocol(name) and here.exists():
        return here, None
    raise MissingImageError(
        f"{printable(name)}: no such file, neither beside {printable(str(image))} nor in this folder",
        "name the new backing file by its path",
    )


def _refuse_no_change(graph: ChainGraph, image: ImageId, new: ImageId | None) -> None:
    if new is None and graph.backing_of(image) is None and graph[image].backing is None:
        raise UsageError(f"{graph[image].display_path} has no backing file already")
