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

UNKNOWN_OPTIONS = "unknown options"
"""Stands for the format of a backing file behind a name that says more than where it is: options that may change what
is read (an offset into a raw file, a backing file in place of the recorded one), or drivers between the image and its
files (blkdebug, quorum). The files are known, what QEMU reads of them is not."""

_HARMLESS_OPTIONS = frozenset({
    "driver", "file", "filename", "node-name", "read-only", "auto-read-only", "force-share", "cache", "discard",
    "detect-zeroes", "aio", "aio-max-batch", "locking", "pr-manager", "drop-cache", "lazy-refcounts", "overlap-check",
    "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval",
    "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
})  # fmt: skip
"""Options of a ``json:`` name that do not change what is read (QEMU's QAPI schema, BlockdevOptions)."""

_FILE_OPTIONS = frozenset({"filename", "x-image", "x-raw"})
"""Options whose value is a file name; those with x- are blkdebug's and blkverify's, as their prefixes leave them."""

_PROTOCOL = re.compile(r"^[^/]*?:")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_ESCAPE_OR_QUOTE = re.compile(r'\\(.)|"', re.DOTALL)

_LOCAL = re.compile(r"^(?:file|host_device|host_cdrom):")
"""What may stand before the path of a local file or device, and says nothing more (QEMU's block/file-posix.c)."""
_FILTERED = re.compile(r"^(?:blkdebug:[^:]*|blkverify:([^:]*)):(.*)$", re.DOTALL)
"""Drivers that are named before the file that they open, and the file that blkverify compares it with.

Source: ``blkdebug_parse_filename`` and ``blkverify_parse_filename`` in QEMU's block/."""


@dataclass(frozen=True, slots=True)
class BackingLink:
    """What an overlay's header says about the file that backs it.

    Attributes:
        name: The name as recorded, untrusted text.
        format: The recorded format (qcow2, raw, ...) or None when none is recorded.
        path: Where the name leads on this machine, or None for a protocol backchain does not open.
        others: More files that it names, as quorum does.
    """

    name: str
    format: str | None
    path: Path | None
    others: tuple[Path, ...] = ()


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
        The link; its path is None when the name is a protocol other than ``file:`` that mentions no file, or an
        unreadable ``json:``.
    """
    if name.startswith("json:"):
        path, inner_format = _resolve_json(name)
        # What the header records beside the name goes before what the name itself says.
        recorded = inner_format if inner_format == UNKNOWN_OPTIONS else backing_format or inner_format
        if path is not None:
            others = [f for f in _behind_drivers(name) if f != path] if recorded == UNKNOWN_OPTIONS else ()
            return BackingLink(name, recorded, path, tuple(others))
    if local := _LOCAL.match(name):
        return BackingLink(name, backing_format, _absolute(Path(name[local.end() :])))
    if has_protocol(name):
        files = _behind_drivers(name)
        if files:
            return BackingLink(name, UNKNOWN_OPTIONS, files[0], files[1:])
        return BackingLink(name, backing_format, None)
    return BackingLink(name, backing_format, _absolute(overlay.parent / name))


def file_in_json(name: str) -> str | None:
    """Give the file that a ``json:`` name ends at, as it is written there; None where it names none."""
    levels = _json_levels(name)
    filename = levels[-1].get("filename") if levels else None
    return filename if isinstance(filename, str) else None


def backing_name_for(overlay: Path, backing: Path, *, relative: bool) -> str:
    """Give the name to record in `overlay` so that QEMU finds `backing`.

    Args:
        overlay: Path of the overlay whose header is written.
        backing: Path of the file that shall back it.
        relative: Prefer a name relative to the overlay's folder. It is still absolute where ``..`` could not be
            trusted: when the overlay's folder is reached through a symlink and the backing file lies outside of it.
    """
    folder = _without_dots(overlay).parent
    target = _without_dots(backing)
    if not relative:
        return str(target)
    if not target.is_relative_to(folder) and folder.resolve() != folder:
        return str(target)
    name = os.path.relpath(target, folder)
    return f"./{name}" if has_protocol(name) else name


def leads_to(overlay: Path, name: str, backing: Path) -> bool:
    """Say whether QEMU would find the file `backing` by a recorded name when it opens `overlay` by this very path."""
    path = resolve_backing(overlay, name, None).path
    try:
        return path is not None and path.samefile(backing)
    except (OSError, ValueError):
        return False


def tidied(path: Path) -> Path:
    """Make `path` absolute and fold ``..`` away where that leads to the same folder (symlinks can make it differ)."""
    path = path if path.is_absolute() else Path.cwd() / path
    if ".." not in path.parts:
        return path
    folded = Path(os.path.normpath(path))
    try:
        return folded if os.path.samestat(path.parent.stat(), folded.parent.stat()) else path
    except (OSError, ValueError):
        return path


def is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Say whether a file lies in one of the folders or below: by its path as given, or by where it really is.

    A name that no file can have (out of a ``json:`` name) is judged as text alone.
    """
    if ".." not in path.parts and any(path.is_relative_to(folder) for folder in folders):
        return True
    try:
        real = os.path.realpath(path)
    except ValueError:  # half a surrogate pair
        return False
    return any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders)


def recorded_bytes(name: str | None) -> bytes | None:
    """Give a backing file name as it stands in a header, also one that no file can have; None stays None."""
    if name is None:
        return None
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def recorded_length(name: str) -> int:
    """Give the bytes that a backing file name takes in a header; a name that no file can have is measured too."""
    return len(recorded_bytes(name) or b"")


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


def _without_dots(path: Path) -> Path:
    """Give an absolute path to the same file without ``..``, which text alone must not fold where a symlink is."""
    path = tidied(_absolute(path))
    return Path(os.path.realpath(path.parent)) / path.name if ".." in path.parts else path


def _resolve_json(name: str) -> tuple[Path | None, str | None]:
    """Give the file and the format that a ``json:`` name means; the format is `UNKNOWN_OPTIONS` where it says more."""
    levels = _json_levels(name)
    if not levels:
        return None, None
    driver = levels[0].get("driver")
    plain = isinstance(driver, str) or driver is None
    plain &= len(levels) == 2 and levels[-1].get("driver", "file") == "file"
    plain &= all(_is_harmless(key) for level in levels for key in level)
    filename = file_in_json(name)
    path = _absolute(Path(filename)) if filename is not None else None
    return path, driver if plain else UNKNOWN_OPTIONS


def _behind_drivers(name: str) -> tuple[Path, ...]:
    """Give the files of this machine that a name mentions whose drivers stand between them and the overlay."""
    waiting, found = [name], dict[Path, None]()
    while waiting:
        one = waiting.pop()
        if filtered := _FILTERED.match(one):
            waiting += [f for f in filtered.groups() if f]
        elif one.startswith("json:"):
            waiting += _files_in_json(one)
        elif (local := _LOCAL.match(one)) or not has_protocol(one):
            found[_absolute(Path(one[local.end() if local else 0 :]))] = None
    return tuple(found)


def _files_in_json(name: str) -> list[str]:
    """Give everything that the options of a ``json:`` name call a file name."""
    waiting: list[Any] = [_parse_json(name)]
    found: list[str] = []
    while waiting:
        options = waiting.pop()
        if isinstance(options, dict):
            found += [v for k, v in options.items() if k.split(".")[-1] in _FILE_OPTIONS and isinstance(v, str)]
            waiting += options.values()
        elif isinstance(options, list):
            waiting += options
    return found


def _json_levels(name: str) -> list[dict[str, Any]]:
    """Give the options of a ``json:`` name, of each driver from the topmost down; none where it makes no sense."""
    options = _parse_json(name)
    if not isinstance(options, dict):
        return []
    levels = [options]
    while below := _file_options(levels[-1]):
        levels.append(below)
    return levels


def _parse_json(name: str) -> Any:
    """Parse what follows ``json:`` as QEMU does, whose strings may be in single quotes; None where it makes no sense.

    Source: the lexer in QEMU's qobject/json-lexer.c.
    """
    text = _STRING.sub(lambda found: _in_double_quotes(found[0]), name.removeprefix("json:"))
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _in_double_quotes(literal: str) -> str:
    """Give a string literal of QEMU's JSON as standard JSON has it."""

    def one(found: re.Match[str]) -> str:
        return '\\"' if found[1] is None else "'" if found[1] == "'" else found[0]

    return f'"{_ESCAPE_OR_QUOTE.sub(one, literal[1:-1])}"'


def _file_options(options: dict[str, Any]) -> dict[str, Any]:
    """Give the options of the driver below, whether they are nested or written as ``file.filename``."""
    nested = options.get("file")
    flat = {k.removeprefix("file."): v for k, v in options.items() if k.startswith("file.")}
    return (nested if isinstance(nested, dict) else {}) | flat


def _is_harmless(key: str) -> bool:
    return key.partition(".")[0] in _HARMLESS_OPTIONS
