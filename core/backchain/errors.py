"""The ways in which backchain can fail, one class per failure.

Each error is one line for the person at the keyboard (`message`: what is wrong with which image; `hint`: what to
do), a `title` for the heading of a dialog, and the exit status of the command line (DESIGN: 0 done, 1 unexpected,
2 usage, 3 blocked by a hazard, 4 image unreadable, malformed or unsupported, 5 in use, 6 I/O error or no space,
7 cancelled).
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


class BackchainError(Exception):
    """Base of every error that backchain raises on purpose.

    Attributes:
        title: Heading for a dialog, a few words.
        exit_code: Exit status of the command line.
        message: One line that says what is wrong, and with which image.
        hint: What the user can do about it; may be empty.
    """

    title: ClassVar[str] = "Something went wrong"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(BackchainError):
    """What was asked for makes no sense on this graph (exit status 2)."""

    title = "That cannot be done"
    exit_code = 2


class BlockedError(BackchainError):
    """A hazard of the plan forbids the run (exit status 3)."""

    title = "Blocked by a hazard"
    exit_code = 3


class StalePlanError(BlockedError):
    """The chain is no longer as it was when the plan was made (exit status 3)."""

    title = "The chain has changed"


class ImageError(BackchainError):
    """An image cannot be read (exit status 4).

    Attributes:
        image: The path that the message begins with, once it is known which image it is about; until then empty.
    """

    title = "Image cannot be read"
    exit_code = 4
    image: str = ""


class MissingImageError(ImageError):
    """An image file does not exist or may not be opened (exit status 4)."""

    title = "Image not found"


class MalformedImageError(ImageError):
    """An image contradicts its format's specification (exit status 4)."""

    title = "Image is damaged"


class UnsupportedImageError(ImageError):
    """An image uses a feature that backchain does not support (exit status 4)."""

    title = "Image is not supported"


class ImageInUseError(BackchainError):
    """Another process holds a lock on an image (exit status 5)."""

    title = "Image is in use"
    exit_code = 5


class ImageIOError(BackchainError):
    """Reading or writing failed, or the file system is full; the chain still reads the same (exit status 6)."""

    title = "Input/output error"
    exit_code = 6


class NoRoomError(ImageIOError):
    """The file system is full, or a quota is used up; the chain still reads the same (exit status 6)."""

    title = "No room on the disk"


def io_error(where: str, error: OSError, hint: str = "") -> ImageIOError:
    """Give the error for what the operating system refused, by its cause.

    Args:
        where: The file that it is about, safe to print.
        error: What the operating system said.
        hint: What the user can do about it.
    """
    kind = NoRoomError if error.errno in {errno.ENOSPC, errno.EDQUOT} else ImageIOError
    return kind(f"{where}: {os.strerror(error.errno or 0)}", hint)


class VerificationError(BackchainError):
    """After an operation an image does not read what it should: a defect, or a disk that lies (exit status 1)."""

    title = "Verification failed"


class JobCancelledError(BackchainError):
    """The user cancelled the job; the chain still reads the same (exit status 7)."""

    title = "Cancelled"
    exit_code = 7
