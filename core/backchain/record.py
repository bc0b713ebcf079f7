"""What a journal says: the intent of an operation and how far it came, and its form on disk.

A journal has one JSON object a line: the intent first, then a line for every stage that is reached.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backchain.image import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VERSION = 1
_ARGUMENTS = {
    "commit": {"base", "top", "keep_top"},
    "pull": {"image", "base"},
    "rebase": {"image", "backing", "unsafe", "backing_name", "backing_format"},
    "snapshot": {"image", "overlay"},
    "delete": {"images"},
}
"""What an operation of each name was asked for with."""
_PATH_ARGUMENTS = {"base", "top", "image", "backing", "overlay"}
"""Those that are a path, or None."""


class Stage(StrEnum):
    """How far an operation has come."""

    COPYING = "copying"
    """Data is copied into the target; no link has changed yet."""
    RELINKING = "relinking"
    """All data is in place; links are being changed."""
    CLEANING = "cleaning"
    """Links are changed; what is no longer needed is released."""
    ABANDONED = "abandoned"
    """The operation ended by itself amid its work (cancelled, or an error); half of it is done."""
    LEFT = "left"
    """It is done; the journal remembers what it has invalidated."""
    UNDONE = "undone"
    """It was given up; the journal remembers what reads a mix of before and after."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that an operation changes: the new name and format in the header of `image`, None for no link."""

    image: Path
    backing: Path | None
    name: str | None
    format: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """A file that an operation writes, makes or removes.

    Attributes:
        path: Its path.
        format: Its format as it was planned: once data is written to a raw image its content can look like any other.
            None of a file that was not there.
        inode: Its inode number, by which it is known again; None likewise.
        mtime_ns: When it was last written before, in nanoseconds; None likewise.
    """

    path: Path
    format: str | None = None
    inode: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """What an operation is about to do.

    Attributes:
        operation: Its name: "commit", "pull", "rebase", "snapshot" or "delete".
        arguments: What was asked for, paths as text.
        target: The image that receives data.
        written: Files that will be written, made or removed.
        links: Links that will be changed.
        invalidated: Images that will not read as they did, or will be removed, as they are now.
    """

    operation: str
    arguments: Mapping[str, Any]
    target: Path
    written: tuple[Written, ...]
    links: tuple[Link, ...] = ()
    invalidated: tuple[tuple[Path, Fingerprint], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A journal as it was found.

    Attributes:
        path: The journal's own file.
        intent: What was about to be done; paths as they are now, if the journal's folder was moved or copied.
        stage: How far it came.
        linking: Whether links had begun to be changed: all data was in place then.
        started: When, ISO 8601.
        alive: Whether its writer still works on it.
    """

    path: Path
    intent: Intent
    stage: Stage
    linking: bool
    started: str
    alive: bool

    @property
    def interrupted(self) -> bool:
        """Whether it tells of work that nobody will finish by himself."""
        return not self.alive and self.stage not in {Stage.LEFT, Stage.UNDONE}


def first_line(intent: Intent, folder: Path | None) -> dict[str, Any]:
    """Give what the first line of a journal says; `folder` is the one that it lies in, if that is beside the images."""
    return {
        "backchain": _VERSION,
        "folder": str(folder) if folder is not None else None,
        "operation": intent.operation,
        "arguments": dict(intent.arguments),
        "target": str(intent.target),
        "written": [
            {"path": str(w.path), "format": w.format, "inode": w.inode, "mtime_ns": w.mtime_ns} for w in intent.written
        ],
        "links": [
            {
                "image": str(k.image),
                "backing": str(k.backing) if k.backing else None,
                "name": k.name,
                "format": k.format,
            }
            for k in intent.links
        ],
        "invalidated": [
            {"path": str(p), "fingerprint": [f.device, f.inode, f.size, f.mtime_ns]} for p, f in intent.invalidated
        ],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "pid": os.getpid(),
        "host": os.uname().nodename,
    }


def record_of(path: Path, lines: Sequence[bytes], *, alive: bool) -> Record | None:
    """Read the lines of the journal at `path`; `alive` says whether its writer still works on it.

    Returns:
        The record; None when another version has written it, or when its operation is not known.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: They make no sense.
    """
    first = json.loads(lines[0]) if lines else {}
    if first.get("backchain") != _VERSION or set(first["arguments"]) != _ARGUMENTS[first["operation"]]:
        return None
    stages = [Stage.COPYING]
    for line in lines[1:]:
        with suppress(ValueError):  # a last line may have been cut off
            stages.append(Stage(json.loads(line)["stage"]))
    place = _placing(first["folder"], path.parent)
    links = tuple(
        Link(place(k["image"]), place(k["backing"]) if k["backing"] is not None else None, k["name"], k["format"])
        for k in first["links"]
    )
    invalidated = tuple((place(i["path"]), Fingerprint(*map(int, i["fingerprint"]))) for i in first["invalidated"])
    intent = Intent(
        str(first["operation"]), _placed(first["arguments"], place), place(first["target"]),
        tuple(Written(place(w["path"]), w["format"], w["inode"], w["mtime_ns"]) for w in first["written"]),
        links, invalidated,
    )  # fmt: skip
    linking = any(s in {Stage.RELINKING, Stage.CLEANING, Stage.LEFT} for s in stages)
    return Record(path, intent, stages[-1], linking, str(first["started"]), alive)


def _placed(arguments: Mapping[str, Any], place: Callable[[str], Path]) -> dict[str, Any]:
    """Give an operation's arguments with the paths among them as they are now."""
    now = {k: str(place(v)) if k in _PATH_ARGUMENTS and v is not None else v for k, v in arguments.items()}
    return now | ({"images": [str(place(p)) for p in now["images"]]} if "images" in now else {})


def _placing(recorded: str | None, folder: Path) -> Callable[[str], Path]:
    """Give how to find the images of a journal that lies in `folder`, and lay in the one that it records.

    The folder may have been moved, be mounted elsewhere, or be a copy: the images meant are those that lie as they did
    from the journal. One outside of the folder may have stayed where it was.
    """
    if recorded is None or is_same(Path(recorded), folder):
        return Path

    def place(path: str) -> Path:
        new = Path(os.path.normpath(folder / os.path.relpath(path, recorded)))
        return new if Path(path).is_relative_to(recorded) or os.path.lexists(new) else Path(path)

    return place


def is_same(one: Path, other: Path) -> bool:
    """Say whether two paths lead to the same file or folder, one that is there."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
