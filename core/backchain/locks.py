"""QEMU's image locks: shared OFD locks on single bytes, taken and probed as QEMU does.

Byte 100 + n says "I use permission n", byte 200 + n says "I do not share permission n" (QEMU, ``block/file-posix.c``,
RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE). All locks are shared; a conflict is found by asking whether somebody
else holds the opposite byte (fcntl(2), F_OFD_SETLK and F_OFD_GETLK).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from backchain.errors import ImageInUseError, ImageIOError
from backchain.filename import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_USED_BASE: Final = 100
_UNSHARED_BASE: Final = 200
_F_OFD_GETLK: Final = 36
_F_OFD_SETLK: Final = 37
_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid."""


class Permission(IntEnum):
    """QEMU's block permissions; the value is the bit number and the lock byte's offset."""

    CONSISTENT_READ = 0
    WRITE = 1
    WRITE_UNCHANGED = 2
    RESIZE = 3


READ_USE: Final = (Permission.CONSISTENT_READ,)
WRITE_USE: Final = (Permission.CONSISTENT_READ, Permission.WRITE, Permission.RESIZE)
UNSHARED: Final = (Permission.WRITE, Permission.RESIZE)
"""What QEMU does not share for any qcow2 or raw image it opens, backing files included."""


def take(descriptor: int, path: Path, *, writing: bool) -> None:
    """Take the locks that QEMU takes for an image it opens; they end when the descriptor is closed.

    Args:
        descriptor: Open descriptor of the image.
        path: Its path, for the message.
        writing: Whether the image will be written.

    Raises:
        ImageInUseError: Another process uses the image in a way that does not go together with this.
    """
    used = WRITE_USE if writing else READ_USE
    try:
        for offset in _bytes(used, UNSHARED):
            fcntl.fcntl(descriptor, _F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, offset, 1, 0))
    except OSError as error:
        shown = printable(str(path))
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            raise _in_use(path, writing=writing) from error
        if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
            raise ImageIOError(f"{shown}: the file system knows no locks", "QEMU could not be kept out") from error
        raise ImageIOError(f"{shown}: {os.strerror(error.errno or 0)}") from error
    if _conflict(descriptor, used, UNSHARED):
        raise _in_use(path, writing=writing)


def probe(path: Path, *, writing: bool) -> bool:
    """Say whether another process holds a lock that would keep us from reading or writing an image.

    Nothing is locked. A file that cannot be opened counts as free: other checks report it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _conflict(descriptor, WRITE_USE if writing else READ_USE, UNSHARED)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _conflict(descriptor: int, used: Iterable[Permission], unshared: Iterable[Permission]) -> bool:
    """Whether another open file description does not share what we use, or uses what we do not share."""
    opposite = [_UNSHARED_BASE + p for p in used] + [_USED_BASE + p for p in unshared]
    return any(_held_by_another(descriptor, offset) for offset in opposite)


def _held_by_another(descriptor: int, offset: int) -> bool:
    query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, query)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _bytes(used: Iterable[Permission], unshared: Iterable[Permission]) -> list[int]:
    return [_USED_BASE + p for p in used] + [_UNSHARED_BASE + p for p in unshared]


def _in_use(path: Path, *, writing: bool) -> ImageInUseError:
    lock = "write" if writing else "consistent read"
    return ImageInUseError(
        f"{printable(str(path))}: another process is using the image (failed to get the {lock!r} lock)",
        "shut the virtual machine down, or use its own block jobs",
    )
