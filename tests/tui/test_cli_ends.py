"""What a changing command says besides its result: warnings before, what it cannot vouch for, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core import qemu
from tests.core.images import chain_of

from .command_line import backchain, error_of

if TYPE_CHECKING:
    from pathlib import Path


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_the_status_and_the_first_code_of_a_refusal_belong_together(tmp_path: Path) -> None:
    old, orphan = chain_of(tmp_path, "old", "orphan")
    base = chain_of(tmp_path, "base")[0]
    arguments = ("rebase", "-y", "-u", "-b", base, orphan)
    with qemu.held_open(orphan):
        old.unlink()
        assert error_of(backchain(*arguments), 3).startswith("unsafe-rebase: ")
        assert error_of(backchain(*arguments, "--force", "unsafe-rebase"), 5).startswith("in-use: ")
        assert backchain(*arguments, "-n", "--force", "unsafe-rebase").returncode == 5


@pytest.mark.parametrize("verb", ["commit", "pull", "rebase", "snapshot", "delete", "recover"])
def test_a_code_that_no_hazard_has_is_a_mistake(tmp_path: Path, verb: str) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    line = error_of(backchain(verb, "-n", "--force", "unsafe-rebsae", top), 2)
    for code in ("unsafe-rebsae", "unsafe-rebase", "internal-snapshots"):
        assert repr(code) in line
