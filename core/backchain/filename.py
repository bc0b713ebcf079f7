"""Backing-file names: how QEMU resolves what an overlay's header says, and how a new name is written.

The rules are those of QEMU's ``bdrv_get_full_backing_filename`` and of the qemu-img manual: a relative name is
resolved against the directory of the overlay's path *as given* (symlinks are not followed), a name with a colon
before its first slash is a protocol, and the inner paths of a ``json:`` name are relative to the working directory.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BACKING_NAME = 1023
"""Longest backing file name in bytes (qcow2 specification, header field backing_file_size)."""

_PROTOCOL = re.compile(r"^[^/]*?:")


@dataclass(frozen=True, slots=True)
class BackingLink:
    """What an overlay's header says about the file that backs it.

    Attributes:
        name: The name as recorded, untrusted text.
        format: The recorded format (qcow2, raw, ...) or None when the header records none.
        path: Where the name leads on this machine, or None for a protocol backchain does not open.
    """

    name: str
    format: str | None
    path: Path | None


def has_protocol(name: str) -> bool:
    """Say whether QEMU would take the part of `name` before a colon as a protocol (``path_has_protocol``)."""
    return _PROTOCOL.match(name) is not None


def resolve_backing(overlay: Path, name: str, backing_format: str | None) -> BackingLink:
    """Resolve the recorded backing name of `overlay` as QEMU does.

    Args:
        overlay: Path of the overlay as the user gave it.
        name: Backing file name out of its header.
        backing_format: Backing format out of its header, or None.

    Returns:
        The link; its path is None when the name is a protocol other than ``file:`` or an unreadable ``json:``.
    """
    if name.startswith("json:"):
        path, inner_format = _resolve_json(name)
        return BackingLink(name, inner_format or backing_format, path)
    if name.startswith("file:"):
        return BackingLink(name, backing_format, _absolute(Path(name.removeprefix("file:"))))
    if has_protocol(name):
        return BackingLink(name, backing_format, None)
    return BackingLink(name, backing_format, _absolute(overlay.parent / name))


def backing_name_for(overlay: Path, backing: Path, *, relative: bool) -> str:
    """Give the name to record in `overlay` so that QEMU finds `backing`.

    Args:
        overlay: Path of the overlay whose header is written.
        backing: Path of the file that shall back it.
        relative: Prefer a name relative to the overlay's folder. It is still absolute where ``..`` could not be
            trusted: when the overlay's folder is reached through a symlink and the backing file lies outside of it.
    """
    folder = _absolute(overlay).parent
    target = _absolute(backing)
    if not relative:
        return str(target)
    if not target.is_relative_to(folder) and folder.resolve() != folder:
        return str(target)
    name = os.path.relpath(target, folder)
    return f"./{name}" if has_protocol(name) else name


def is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Say whether a file lies in one of the folders or below: by its path as given, or by where it really is."""
    if ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders):
        return True
    real = os.path.realpath(path)
    return any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders)


def printable(text: str) -> str:
    """Escape control characters, so that text out of a file can reach a terminal (a newline becomes x0a)."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, by os.fsdecode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _absolute(path: Path) -> Path:
    """Make `path` absolute and fold ``.`` away, but keep ``..`` and symlinks for the kernel to walk."""
    if ".." in path.parts:
        return Path.cwd() / path
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow symlinks


def _resolve_json(name: str) -> tuple[Path | None, str | None]:
    try:
        options: Any = json.loads(name.removeprefix("json:"))
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(options, dict):
        return None, None
    driver = options.get("driver")
    file = options.get("file", options if driver == "file" else None)
    filename = file.get("filename") if isinstance(file, dict) else options.get("file.filename")
    if isinstance(file, dict) and file.get("driver", "file") != "file":
        filename = None
    path = _absolute(Path(filename)) if isinstance(filename, str) else None
    return path, driver if isinstance(driver, str) and driver != "file" else None
