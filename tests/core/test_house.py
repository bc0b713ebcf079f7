"""The house: what may import what, which folders there are, and that the package says one version."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import backchain

from .images import chain_of

ROOT = Path(__file__).parents[2]

FOLDERS = {"core", "tui", "tests", "screenshots"}

SCREEN = ("backchain_tui", "textual", "rich", "click", "humanize")


def tracked_files() -> list[Path]:
    """Give every file under version control, or skip where there is none."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout")
    return [Path(name) for name in done.stdout.split("\0") if name]


def test_no_module_of_the_library_loads_the_screen() -> None:
    code = (
        "import importlib, pkgutil, sys, backchain\n"
        "found = [m.name for m in pkgutil.walk_packages(backchain.__path__, 'backchain.')]\n"
        "for name in found: importlib.import_module(name)\n"
        f"print(len(found), *sorted(m for m in sys.modules if m.partition('.')[0] in {SCREEN!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, *loaded = done.stdout.split()
    assert int(modules) > 20
    assert loaded == []


def test_the_graph_is_made_without_numpy(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    code = (
        "import sys; from pathlib import Path; from backchain.discover import discover;"
        "assert len(discover([Path(sys.argv[1])])) == 2; sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0


def test_the_version_is_said_once_more_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert backchain.__version__ == project["version"]


def test_the_top_level_folders_are_as_promised() -> None:
    folders = {path.parts[0] for path in tracked_files() if len(path.parts) > 1}
    assert {f for f in folders if not f.startswith(".")} <= FOLDERS
    assert {"core", "tui", "tests"} <= folders


def test_no_file_binds_the_project_to_one_package_index() -> None:
    files = tracked_files()
    assert Path("uv.lock") not in files
    for path in files:
        content = (ROOT / path).read_bytes() if (ROOT / path).is_file() else b""
        for host in (b"pypi" + b".org", b"python" + b"hosted.org"):
            assert host not in content, path


def test_every_dependency_has_an_upper_bound() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [g for group in document["dependency-groups"].values() for g in group if isinstance(g, str)]
    for requirement in (*document["project"]["dependencies"], *groups):
        assert "<" in requirement.partition(";")[0], requirement
