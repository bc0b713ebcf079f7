"""What a run does to the files of a folder, event by event: writes, lengths, holes, names and flushes, journals too.

Everything that the engine uses to change a file goes through `os` and `hostfile.fallocate`; these are wrapped while the
recording lasts. That nothing slips by is proved at its end: the events, played back onto the files as they were, must
give the files as they are.
"""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from backchain import hostfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTOR = 512
"""What a disk writes as a whole or not at all, bytes."""


@dataclass(frozen=True)
class Write:
    """Bytes at an offset of a file."""

    file: int
    offset: int
    data: bytes = field(repr=False)

    def apply(self, content: bytearray) -> None:
        """Do it to the bytes of a file; what lies between the end and the offset becomes zeros."""
        end = self.offset + len(self.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[self.offset : end] = self.data

    def sectors(self, content: bytes | bytearray) -> list[Write]:
        """Cut it at sector boundaries, and leave out the sectors that `content` holds as they are written."""
        edges = range(self.offset // SECTOR * SECTOR, self.offset + len(self.data), SECTOR)
        found = []
        for edge in edges:
            start, end = max(edge, self.offset), min(edge + SECTOR, self.offset + len(self.data))
            part = self.data[start - self.offset : end - self.offset]
            if content[start:end] != part:
                found.append(Write(self.file, start, part))
        return found


@dataclass(frozen=True)
class Truncate:
    """A new length of a file, in bytes."""

    file: int
    length: int

    def apply(self, content: bytearray) -> None:
        """Do it to the bytes of a file."""
        del content[self.length :]
        content.extend(bytes(self.length - len(content)))


@dataclass(frozen=True)
class Punch:
    """A range of a file that becomes a hole; the length stays."""

    file: int
    offset: int
    length: int

    def apply(self, content: bytearray) -> None:
        """Do it to the bytes of a file."""
        end = min(self.offset + self.length, len(content))
        content[self.offset : end] = bytes(max(end - self.offset, 0))


@dataclass(frozen=True)
class Names:
    """Names that come, or go (no file), at once."""

    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Flush:
    """A file's content, all that was written so far, is on the disk."""

    file: int


@dataclass(frozen=True)
class Sync:
    """The names in the folder are on the disk."""


Event = Write | Truncate | Punch | Names | Flush | Sync
Content = Write | Truncate | Punch


@dataclass
class Recording:
    """All that happened in one folder.

    Attributes:
        names: The files by name before the first event; a file is known by a number.
        contents: The bytes of each file before the first event.
        events: What happened, in order.
    """

    folder: Path
    names: dict[str, int]
    contents: dict[int, bytes]
    events: list[Event] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path) -> Recording:
        """Take down the files of a folder as they are."""
        paths = sorted(p for p in folder.iterdir() if p.is_file())
        names = {path.name: number for number, path in enumerate(paths)}
        return cls(folder, names, {number: path.read_bytes() for number, path in enumerate(paths)})

    def after(self) -> dict[str, bytes]:
        """Play everything back; gives the bytes of each file by name."""
        names, contents = dict(self.names), {n: bytearray(c) for n, c in self.contents.items()}
        for event in self.events:
            if isinstance(event, Names):
                rename(names, event)
            elif isinstance(event, Content):
                event.apply(contents.setdefault(event.file, bytearray()))
        return {name: bytes(contents.get(file, b"")) for name, file in names.items()}


def rename(names: dict[str, int], event: Names) -> None:
    """Do a change of names to a table of names."""
    for name, file in event.changes:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


@contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    """Record what this process does to the files of `folder` until the block ends without an error.

    Raises:
        AssertionError: Something was changed by a way that is not recorded.
    """
    recorder = _Recorder(Recording.start(folder))
    with mock.patch.multiple(os, **recorder.wrappers()), mock.patch.object(hostfile, "fallocate", recorder.fallocate):
        yield recorder.recording
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    played = recorder.recording.after()
    assert played.keys() == found.keys(), "a file came or went unseen"
    for name, content in found.items():
        assert played[name] == content, f"{name} was written to unseen"


class _Recorder:
    """The wrappers around `os`; each does the real thing first and then notes what it was."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._folder = recording.folder
        self._numbers = {self._identity((self._folder / name).stat()): n for name, n in recording.names.items()}
        self._next = len(self._numbers)
        self._real: dict[str, Callable[..., Any]] = {}
        self._fallocate = hostfile.fallocate

    def wrappers(self) -> dict[str, Callable[..., Any]]:
        """Give the replacement of each function of `os`, by name."""
        wrapped = {n.removeprefix("on_"): getattr(self, n) for n in dir(self) if n.startswith("on_")}
        wrapped |= {"fdatasync": self.on_fsync, "remove": self.on_unlink, "replace": self.on_rename}
        forbidden = ("sendfile", "writev", "truncate", "posix_fallocate", "symlink")
        self._real = {name: getattr(os, name) for name in wrapped}
        return wrapped | {name: _unknown(name) for name in forbidden}

    # --- what is noted --------------------------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        self.recording.events.append(event)

    @staticmethod
    def _identity(status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino

    def _number(self, descriptor: int) -> int | None:
        """Give the number of an open file; None for what does not lie in the folder."""
        return self._numbers.get(self._identity(os.fstat(descriptor)))

    def _inside(self, path: Any) -> str | None:
        path = Path(os.fsdecode(path))
        return path.name if path.parent == self._folder else None

    # --- the functions of os --------------------------------------------------------------------------------------

    def on_open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        name = self._inside(path)
        there = name is None or os.path.lexists(path)
        descriptor: int = self._real["open"](path, flags, *args, **kwargs)
        if flags & os.O_CREAT and not there and name is not None:
            number, self._next = self._next, self._next + 1
            self._numbers[self._identity(os.fstat(descriptor))] = number
            self._note(Names(((name, number),)))
        elif flags & os.O_TRUNC and (number := self._number(descriptor)) is not None:
            self._note(Truncate(number, 0))
        return descriptor

    def on_fdopen(self, descriptor: int, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode != "wb":
            return self._real["fdopen"](descriptor, mode, *args, **kwargs)
        return io.BufferedWriter(_RawFile(descriptor))

    def on_write(self, descriptor: int, data: Any) -> int:
        number = self._number(descriptor)
        if number is None:
            return int(self._real["write"](descriptor, data))
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        offset = os.lseek(descriptor, 0, os.SEEK_END if appends else os.SEEK_CUR)
        written: int = self._real["write"](descriptor, data)
        self._note(Write(number, offset, bytes(data[:written])))
        return written

    def on_pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        written: int = self._real["pwrite"](descriptor, data, offset)
        if (number := self._number(descriptor)) is not None:
            self._note(Write(number, offset, bytes(data[:written])))
        return written

    def on_copy_file_range(
        self, source: int, target: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
    ) -> int:
        assert offset_dst is not None, "a copy without an offset cannot be played back"
        copied: int = self._real["copy_file_range"](source, target, count, offset_src, offset_dst)
        if copied and (number := self._number(target)) is not None:
            with open(f"/proc/self/fd/{target}", "rb") as file:  # noqa: PTH123 - a descriptor's own name
                self._note(Write(number, offset_dst, os.pread(file.fileno(), copied, offset_dst)))
        return copied

    def on_ftruncate(self, descriptor: int, length: int) -> None:
        self._real["ftruncate"](descriptor, length)
        if (number := self._number(descriptor)) is not None:
            self._note(Truncate(number, length))

    def on_fsync(self, descriptor: int) -> None:
        self._real["fsync"](descriptor)
        if self._identity(os.fstat(descriptor)) == self._identity(self._folder.stat()):
            self._note(Sync())
        elif (number := self._number(descriptor)) is not None:
            self._note(Flush(number))

    def on_unlink(self, path: Any, **kwargs: Any) -> None:
        self._real["unlink"](path, **kwargs)
        if (name := self._inside(path)) is not None:
            self._note(Names(((name, None),)))

    def on_link(self, source: Any, target: Any, **kwargs: Any) -> None:
        self._real["link"](source, target, **kwargs)
        if (name := self._inside(target)) is not None:
            self._note(Names(((name, self._numbers[self._identity(os.stat(target))]),)))

    def on_rename(self, source: Any, target: Any, **kwargs: Any) -> None:
        self._real["rename"](source, target, **kwargs)
        if (name := self._inside(target)) is not None:
            gone = self._inside(source)
            assert gone is not None, "a file was moved into the folder"
            self._note(Names(((gone, None), (name, self._numbers[self._identity(os.stat(target))]))))

    def fallocate(self, descriptor: int, mode: int, offset: int, length: int) -> bool:
        """Punch a hole, or lengthen the file; no other mode is used."""
        assert mode == hostfile.PUNCH_HOLE or (mode == 0 and offset >= os.fstat(descriptor).st_size)
        done = self._fallocate(descriptor, mode, offset, length)
        if done and (number := self._number(descriptor)) is not None:
            self._note(Punch(number, offset, length) if mode else Truncate(number, offset + length))
        return done


class _RawFile(io.RawIOBase):
    """A file for writing whose calls go through `os`, so that they are seen."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self._descriptor, size)
        return size

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, bytes(data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _unknown(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"os.{name} cannot be played back")

    return refuse
