"""Putting files back to where a journal and a plan know them: the same paths, inodes and times."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
