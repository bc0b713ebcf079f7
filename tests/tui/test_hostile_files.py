"""Damaged and odd files through the command line: a promised status, one line that names the file, nothing raw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.core import judge
from tests.core.corpus import BAD_HEADERS, OVERLAPS, UNREADABLE
from tests.core.judge import Answer, backchain
from tests.core.seeds import Seeds

if TYPE_CHECKING:
    from pathlib import Path


DAMAGES = {**BAD_HEADERS, **UNREADABLE, **OVERLAPS}
CASES = [(n, w) for n in DAMAGES for w in ("a.qcow2", "b.qcow2") if (n, w) != ("backing-name-too-long", "a.qcow2")]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    from tests.core.folders import Folders

    return Seeds(Folders(tmp_path_factory.mktemp("seeds")))


def run_all(folder: Path, top: Path) -> dict[str, Answer]:
    """Run every command on a folder of a chain and its top; the changing ones only if nothing forbids them."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    answers = {}
    for option in ("", "--json", "--dot"):
        answers[f"graph {option}"] = backchain("graph", *filter(None, [option]), folder)
        judge.assert_well_behaved(answers[f"graph {option}"])
    for output in ("human", "json"):
        answers[f"map {output}"] = backchain("map", "--output", output, top)
    for verb in ("commit", "pull"):
        for option in ("-n", "-y"):
            answers[f"{verb} {option}"] = backchain(verb, option, top)
            changed = any(path.read_bytes() != data for path, data in before.items())
            assert not changed or (option, answers[f"{verb} {option}"].status) == ("-y", 0)
        for path, data in before.items():
            path.write_bytes(data)
    for answer in answers.values():
        judge.assert_well_behaved(answer, 3, 4)
    return answers


def refused(answer: Answer, *names: str) -> bool:
    """Whether a command was refused with 3 or 4 by a line that names one of the files."""
    return answer.status in (3, 4) and any(name in answer.error for name in names)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_a_damaged_image_is_refused_by_name(seeds: Seeds, tmp_path: Path, name: str, which: str) -> None:
    base, top = seeds["v3-64k"].write(tmp_path)
    damaged = tmp_path / which
    damaged.write_bytes(DAMAGES[name](damaged.read_bytes()))
    answers = run_all(tmp_path, top)
    written = "commit -y" if damaged == base else "pull -y"
    assert refused(answers[written], which)
    if name in UNREADABLE or name in BAD_HEADERS:
        assert refused(answers["map json"], which)
        assert refused(answers["pull -y"], which)
        assert refused(answers["commit -y"], which)
