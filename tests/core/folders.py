"""Fresh folders for images, one per example."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folders:
    """Makes folders below one parent, on the file system that the images shall lie on."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Give an empty folder that is removed when the block ends."""
        with tempfile.TemporaryDirectory(dir=self.parent) as folder:
            yield Path(folder)
