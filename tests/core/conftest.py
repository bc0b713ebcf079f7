"""Fixtures of the library's tests."""

from __future__ import annotations

import pytest

from .folders import Folders


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Give a maker of fresh folders, each removed once it is done with; one example of hypothesis needs one."""
    return Folders(tmp_path_factory.mktemp("images"))
