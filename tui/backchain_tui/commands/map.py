"""``backchain map``: which layer provides each part of the guest's disk, as ``qemu-img map`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.errors import ImageInUseError
from backchain_tui.commands.options import FORMATS, NamedPath, parse_offset
from backchain_tui.stdio import answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.image import ImageInfo


@click.command("map", short_help="the same answer as qemu-img map")
@click.argument("image", metavar="IMAGE", type=NamedPath(str))
@click.option("--output", type=click.Choice(["human", "json"]), default="human", help="Default: human.")
@click.option(
    "-f",
    "--format",
    "image_format",
    metavar="FMT",
    type=FORMATS,
    help="Format of IMAGE: qcow2 or raw.",
)
@click.option(
    "-s", "--start-offset", metavar="OFFSET", type=parse_offset, default="0", help="Where to begin (default: 0)."
)
@click.option(
    "-l", "--max-length", metavar="LEN", type=parse_offset, help="Bytes to map at most (default: up to the end)."
)
@click.option("-U", "--force-share", is_flag=True, help="Read the image even if another process writes to it.")
def map_(
    image: str, output: str, image_format: str | None, start_offset: int, max_length: int | None, *, force_share: bool
) -> None:
    """Show which layer of the chain provides each part of IMAGE.

    The answer is that of qemu-img map, extent for extent; JSON also says which extents are compressed.
    """
    from backchain.chain import open_chain
    from backchain.mapping import qemu_map
    from backchain_tui.map_text import file_names, json_pieces, table_pieces

    chain = open_chain(Path(image), image_format=image_format)
    if not force_share:
        _require_unused(chain)
    extents = qemu_map(chain, start_offset, max_length)
    for piece in json_pieces(extents) if output == "json" else table_pieces(extents, file_names(image, chain)):
        answer(piece)


def _require_unused(chain: Sequence[ImageInfo]) -> None:
    """Refuse to read what another process is writing, as QEMU does.

    Raises:
        ImageInUseError: One of the images is locked.
    """
    from backchain.locks import probe

    for info in chain:
        if probe(info.path, writing=False):
            raise ImageInUseError(f"{info.display_path}: another process is writing to the image", "-U reads it anyway")
