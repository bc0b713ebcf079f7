"""The journal: what an operation is about to do, on disk before its first change, so that nothing is a riddle later.

A journal is a hidden file beside the images, one JSON object a line. The first line says what was asked for and which
files it will touch; a line follows for every stage that is reached. It is locked (flock) while its writer lives, and
removed at the end. Three kinds remain: one whose writer died or gave up amid a change (see `backchain.recovery`), one
that remembers the images which a commit has invalidated, until these are gone, and one that remembers which images a
commit that was given up has changed in part, until another is done.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from backchain.image import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PREFIX, SUFFIX = ".backchain-", ".journal"
SCRATCH_SUFFIX = ".part"
"""A new image is written under a name that ends so, and gets its own name when it is complete."""
_MOST_BYTES = 16 << 20
"""Bytes of a journal that are read at most: those of a delete of 40,000 images."""
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}
"""Errors of file systems that cannot sync a folder, and need not."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors after which a journal is begun elsewhere: what makes room, a delete, needs one too."""
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
            None in the journals of a former version, and of files that were not there.
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


class Journal:
    """A journal that is being written."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @classmethod
    def begin(cls, intent: Intent) -> Journal:
        """Write down what is about to be done, and bring it to the disk: beside the images if there is room.

        Raises:
            OSError: There is no room for it anywhere, or no folder that may be written.
        """
        *others, last = _folders_for(intent)
        for folder in others:
            try:
                return cls._begin_in(folder, intent)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
        last.mkdir(parents=True, exist_ok=True)
        return cls._begin_in(last, intent)

    @classmethod
    def _begin_in(cls, folder: Path, intent: Intent) -> Journal:
        import tempfile  # most commands begin no journal

        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=folder)
        journal = cls(descriptor, Path(name))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal._append(_to_json(intent, folder))
            sync_folder(folder)
        except BaseException:
            journal.discard()
            raise
        return journal

    def reach(self, stage: Stage) -> None:
        """Note that a stage begins.

        Raises:
            OSError: It cannot be written.
        """
        self._append({"stage": str(stage)})

    def close(self) -> None:
        """Leave the journal where it is: for whoever recovers, or to remember what is invalid."""
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the journal: all is as it was, or all is done."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)

    def _append(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode("ascii")
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fdatasync(self._descriptor)


def note(record: Record, stage: Stage) -> None:
    """Add a stage to a journal whose writer is gone.

    Raises:
        OSError: It cannot be written.
    """
    descriptor = os.open(record.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    with closing(Journal(descriptor, record.path)) as journal:
        journal.reach(stage)


def is_journal(name: str) -> bool:
    """Say whether a file's name is that of a journal."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def read_journal(path: Path) -> Record | None:
    """Read a journal.

    Returns:
        The record; None when the file is gone, holds nothing that makes sense (it was cut off as it began), or
        belongs to another user than this one and root: what it says is acted on.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if _is_strange(os.fstat(descriptor)):
            return None
        lines = os.read(descriptor, _MOST_BYTES).splitlines()
        return _from_lines(path, lines, alive=_is_locked(descriptor))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def is_not_believed(path: Path) -> bool:
    """Say whether a journal belongs to another user than this one and root, so that it is not read."""
    try:
        return _is_strange(path.lstat())
    except OSError:
        return False


def _is_strange(status: os.stat_result) -> bool:
    return status.st_uid not in {0, os.geteuid()}


def read_journals(folders: Iterable[Path]) -> tuple[Record, ...]:
    """Read every journal of the images in some folders.

    It lies beside them, or with the user's own state when their folder may not be written.
    """
    places = list(folders)
    return (*(r for folder in places for r in _read_folder(folder)), *kept_journals(places))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def kept_journals(folders: Iterable[Path]) -> tuple[Record, ...]:
    """Read the journals of the images in some folders that are kept with the user's own state."""
    places = list(folders)
    records = _read_folder(state_folder())
    return tuple(r for r in records if any(_is_same(r.intent.target.parent, p) for p in places))


def _read_folder(folder: Path) -> list[Record]:
    try:
        paths = sorted(p for p in folder.iterdir() if is_journal(p.name))
    except OSError:
        return []
    return [r for p in paths if (r := read_journal(p)) is not None]


def state_folder() -> Path:
    """Give the folder for journals of images in a folder that the user may not write."""
    return Path(platformdirs.user_state_dir("backchain", appauthor=False))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk.

    Raises:
        OSError: The folder cannot be opened, or the disk fails.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _folders_for(intent: Intent) -> list[Path]:
    """Give the folders that a journal may lie in, the best first: beside the images, else with the user's own state."""
    files = [p for p in (intent.target, *(w.path for w in intent.written)) if not p.is_block_device()]
    beside = dict.fromkeys(p.parent for p in files)
    return [*(f for f in beside if os.access(f, os.W_OK | os.X_OK)), state_folder()]


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _to_json(intent: Intent, folder: Path) -> dict[str, Any]:
    return {
        "backchain": _VERSION,
        "folder": str(folder) if folder != state_folder() else None,
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


def _from_lines(path: Path, lines: Sequence[bytes], *, alive: bool) -> Record | None:
    first = json.loads(lines[0]) if lines else {}
    if first.get("backchain") != _VERSION or set(first["arguments"]) != _ARGUMENTS[first["operation"]]:
        return None
    stages = [Stage.COPYING]
    for line in lines[1:]:
        with suppress(ValueError):  # a last line may have been cut off
            stages.append(Stage(json.loads(line)["stage"]))
    place = _placing(first.get("folder"), path.parent)
    links = tuple(
        Link(place(k["image"]), place(k["backing"]) if k["backing"] is not None else None, k["name"], k["format"])
        for k in first["links"]
    )
    invalidated = tuple((place(i["path"]), Fingerprint(*map(int, i["fingerprint"]))) for i in first["invalidated"])
    intent = Intent(
        str(first["operation"]), _placed(first["arguments"], place), place(first["target"]),
        tuple(_written(w, place) for w in first["written"]), links, invalidated,
    )  # fmt: skip
    linking = any(s in {Stage.RELINKING, Stage.CLEANING, Stage.LEFT} for s in stages)
    return Record(path, intent, stages[-1], linking, str(first["started"]), alive)


def _written(entry: str | dict[str, Any], place: Callable[[str], Path]) -> Written:
    if isinstance(entry, str):  # a former version kept the path alone
        return Written(place(entry))
    return Written(place(entry["path"]), entry["format"], entry["inode"], entry.get("mtime_ns"))


def _placed(arguments: Mapping[str, Any], place: Callable[[str], Path]) -> dict[str, Any]:
    """Give an operation's arguments with the paths among them as they are now."""
    now = {k: str(place(v)) if k in _PATH_ARGUMENTS and v is not None else v for k, v in arguments.items()}
    return now | ({"images": [str(place(p)) for p in now["images"]]} if "images" in now else {})


def _placing(recorded: str | None, folder: Path) -> Callable[[str], Path]:
    """Give how to find the images of a journal that lies in `folder`, and lay in the one that it records.

    The folder may have been moved, be mounted elsewhere, or be a copy: the images meant are those that lie as they did
    from the journal. One outside of the folder may have stayed where it was.
    """
    if recorded is None or _is_same(Path(recorded), folder):
        return Path

    def place(path: str) -> Path:
        new = Path(os.path.normpath(folder / os.path.relpath(path, recorded)))
        return new if Path(path).is_relative_to(recorded) or os.path.lexists(new) else Path(path)

    return place
