"""Fixtures of the library's tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import qemu
from .folders import Folders

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Give a maker of fresh folders, each removed once it is done with; one example of hypothesis needs one."""
    return Folders(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def memory() -> Iterator[Folders]:
    """Give a maker of fresh folders in memory, for many runs that need no disk; flushes take no time there."""
    with tempfile.TemporaryDirectory(prefix="images-", dir=qemu.scratch()) as folder:
        yield Folders(Path(folder))
