"""``backchain map``: which layer provides each part of the guest's disk, as ``qemu-img map`` says it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.errors import ImageInUseError, UnsupportedImageError
from backchain.filename import printable
from backchain_tui.commands.options import parse_offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backchain.image import ImageInfo
    from backchain.mapping import Extents

_LINES_AT_ONCE = 512


@click.command("map", short_help="the same answer as qemu-img map")
@click.argument("image", metavar="IMAGE")
@click.option("--output", type=click.Choice(["human", "json"]), default="human", help="Default: human.")
@click.option(
    "-f",
    "--format",
    "image_format",
    metavar="FMT",
    type=click.Choice(["qcow2", "raw"]),
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

    chain = open_chain(Path(image), image_format=image_format)
    if not force_share:
        _require_unused(chain)
    extents = qemu_map(chain, start_offset, max_length)
    _write(_json_lines(extents) if output == "json" else _human_lines(extents, _names(image, chain)))


def _require_unused(chain: Sequence[ImageInfo]) -> None:
    """Refuse to read what another process is writing, as QEMU does.

    Raises:
        ImageInUseError: One of the images is locked.
    """
    from backchain.locks import probe

    for info in chain:
        if probe(info.path, writing=False):
            raise ImageInUseError(f"{info.display_path}: another process is writing to the image", "-U reads it anyway")


def _write(pieces: Iterable[str]) -> None:
    """Write text in large pieces: a fragmented image has millions of lines. What comes before an error is written."""
    batch: list[str] = []
    try:
        for piece in pieces:
            batch.append(piece)
            if len(batch) >= _LINES_AT_ONCE:
                click.echo("".join(batch), nl=False)
                batch.clear()
    finally:
        click.echo("".join(batch), nl=False)


def _json_lines(batches: Iterable[Extents]) -> Iterator[str]:
    """Give the document in pieces, spaced as qemu-img spaces it."""
    before, words = "[", _flags()
    for extents in batches:
        for start, length, depth, kind, offset in extents.rows():
            place = f', "offset": {offset}}}' if offset >= 0 else "}"
            yield f'{before}{{ "start": {start}, "length": {length}, "depth": {depth}, {words[kind]}{place}'
            before = ",\n"
    yield "]\n"


def _flags() -> list[str]:
    """Give what the document says of each kind of extent."""
    from backchain.mapping import Kind

    names = {"present": Kind.PRESENT, "zero": Kind.ZERO, "data": Kind.DATA, "compressed": Kind.COMPRESSED}
    return [
        ", ".join(f'"{name}": {"true" if kind & flag else "false"}' for name, flag in names.items())
        for kind in range(1 << len(Kind))
    ]


def _names(image: str, chain: Sequence[ImageInfo]) -> list[str]:
    """Give the names of a chain's files as qemu-img shows them: as given, and from there on as the links lead.

    Source: ``path_combine`` in QEMU's block.c, which joins text and folds nothing away.
    """
    names = [image]
    for overlay in chain[:-1]:
        link = overlay.backing
        assert link is not None
        if link.name.startswith("json:"):
            names.append(str(link.path))
        elif link.name.startswith("file:"):
            names.append(link.name.removeprefix("file:"))
        else:
            folder = "" if link.name.startswith("/") else names[-1][: names[-1].rfind("/") + 1]
            names.append(folder + link.name)
    return names


def _human_lines(batches: Iterable[Extents], names: Sequence[str]) -> Iterator[str]:
    """Give the table in lines: data that has a place in a file.

    Args:
        batches: What is mapped.
        names: The names of the chain's files, the top's first.

    Raises:
        UnsupportedImageError: Data has no such place because it is compressed, as in qemu-img.
    """
    from backchain.mapping import Kind

    stored, shown = int(Kind.DATA | Kind.ZERO), int(Kind.DATA)
    yield f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n"
    for extents in batches:
        for start, length, depth, kind, offset in extents.rows():
            if kind & stored != shown:
                continue
            if offset < 0:
                raise UnsupportedImageError(
                    f"the data at {start:#x} is compressed and has no offset", "--output json shows it"
                )
            yield f"{_hex(start)}{_hex(length)}{_hex(offset)}{printable(names[depth])}\n"


def _hex(value: int) -> str:
    """Give a number as C's ``%#-16x``, which writes no prefix before a zero."""
    return f"{value:#x}".ljust(16) if value else "0".ljust(16)
