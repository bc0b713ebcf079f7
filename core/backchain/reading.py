"""Reads the headers of images that are found in folders or behind links, each once, whatever they turn out to be.

What is missing, cannot be opened, or is reached over a network becomes an image of its own: a node for the graph.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.errors import MissingImageError
from backchain.filename import tidied
from backchain.image import Fingerprint, ImageId, ImageInfo, ImageState, image_id, missing_image, read_image_info

if TYPE_CHECKING:
    from backchain.filename import BackingLink

_KNOWN_FORMATS = frozenset({"qcow2", "raw"})
"""Formats that backchain reads."""


class HeaderReader:
    """Reads headers; a path that comes again, as a file of a folder and as what a link names, is not read again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[Path, ImageInfo] = {}

    def read(self, path: Path) -> ImageInfo:
        """Read the image at a path that was given.

        Raises:
            MissingImageError: It does not exist or cannot be opened.
        """
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = read_image_info(path)
        return known

    def read_found(self, path: Path) -> ImageInfo | None:
        """Read an image found in a folder; None when it is gone or has become something else since."""
        try:
            return self.read(path)
        except MissingImageError as error:
            info = _not_opened(path, error)
            return info if info.state is ImageState.UNREADABLE and info.fingerprint is not None else None

    def read_backing(self, link: BackingLink) -> ImageInfo:
        """Read the file that a link names, or make the node of one that can't be read."""
        if link.path is None:
            problem = "it is no file of this machine and is not followed"
            return ImageInfo(
                ImageId(f"remote:{link.name}"), Path(link.name), "unknown", state=ImageState.UNREADABLE,
                problem=problem, remote=link.name,
            )  # fmt: skip
        path = tidied(link.path)
        try:
            # Opening alone can act on a device (a tape rewinds, a watchdog starts): look before.
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
                problem = "neither a file nor a block device"
                return ImageInfo(image_id(status), path, "unknown", state=ImageState.UNREADABLE, problem=problem)
            info = self.read(path)
        except MissingImageError as error:
            return _not_opened(path, error)
        except (OSError, ValueError) as error:
            return _not_reached(path, error)
        if info.format == "raw" and link.format is not None and link.format not in _KNOWN_FORMATS:
            return read_image_info(path, image_format=link.format)
        return info


def _not_opened(path: Path, error: MissingImageError) -> ImageInfo:
    """Make the node of a file that could not be opened; it keeps its identity if it is there."""
    try:
        status = path.stat()
    except (OSError, ValueError) as reason:
        return _not_reached(path, reason)
    cause = error.__cause__
    problem = os.strerror(cause.errno or 0) if isinstance(cause, OSError) else error.message
    return ImageInfo(
        image_id(status), path, "unknown", disk_size=status.st_blocks * 512, file_size=status.st_size,
        state=ImageState.UNREADABLE, problem=problem, fingerprint=Fingerprint.of(status),
    )  # fmt: skip


def _not_reached(path: Path, error: Exception) -> ImageInfo:
    """Make the node of a name that leads to no file, or to none that may be looked at."""
    identity = ImageId(f"missing:{path}")
    if not isinstance(error, OSError):
        info = missing_image(path, "no file can have such a name")
    elif error.errno in {errno.ENOENT, errno.ENOTDIR}:
        identity = ImageId(f"missing:{os.path.realpath(path)}")
        info = missing_image(path, "the file does not exist")
    else:
        info = replace(missing_image(path, os.strerror(error.errno or 0)), state=ImageState.UNREADABLE)
    return replace(info, id=identity)
