"""QEMU's judgement of many states of a forest: checks and views, with as few processes as tell all.

An image is checked once for each content that it has; a view is read once for all contents of its chain. The views of
many states are read by one qemu-io, which compares them with what they were (``read -P``).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from . import qemu
from .recording import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from .states import State

_COMMANDS = 4000
"""Commands that one qemu-io is given; the kernel limits the length of a command line."""
_MAGIC = b"QFI\xfb"
_LINK = struct.Struct(">QI")


@dataclass
class Expected:
    """What must hold in every state.

    Attributes:
        views: What each surviving image reads, by name.
        unchanged: The digest of each file that nothing may write to, by name.
        snapshots: What the internal snapshots of an image hold, by the image's name and the snapshot's.
        optional: Images that need not be there; where they are they must be sound and read as said.
        leaks: Whether clusters may be leaked.
    """

    views: Mapping[str, bytes]
    unchanged: Mapping[str, str] = field(default_factory=dict)
    snapshots: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    leaks: bool = True


class Judge:
    """Judges states; remembers what it has judged.

    Attributes:
        states: Number of states judged.
        processes: Number of QEMU's processes that it took.
    """

    def __init__(self, folder: Path, expected: Expected, contents: Callable[[str], bytes]) -> None:
        """Make a judge.

        Args:
            folder: Where files may be put; made if it is not there.
            expected: What must hold.
            contents: Gives the bytes of a digest.
        """
        folder.mkdir(exist_ok=True)
        self.states = self.processes = 0
        self._folder = folder
        self._expected = expected
        self._contents = contents
        self._checked: set[str] = set()
        self._read: set[tuple[tuple[str, str], ...]] = set()
        self._links: dict[str, str | None] = {}

    def judge(self, states: Iterable[State]) -> None:
        """Judge states.

        Raises:
            AssertionError: One is not as it must be; the message tells what it was and how it came about.
        """
        waiting: list[_View] = []
        for state in states:
            self.states += 1
            for name, digest in self._expected.unchanged.items():
                assert state.files.get(name) == digest, f"{state.story}: {name} was written to or is gone"
            for name in self._images(state):
                self._check(state, name)
            waiting += self._views(state)
        self._read_views(waiting)

    def _images(self, state: State) -> Iterator[str]:
        """Give the images of a state: every file but journals and what is made under a scratch name."""
        yield from (name for name in state.files if not name.startswith("."))

    # --- one file -------------------------------------------------------------------------------------------------

    def _check(self, state: State, name: str) -> None:
        digest = state.files[name]
        if digest in self._checked:
            return
        self._checked.add(digest)
        content = self._contents(digest)
        if content[:4] != _MAGIC:
            assert name.endswith(".raw"), f"{state.story}: {name} is no qcow2 image any more"
            return
        path = self._stored(digest)
        for below, content_of in state.files.items():  # qemu-img check opens backing files, whatever they hold
            if not (self._folder / below).exists():
                (self._folder / below).write_bytes(self._contents(content_of))
        self.processes += 1
        found = qemu.check(path)
        assert not found.corruptions, f"{state.story}: {name}: {found.text}"
        assert self._expected.leaks or found.clean, f"{state.story}: {name}: {found.text}"
        for snapshot, view in self._expected.snapshots.get(name, {}).items():
            self.processes += 1
            now = qemu.view_of_snapshot(path, snapshot)
            assert now[: len(view)] == view, f"{state.story}: snapshot {snapshot} of {name} reads differently"

    def _stored(self, digest: str) -> Path:
        path = self._folder / digest
        if not path.exists():
            path.write_bytes(self._contents(digest))
        return path

    # --- views ----------------------------------------------------------------------------------------------------

    def _views(self, state: State) -> Iterator[_View]:
        """Give the views of a state that are to be read; not those whose whole chain was read already."""
        for name in self._expected.views:
            if name not in state.files and name in self._expected.optional:
                continue
            chain = self._chain(state, name)
            if chain not in self._read:
                self._read.add(chain)
                yield _View(state.story, name, chain, self._folder / f"view-{len(self._read)}")

    def _chain(self, state: State, name: str) -> tuple[tuple[str, str], ...]:
        """Give (name, digest) of an image and of all that backs it, as the headers say."""
        found: list[tuple[str, str]] = []
        below: str | None = name
        while below is not None:
            assert below in state.files, f"{state.story}: {name} needs {below}, which is gone"
            digest = state.files[below]
            assert (below, digest) not in found, f"{state.story}: {name} is in a loop"
            found.append((below, digest))
            if digest not in self._links:
                self._links[digest] = backing_name(self._contents(digest))
            below = self._links[digest]
        return tuple(found)

    def _read_views(self, views: list[_View]) -> None:
        commands = {}
        for name, view in self._expected.views.items():
            if is_patterned(view):
                commands[name] = reading_commands(view)
        for view in (v for v in views if v.name not in commands):
            self._place(view)
            self.processes += 1
            assert qemu.view(view.path) == self._expected.views[view.name], (
                f"{view.story}: {view.name} reads differently"
            )
        views = [v for v in views if v.name in commands]
        batch: list[_View] = []
        size = 0
        for view in views:
            size += len(commands[view.name]) + 2
            if batch and size > _COMMANDS:
                self._read_batch(batch, commands)
                batch, size = [], len(commands[view.name]) + 2
            batch.append(view)
        if batch:
            self._read_batch(batch, commands)

    def _place(self, view: _View) -> None:
        """Put the files of a view into its folder."""
        view.folder.mkdir()
        for name, digest in view.chain:
            os.link(self._stored(digest), view.folder / name)

    def _read_batch(self, batch: list[_View], commands: Mapping[str, list[str]]) -> None:
        """Read views with one qemu-io; where it finds fault each is read by itself, to name the first that is wrong."""
        arguments: list[str] = []
        for view in batch:
            self._place(view)
            opening = f"open -r -U -o driver={qemu.format_of(view.path)} {view.path}"
            arguments += [a for c in (opening, *commands[view.name], "length", "close") for a in ("-c", c)]
        self.processes += 1
        done = qemu.attempt("qemu-io", *arguments)
        sizes = [line for line in done.stdout.splitlines() if line]
        expected = [size_text(len(self._expected.views[v.name])) for v in batch]
        if done.returncode or done.stderr or sizes != expected:
            for view in batch:
                now = qemu.view(view.path)
                assert now == self._expected.views[view.name], f"{view.story}: {view.name} reads differently"
            raise AssertionError(f"qemu-io finds fault with one of {len(batch)} views: {done.stdout} {done.stderr}")


@dataclass(frozen=True)
class _View:
    """A view to be read: an image, its chain as (name, digest), and a folder of its own."""

    story: str
    name: str
    chain: tuple[tuple[str, str], ...]
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.name


def backing_name(content: bytes) -> str | None:
    """Give the file that a qcow2 header names as its backing file, without any folder; None for none."""
    if content[:4] != _MAGIC:
        return None
    offset, length = _LINK.unpack_from(content, 8)
    name = os.fsdecode(content[offset : offset + length]) if offset else ""
    return os.path.basename(name) or None  # noqa: PTH119 - as text


def is_patterned(view: bytes) -> bool:
    """Say whether every sector of a view holds one byte over and over, so that it can be judged by patterns."""
    return all(
        view[start : start + SECTOR] == view[start : start + 1] * min(SECTOR, len(view) - start)
        for start in range(0, len(view), SECTOR)
    )


def reading_commands(view: bytes) -> list[str]:
    """Give the commands of qemu-io that compare a disk with a patterned view."""
    commands = []
    start = 0
    for value, same in groupby(view[::SECTOR]):
        length = min(len(list(same)) * SECTOR, len(view) - start)
        commands.append(f"read -q -P {value} {start} {length}")
        start += length
    return commands


def size_text(size: int) -> str:
    """Give the words in which qemu-io says a size of whole sectors."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{f'{size / unit:.3f}'.removesuffix('.000')} {name}"
    return f"{size} bytes"
