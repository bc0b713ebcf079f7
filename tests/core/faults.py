"""Writes that fail: the n-th change of a run, or all from the n-th on, as on a disk that breaks or is full.

Every way in which the engine changes a file can fail, flushes and names too. A write that fails may have written some.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from .recording import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = ("write", "pwrite", "ftruncate", "copy_file_range", "fsync", "fdatasync", "unlink", "link")


@dataclass
class Fault:
    """One fault of a run.

    Attributes:
        at: Number of the change that fails first, from 0 on.
        code: The error, from `errno`.
        lasting: Whether all changes after it fail as well.
        short: Whether a write that fails has written about half of its data before, in whole sectors.
        calls: Changes so far, failed ones included.
        struck_name: Name of the function of `os` that failed first.
    """

    at: int
    code: int = errno.EIO
    lasting: bool = False
    short: bool = False
    calls: int = 0
    struck_name: str = ""

    @property
    def struck(self) -> bool:
        """Whether it has come to the change that fails."""
        return self.calls > self.at

    @contextmanager
    def active(self) -> Iterator[Fault]:
        """Let the changes that this process makes fail as described until the block ends."""
        wrapped = {name: self._wrapped(name) for name in CHANGES}
        with mock.patch.multiple(os, **wrapped):
            yield self

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self.at or (self.lasting and number > self.at):
                self.struck_name = self.struck_name or name
                if self.short and name == "pwrite":
                    self._write_half(real, *args)
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call

    @staticmethod
    def _write_half(real: Callable[..., Any], descriptor: int, data: Any, offset: int) -> None:
        """Write as much as a disk that fails may: whole sectors."""
        middle = (offset + len(data) // 2) // SECTOR * SECTOR
        if middle > offset:
            real(descriptor, memoryview(data)[: middle - offset], offset)
