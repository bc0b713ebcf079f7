"""Putting files back to where a journal and a plan know them: the same paths, inodes and times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain.journal import is_journal

from . import qemu
from .states import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Home:
    """A folder of images as it is now, and as any state of it.

    A state differs from a file that was never touched by its content alone: inodes are kept by hard links, and a file
    that holds what it held has the time that it had.
    """

    def __init__(self, folder: Path, pins: Path) -> None:
        """Remember the files of `folder`; `pins` must not exist yet and lie on the same file system."""
        pins.mkdir()
        self._folder, self._pins = folder, pins
        self._contents: dict[str, bytes] = {}
        self._times: dict[str, tuple[int, int]] = {}
        for path in sorted(folder.iterdir()):
            os.link(path, pins / path.name)
            status = path.stat()
            self._contents[path.name] = path.read_bytes()
            self._times[path.name] = (status.st_atime_ns, status.st_mtime_ns)

    def restore(self) -> None:
        """Put everything back as it was remembered."""
        self.put(self._contents)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Make the folder hold just these files."""
        for path in self._folder.iterdir():
            if path.name not in files:
                path.unlink()
        for name, content in files.items():
            path = self._folder / name
            if not path.exists() and name in self._contents:
                os.link(self._pins / name, path)
            with path.open("r+b" if path.exists() else "xb") as file:
                file.write(content)
                file.truncate()
            if self._contents.get(name) == content:
                os.utime(path, ns=self._times[name])


def state_of(folder: Path, story: str, contents: dict[str, bytes]) -> State:
    """Give the images of a folder as they are, journals left out, and add their bytes to `contents` by digest."""
    files = {}
    for path in folder.iterdir():
        if not is_journal(path.name):
            files[path.name] = qemu.digest(path)
            contents.setdefault(files[path.name], path.read_bytes())
    return State(story, files)
