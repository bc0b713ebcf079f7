"""Mutants of sound chains through every command: an answer or one line, and never a guest that reads something else."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from . import damage, judge, mutate, qemu
from .seeds import FORESTS, Seeds

if TYPE_CHECKING:
    from pathlib import Path

    from .folders import Folders
    from .mutate import Mutant

FORCED = ("--force", "internal-snapshots")


@pytest.fixture(scope="module")
def seeds(folders: Folders) -> Seeds:
    """Give the sound chains."""
    return Seeds(folders)


def write_mutant(path: Path, mutant: Mutant) -> None:
    """Damage a file."""
    path.write_bytes(damage.damaged(path.read_bytes(), mutant.damages))
    if mutant.length is not None:
        os.truncate(path, mutant.length)


def operations(paths: list[Path]) -> list[tuple[str | Path, ...]]:
    """Give every way to merge the layers of a chain, the base first."""
    base, *above = paths
    top = above[-1]
    found: list[tuple[str | Path, ...]] = [("commit", top), ("commit", "-d", top), ("pull", top)]
    if len(above) > 1:
        found += [("commit", "-b", base, top), ("commit", above[0]), ("pull", "-b", base, top)]
    return found


def look(folder: Path, paths: list[Path]) -> None:
    """Ask for everything that only reads."""
    for option in ([], ["--json"], ["--dot"]):
        answer = judge.backchain("graph", *option, folder)
        judge.assert_well_behaved(answer)
        assert answer.status == 0
    judge.assert_well_behaved(judge.backchain("graph", paths[-1]), 4)
    for path in (paths[0], paths[-1]):
        judge.assert_well_behaved(judge.backchain("map", path), 4)
        event(same_map(path))


def same_map(path: Path) -> str:
    """Where both read an image, its map is QEMU's; gives who read it, for statistics."""
    answer = judge.backchain("map", "--output", "json", path)
    judge.assert_well_behaved(answer, 4)
    theirs = judge.qemu_map(path) if answer.status == 0 else None
    if theirs is not None:
        ours: list[dict[str, Any]] = json.loads(answer.out)
        assert [{k: v for k, v in e.items() if k != "compressed"} for e in ours] == theirs
    return f"map: {answer.status}, QEMU {'answers' if theirs is not None else 'does not'}"


def leaks_behind_the_end(data: bytes, folder: Path) -> int:
    """Give the leaks of a file with those refcounts that count clusters past its end, which show once it has grown."""
    stretched = folder / "stretched.qcow2"  # beside what backs it
    stretched.write_bytes(data)
    os.truncate(stretched, len(data) + (2 << 30))  # what a refcount block counts of clusters of 64 KiB
    leaks = judge.leaks(stretched)
    stretched.unlink()
    return 0 if leaks in (None, judge.UNSOUND) else leaks


def run_and_compare(operation: tuple[str | Path, ...], paths: list[Path], folder: Path) -> str:
    """Run an operation; whatever comes of it, what survives reads the same, and what was sound stays sound.

    Returns:
        What came of it, for statistics.
    """
    dry = judge.backchain(*operation, "-n", "--json", *FORCED)
    judge.assert_well_behaved(dry, 3, 4)
    judge.assert_well_behaved(judge.backchain(*operation, "-n"), 3, 4)
    files = {path: path.read_bytes() for path in paths if path.stat().st_size < 1 << 30}
    lost = set(json.loads(dry.out)["invalidated"]) if dry.status == 0 else set()
    if dry.status == 0 and operation[0] == "commit":
        lost.add(json.loads(dry.out)["target"])
    views = {} if dry.status else {p: judge.keep_view(p, folder) for p in paths if str(p) not in lost}
    sound = {} if dry.status else {path: judge.leaks(path) for path in paths}
    done = judge.backchain(*operation, "-y", *FORCED)
    judge.assert_well_behaved(done, 3, 4)
    if done.status in (2, 3) or dry.status:
        assert all(path.read_bytes() == data for path, data in files.items()), "written to in spite of a refusal"
    for path, kept in views.items():
        assert kept is None or judge.reads_as(path, kept) is not False, f"{path.name} reads differently"
    for path, before in sound.items():
        after = judge.leaks(path) if before not in (None, judge.UNSOUND) else None
        if before is None or after is None:
            continue
        assert after != judge.UNSOUND, f"{path.name} was sound"
        assert after <= before or done.status or after <= leaks_behind_the_end(files[path], path.parent), path.name
    known = (
        sum(kept is not None for kept in views.values()),
        sum(n not in (None, judge.UNSOUND) for n in sound.values()),
    )
    return f"{operation[0]}: plan {dry.status}, run {done.status}, views and sound files of {len(paths)}: {known}"


@pytest.mark.parametrize("name", FORESTS)
@given(data=st.data())
def test_a_mutant_is_answered_and_loses_nothing(folders: Folders, seeds: Seeds, name: str, data: st.DataObject) -> None:
    seed = seeds[name]
    with ExitStack() as stack:
        folder, aside = (stack.enter_context(folders.fresh()) for _ in range(2))
        paths = seed.write(folder)
        for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=2, unique=True), "files"):
            if judge.format_of(path) == "qcow2":
                write_mutant(path, data.draw(mutate.mutants(path.read_bytes()), path.name))
        look(folder, paths)
        event(run_and_compare(data.draw(st.sampled_from(operations(paths)), "operation"), paths, aside))


@pytest.mark.parametrize("name", FORESTS)
def test_without_damage_every_operation_is_run(folders: Folders, seeds: Seeds, name: str) -> None:
    """The harness itself: on sound files every operation is done, its views are known, and QEMU finds them sound."""
    seed = seeds[name]
    with ExitStack() as stack:
        folder, aside = (stack.enter_context(folders.fresh()) for _ in range(2))
        for number in range(len(operations(seed.write(folder)))):
            paths = seed.write(folder)
            operation = operations(paths)[number]
            assert judge.backchain(*operation, "-n", *FORCED).status == 0
            assert all(judge.leaks(path) != judge.UNSOUND for path in paths)
            run_and_compare(operation, paths, aside)
            assert any(path.read_bytes() != dict(seed.files)[path.name] for path in paths)
            assert qemu.view(paths[-1])
