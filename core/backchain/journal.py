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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from backchain.hostfile import sync_folder
from backchain.record import Intent, Record, Stage, first_line, is_same, record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX, SUFFIX = ".backchain-", ".journal"
SCRATCH_SUFFIX = ".part"
"""A new image is written under a name that ends so, and gets its own name when it is complete."""
_MOST_BYTES = 16 << 20
"""Bytes of a journal that are read at most: those of a delete of 40,000 images."""
_READ_BY_ALL = 0o644
"""Mode of a journal: whoever may look into the folder must know what a job has left there."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors after which a journal is begun elsewhere: what makes room, a delete, needs one too."""

_NOWHERE = Path("/nonexistent/backchain")
"""In the home that Debian gives users who have none."""


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
        _remove_unbegun(folder)
        journal = cls._make_in(folder)
        try:
            journal._append(first_line(intent, folder if folder != state_folder() else None))
            sync_folder(folder)
        except BaseException:
            journal.discard()
            raise
        return journal

    @classmethod
    def _make_in(cls, folder: Path) -> Journal:
        """Make an empty journal, and lock it; a reader that looks whether it is locked is waited for."""
        import tempfile  # most commands begin no journal

        while True:
            descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=folder)
            journal = cls(descriptor, Path(name))
            try:
                os.fchmod(descriptor, _READ_BY_ALL)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except BaseException:
                journal.discard()
                raise
            if os.fstat(descriptor).st_nlink:
                return journal
            journal.close()  # before it was locked somebody took it for the remains of a job

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
            erase(self.path)
        os.close(self._descriptor)

    def _append(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode("ascii")
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fdatasync(self._descriptor)


def erase(path: Path) -> None:
    """Remove a journal so that a power cut does not bring it back: what it tells of is over.

    Raises:
        OSError: It cannot be removed.
    """
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def note(record: Record, stage: Stage) -> None:
    """Add a stage to a journal whose writer is gone.

    Raises:
        OSError: It cannot be written.
    """
    descriptor = os.open(record.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    with closing(Journal(descriptor, record.path)) as journal:
        if os.pread(descriptor, 1, max(os.fstat(descriptor).st_size - 1, 0)) != b"\n":
            os.write(descriptor, b"\n")  # the writer's last line was cut off
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
        return record_of(path, lines, alive=_is_locked(descriptor))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def _remove_unbegun(folder: Path) -> None:
    """Remove the journals whose writer died before their first line was whole: nothing was changed by then.

    No other is locked for that: whoever reads it meanwhile would think that its writer lives.
    """
    for path in _journals_in(folder):
        with suppress(OSError):  # another user's, or one that is being written
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if _is_begun(descriptor):
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_begun(descriptor):  # it may have been until it was locked
                    path.unlink()
            finally:
                os.close(descriptor)


def _is_begun(descriptor: int) -> bool:
    """Whether the first line of a journal is whole, or longer than any."""
    start = os.pread(descriptor, _MOST_BYTES, 0)
    return b"\n" in start or len(start) == _MOST_BYTES


def is_not_believed(path: Path) -> bool:
    """Say whether a journal is not read: it belongs to another user than this one and root, or may not be opened."""
    try:
        return _is_strange(path.lstat()) or not os.access(path, os.R_OK)
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


def kept_journals(folders: Iterable[Path]) -> tuple[Record, ...]:
    """Read the journals of the images in some folders that are kept with the user's own state."""
    places = list(folders)
    records = _read_folder(state_folder())
    return tuple(r for r in records if any(is_same(r.intent.target.parent, p) for p in places))


def _read_folder(folder: Path) -> list[Record]:
    return [r for p in _journals_in(folder) if (r := read_journal(p)) is not None]


def _journals_in(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if is_journal(p.name))
    except OSError:
        return []


def state_folder() -> Path:
    """Give the folder for journals of images in a folder that the user may not write.

    For a user without a home (a number that nobody has named) it is one that is not there.
    """
    try:
        folder = Path(platformdirs.user_state_dir("backchain", appauthor=False))
    except RuntimeError:
        return _NOWHERE
    return folder if folder.is_absolute() else _NOWHERE


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
