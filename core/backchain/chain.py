"""One chain from its top down, each file opened as the overlay above it records: how QEMU itself would open it.

Where `backchain.discover` shows whatever it finds, this refuses a chain that QEMU could not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.errors import ImageError, MalformedImageError, MissingImageError, UnsupportedImageError
from backchain.filename import printable
from backchain.image import ImageInfo, read_image_info, require_readable
from backchain.probing import other_format

if TYPE_CHECKING:
    from pathlib import Path


def open_chain(path: Path, *, image_format: str | None = None) -> tuple[ImageInfo, ...]:
    """Read the headers of `path` and of every file that backs it.

    Args:
        path: The top of the chain.
        image_format: "qcow2" or "raw" when the format of the top is known; None detects it by its magic.

    Returns:
        The images, the top first. The format of each backing file is the recorded one where one is recorded.

    Raises:
        MissingImageError: One of the files does not exist or can't be opened.
        MalformedImageError: A header is damaged, or the chain is a loop.
        UnsupportedImageError: A format or a protocol that backchain does not read.
    """
    images: list[ImageInfo] = []
    seen: set[str] = set()
    info = _readable(path, image_format)
    while True:
        if info.id in seen:
            raise MalformedImageError(f"{info.display_path}: the backing chain is a loop")
        seen.add(info.id)
        images.append(info)
        if info.backing is None:
            return tuple(images)
        if info.backing.path is None:
            raise UnsupportedImageError(
                f"{info.display_path} is backed by {printable(info.backing.name)}, which is no file of this machine"
            )
        try:
            info = _readable(info.backing.path, info.backing.format)
        except ImageError as error:
            raise type(error)(f"backing file of {info.display_path}: {error.message}", error.hint) from error


def _readable(path: Path, image_format: str | None) -> ImageInfo:
    """Read one image's header.

    Raises:
        MissingImageError: As `read_image_info`.
        MalformedImageError: The header is damaged.
        UnsupportedImageError: The format is none that backchain reads.
    """
    try:
        info = read_image_info(path, image_format=image_format)
    except ValueError as error:  # a name with a NUL, or with half a surrogate pair
        raise MissingImageError(f"{printable(str(path))}: no file can have such a name") from error
    if image_format is None and info.format == "raw" and (found := other_format(info.path)) is not None:
        raise UnsupportedImageError(f"{info.display_path}: format {found} is not supported", "-f raw reads it as it is")
    return require_readable(info)
