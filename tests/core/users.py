"""Tests as a user without rights of his own: root may read whatever its mode says."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY = 65534


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Give a folder that everybody may enter, unlike pytest's; what is in it is removed whatever its mode."""
    import networkx  # noqa: F401 - Python itself may lie where nobody may look

    folder = Path(tempfile.mkdtemp(prefix="backchain-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights of his own in the block; whoever is none but root stays who he is."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(_NOBODY)
        yield
    finally:
        if user == 0:
            os.seteuid(0)
