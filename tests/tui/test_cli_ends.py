"""What a changing command says besides its result: warnings before, what it cannot vouch for, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
