"""Completion in a shell: of commands, options and paths, without anything heavy."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from .command_line import HEAVY, TIMEOUT, backchain, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
        "import sys; from backchain_tui.cli import run; run([]);"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    asked = {"_BACKCHAIN_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("backchain", *words))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked, "COMP_CWORD": str(len(words))}, capture_output=True,
        text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    assert done.stderr == "\n"
    found = done.stdout.splitlines()
    assert wanted <= set(found)
    plain = [any(line.startswith("plain,") for line in lines) for lines in (found, wanted)]
    assert plain[0] is plain[1], "words are offered where words are wanted, and nowhere else"


def test_the_script_for_a_shell_is_given() -> None:
    for shell in ("bash", "zsh", "fish"):
        script = backchain(_BACKCHAIN_COMPLETE=f"{shell}_source")
        assert script.returncode == 0, script.stderr
        assert f"_BACKCHAIN_COMPLETE={shell}_complete" in script.stdout


def test_an_unknown_shell_is_wrong_usage() -> None:
    assert "bash_source" in error_of(backchain(_BACKCHAIN_COMPLETE="tcsh_source"), 2)


# --- in the shells themselves -----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with images, and with a command `backchain` in its folder bin."""
    for name in ("one.qcow2", "with blank.qcow2", "-dash.qcow2", "sub/inner.qcow2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    command = tmp_path / "bin" / "backchain"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m backchain_tui \"$@\"\n")
    command.chmod(0o755)
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TERM": "dumb"}


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("backchain co", "commit\tmerge layers down into a base"), ("backchain gra", "graph\tthe forest, as text"),
        ("backchain ", "one.qcow2"), ("backchain commit --progress js", "json"),
        ("backchain commit --progress=js", "--progress=json"), ("backchain graph --scan=su", "--scan=sub/"),
        ("backchain recover ~/s", "~/sub/"), ("backchain commit ~/o", "~/one.qcow2"),
        ("backchain map $HOME/o", "$HOME/one.qcow2"), ("backchain map with\\ b", "with blank.qcow2"),
        ("backchain map 'with b", "with blank.qcow2"), ("backchain map -- -d", "-dash.qcow2"),
    ],
)  # fmt: skip
def test_fish_completes(home: Path, line: str, wanted: str) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", "_BACKCHAIN_COMPLETE=fish_source backchain | source; complete -C $argv[1]", line],
        cwd=home, env=environment(home), capture_output=True, text=True, timeout=TIMEOUT, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert wanted in done.stdout.splitlines()


@contextmanager
def zsh(home: Path) -> Iterator[int]:
    """Give the terminal of a zsh that completes."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execvpe("zsh", ["zsh", "-f"], environment(home))
    source = 'eval "$(_BACKCHAIN_COMPLETE=zsh_source backchain)"'
    os.write(terminal, f"autoload -Uz compinit; compinit -u -D; {source}; echo rea''dy\n".encode())
    try:
        seen(terminal, "ready")
        yield terminal
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def seen(terminal: int, wanted: str) -> str:
    """Read until something appears, for a while at most; give all that appeared."""
    text, end = "", time.monotonic() + TIMEOUT
    while wanted not in text and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(terminal, 1 << 16).decode(errors="replace"))
    return text


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes(home: Path) -> None:
    with zsh(home) as terminal:
        for line, wanted in (
            ("backchain ", "merge layers down into a base"),
            ("backchain commit --progress=js", "--progress=json"),
        ):
            os.write(terminal, b"\x15" + line.encode() + b"\t")
            assert wanted in seen(terminal, wanted)
