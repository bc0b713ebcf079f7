"""Completion in a shell: of commands, options and paths, without anything heavy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .command_line import HEAVY, TIMEOUT, backchain


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["co"], {"file,co", "plain,commit"}), ([""], {"file,", "plain,map", "plain,recover"}),
        (["commit", "--pro"], {"plain,--progress"}), (["commit", "--progress", "js"], {"plain,json"}),
        (["pull", "--force", "un"], {"plain,unknown-overlays", "plain,unsafe-rebase"}),
        (["map", "im"], {"file,im"}), (["commit", "-b", "im"], {"file,im"}), (["rebase", "-b", "im"], {"file,im"}),
        (["some-image", "im"], {"file,im"}), (["recover", "la"], {"dir,la"}),
    ],
)  # fmt: skip
def test_a_shell_completes_commands_options_and_paths(words: list[str], wanted: set[str]) -> None:
    """Without anything heavy: a shell asks anew at every press of the tab key."""
    code = (
        "import atexit, sys; from backchain_tui.cli import main;"
        f"atexit.register(lambda: print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)); main()"
    )
    asked = {"_BACKCHAIN_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("backchain", *words))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked, "COMP_CWORD": str(len(words))}, capture_output=True,
        text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    assert done.stderr == "\n"
    found = done.stdout.splitlines()
    assert wanted <= set(found)
    assert not any(line.startswith("plain,") for line in found) or words[0] not in {"map", "some-image"}


def test_the_script_for_a_shell_is_given() -> None:
    for shell in ("bash", "zsh", "fish"):
        script = backchain(_BACKCHAIN_COMPLETE=f"{shell}_source")
        assert script.returncode == 0, script.stderr
        assert f"_BACKCHAIN_COMPLETE={shell}_complete" in script.stdout
