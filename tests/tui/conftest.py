"""What the tests of the screen and of the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backchain.lab import make_lab

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Make the demo's images in a folder of their own."""
    folder = tmp_path / "lab"
    folder.mkdir()
    make_lab(folder)
    return folder
