"""Deaths of a process, and of a machine, at a chosen point of a run.

A process that is killed leaves everything it wrote; a machine that loses power leaves what was flushed, and of what
came after the last flush an arbitrary part. The first is tried for real in a child process; for the second every
write is recorded as it happens, and played back in part onto a copy.
"""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backchain.journal import is_journal

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

WRITES = ("write", "pwrite", "pwritev", "copy_file_range", "sendfile", "ftruncate", "truncate", "posix_fallocate")
FLUSHES = ("fsync", "fdatasync")


def dies_at(call: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child process that is killed before its write or flush number `call` (from 0 on).

    Returns:
        Whether the child was killed; False when it came to its end before.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            _kill_at(call)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - the child's own words, as nobody else hears of it
            traceback.print_exc()
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    if os.WIFSIGNALED(wait_status):
        assert os.WTERMSIG(wait_status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(wait_status) == 0, "the run failed by itself"
    return False


def _kill_at(call: int) -> None:
    left = call

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return replacement

    for name in (*WRITES, *FLUSHES):
        setattr(os, name, counted(getattr(os, name)))


@dataclass(frozen=True)
class Event:
    """One thing that happened to a file: bytes at an offset, a new length, or (neither) a flush."""

    path: Path
    offset: int = 0
    data: bytes | None = None
    length: int | None = None

    @property
    def flush(self) -> bool:
        return self.data is None and self.length is None

    def replay(self, folder: Path) -> None:
        """Do it again to the file of the same name in another folder."""
        with (folder / self.path.name).open("r+b") as file:
            if self.length is not None:
                file.truncate(self.length)
            elif self.data is not None:
                file.seek(self.offset)
                file.write(self.data)


@dataclass
class Recording:
    """Everything that a run wrote, in order."""

    events: list[Event] = field(default_factory=list)

    def surviving(self, until: int, choice: random.Random) -> list[Event]:
        """Give what a power cut before event number `until` may leave: all that was flushed, some of the rest."""
        flushed: dict[Path, int] = {}
        for number, event in enumerate(self.events[:until]):
            if event.flush:
                flushed[event.path] = number
        share = choice.choice((0.0, 0.1, 0.5, 0.9))
        return [
            event
            for number, event in enumerate(self.events[:until])
            if not event.flush and (number < flushed.get(event.path, -1) or choice.random() < share)
        ]


@contextmanager
def recorded() -> Iterator[Recording]:
    """Record every write and flush that this process makes through `os` until the block ends."""
    recording = Recording()
    originals = {name: getattr(os, name) for name in (*WRITES, *FLUSHES)}

    def path_of(descriptor: int) -> Path:
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def wrap(name: str) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            result = originals[name](*args, **kwargs)
            recording.events.extend(_events(name, path_of, args, kwargs, result))
            return result

        return replacement

    for name in originals:
        setattr(os, name, wrap(name))
    try:
        yield recording
    finally:
        for name, function in originals.items():
            setattr(os, name, function)


def _events(
    name: str, path_of: Callable[[int], Path], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> list[Event]:
    if name == "write" or is_journal(path_of(args[1] if name == "copy_file_range" else args[0]).name):
        return []  # journals are no images
    if name in FLUSHES:
        return [Event(path_of(args[0]))]
    if name == "ftruncate":
        return [Event(path_of(args[0]), length=args[1])]
    if name == "pwrite":
        return [Event(path_of(args[0]), args[2], bytes(args[1][:result]))]
    if name == "pwritev":
        return [Event(path_of(args[0]), args[2], b"".join(map(bytes, args[1]))[:result])]
    if name == "copy_file_range":
        target = args[1]
        offset = kwargs.get("offset_dst", args[4] if len(args) > 4 else None)
        assert offset is not None, "a copy without an offset cannot be played back"
        with open(f"/proc/self/fd/{target}", "rb") as file:  # noqa: PTH123 - a descriptor's own name
            return [Event(path_of(target), offset, os.pread(file.fileno(), result, offset))]
    if name == "posix_fallocate":
        length = max(os.fstat(args[0]).st_size, args[1] + args[2])
        return [Event(path_of(args[0]), length=length)]
    raise AssertionError(f"os.{name} cannot be played back")
