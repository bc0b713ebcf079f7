"""Looking through folders for disk images, without ever opening what could block or what a budget forbids.

Only regular files are opened. A qcow2 image is known by its magic, whatever it is called; a raw image has none and is
known by its suffix alone. Folders that are symlinks are not entered: they lead into circles and out of the folder that
was asked for.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.journal import PREFIX, SCRATCH_SUFFIX, SUFFIX, is_journal
from backchain.qcow2 import format as fmt
from backchain.sorting import natural

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_BUDGET = 20_000
"""Folder entries looked at before a search gives up: about half a second."""

RAW_SUFFIXES = frozenset({".raw", ".img"})
"""Suffixes by which a raw image is known."""

_QCOW2_SUFFIXES = frozenset({".qcow2", ".qcow"})
_IMAGE_SUFFIXES = RAW_SUFFIXES | _QCOW2_SUFFIXES
_MAGIC = fmt.MAGIC.to_bytes(4, "big")
_QED_MAGIC = b"QED\0"
_QED_FEATURES = slice(16, 24)
_QED_BACKING_FILE = 1
"""Of QEMU's other format whose overlays may be backed by any image (``docs/interop/qed_spec``)."""

_FolderId = tuple[int, int]


@dataclass(slots=True)
class FolderScan:
    """One search through any number of folders, with one budget for all of them.

    Attributes:
        budget: Folder entries that may still be looked at.
        incomplete: What was not looked at, one line each.
        journals: Journals that were found beside the images.
        forbidden: Regular files that this user may not read, whatever they are called: each may be an image.
        misnamed: Files whose name says qcow2 and that do not begin like one: an image may have been damaged.
    """

    budget: int = DEFAULT_BUDGET
    incomplete: list[str] = field(default_factory=list)
    journals: list[Path] = field(default_factory=list)
    forbidden: list[Path] = field(default_factory=list)
    misnamed: list[Path] = field(default_factory=list)
    _seen: set[_FolderId] = field(default_factory=set)
    _linked: dict[_FolderId, Path] = field(default_factory=dict)
    _given_up: bool = False

    def images(self, folder: Path) -> Iterator[Path]:
        """Give the images in `folder` and below, nearest folders first, each folder once per search.

        Names of one file that are symlinks come after the files of their folder, so that a file is found under its
        own name first.
        """
        waiting = deque([folder])
        while waiting:
            current = waiting.popleft()
            if self._given_up:
                return
            entries = self._entries(current)
            folders = [e for e in entries if e.is_dir(follow_symlinks=False)]
            links = [e for e in entries if e.is_symlink()]
            files = [e for e in entries if e.is_file(follow_symlinks=False)]
            self.journals.extend(Path(e.path) for e in files if is_journal(e.name))
            yield from self._images_among(current, files)
            yield from self._images_among(current, [e for e in links if self._is_file_or_notes_folder(e)])
            waiting.extend(Path(e.path) for e in folders)

    def notes(self) -> tuple[str, ...]:
        """Give what was not looked at, one line each, when the search is over."""
        unseen = [p for identity, p in self._linked.items() if identity not in self._seen]
        return (*self.incomplete, *(f"{_shown(p)}: a symlink to another folder, not entered" for p in unseen))

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Give the entries of `folder` by name, or none when it was seen, can't be read, or exceeds the budget."""
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._seen:
                return []
            self._seen.add((status.st_dev, status.st_ino))
            entries: list[os.DirEntry[str]] = []
            with os.scandir(folder) as found:
                for entry in found:
                    if self.budget <= 0:
                        self._give_up(folder)
                        break
                    self.budget -= 1
                    entries.append(entry)
        except OSError as error:
            self.incomplete.append(f"{_shown(folder)}: {os.strerror(error.errno or 0)}")
            return []
        return sorted(entries, key=lambda e: natural(e.name))

    def _give_up(self, folder: Path) -> None:
        self._given_up = True
        self.incomplete.append(f"{_shown(folder)}: too many files, the search stopped here")

    def _is_file_or_notes_folder(self, link: os.DirEntry[str]) -> bool:
        try:
            if link.is_dir():
                status = link.stat()
                self._linked.setdefault((status.st_dev, status.st_ino), Path(link.path))
            return link.is_file()
        except OSError:  # a dangling link, or a circle of links
            return False

    def _images_among(self, folder: Path, entries: list[os.DirEntry[str]]) -> Iterator[Path]:
        unreadable: list[str] = []
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith((SUFFIX, SCRATCH_SUFFIX)):
                continue
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - one call for each of thousands
            start = self._first_bytes(entry.path)
            if start is None:
                unreadable.append(entry.name)
            magic = start[:4] if start is not None else None
            if start is not None and _is_qed_overlay(start):
                where = _shown(folder / entry.name)
                self.incomplete.append(f"{where}: qed is not read, so that nobody knows what backs it")
            elif start and magic != _MAGIC and suffix in _QCOW2_SUFFIXES:
                self.misnamed.append(folder / entry.name)
            if magic == _MAGIC or suffix in RAW_SUFFIXES or (magic is None and suffix in _IMAGE_SUFFIXES):
                yield Path(entry.path)
        if unreadable:
            more = f" and {len(unreadable) - 1} more are" if unreadable[1:] else " is"
            self.incomplete.append(f"{_shown(folder / unreadable[0])}{more} not readable")

    def _first_bytes(self, path: str) -> bytes | None:
        """Give what the header of an image begins with, of a regular file; None when it can't be read."""
        try:
            # The entry may have become a FIFO since the folder was read: never wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            self.forbidden.append(Path(path))
            return None
        except OSError:
            return None
        try:
            return os.read(descriptor, _QED_FEATURES.stop)
        except OSError:
            return None
        finally:
            os.close(descriptor)


def _is_qed_overlay(start: bytes) -> bool:
    features = int.from_bytes(start[_QED_FEATURES], "little")
    return start.startswith(_QED_MAGIC) and bool(features & _QED_BACKING_FILE)


def _shown(path: Path) -> str:
    return printable(str(path))
