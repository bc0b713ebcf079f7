"""Damaged and odd files through the command line: a promised status, one line that names the file, nothing raw."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

import pytest

from backchain_tui.actions import Where
from backchain_tui.screens.operation import OperationScreen
from tests.core import damage, judge, qemu
from tests.core.corpus import BAD_HEADERS, OVERLAPS, UNREADABLE
from tests.core.folders import Folders
from tests.core.images import MIB, chain_of, overlay
from tests.core.judge import Answer, backchain
from tests.core.seeds import Seeds
from tests.tui.driving import assert_painted_well, picture, running, text_of, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTRIES = ("cluster-past-the-end", "cluster-unaligned", "compressed-past-the-end")
"""Damages of the L2 entry of the disk's first cluster alone."""
DAMAGES = {**BAD_HEADERS, **UNREADABLE, **OVERLAPS}
CASES = [(n, w) for n in DAMAGES for w in ("a.qcow2", "b.qcow2") if (n, w) != ("backing-name-too-long", "a.qcow2")]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
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
        assert refused(backchain("map", "--output", "json", damaged), which)
        if damaged == base and name in ENTRIES:  # the overlay covers the cluster: nobody reads it
            shown = json.loads(answers["map json"].out)
            assert [{k: e[k] for k in e if k != "compressed"} for e in shown] == qemu.map_json(top)
        else:
            assert refused(answers["map json"], which)
        assert refused(answers["pull -y"], which)
        assert refused(answers["commit -y"], which)


def patched(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_an_overlay_that_is_only_relinked_is_looked_at_too(seeds: Seeds, tmp_path: Path) -> None:
    """Its data lies in the header's cluster, which is counted twice: a new link would change what it reads."""
    for path in seeds["v3-64k"].write(tmp_path):
        assert judge.leaks(path) == 0
    base, middle = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    top = tmp_path / "c.qcow2"
    qemu.create(top, None, backing=middle)
    qemu.io(top, "write -P 1 0 64k")
    patched(top, OVERLAPS["data-is-the-header"])
    before = base.read_bytes(), top.read_bytes()
    assert refused(backchain("commit", "-y", middle), "c.qcow2")
    assert (base.read_bytes(), top.read_bytes()) == before


def test_a_link_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The header of 512-byte clusters has no room for a long name; the data must not have gone down by then."""
    deep = tmp_path / ("x" * 200) / ("y" * 200)
    deep.mkdir(parents=True)
    qemu.create(deep / "a.qcow2", MIB)
    link = f"{'x' * 200}/{'y' * 200}/a.qcow2"
    qemu.create(tmp_path / "b.qcow2", None, backing=link, backing_format="qcow2")
    qemu.io(tmp_path / "b.qcow2", "write -P 1 0 64k")
    qemu.create(tmp_path / "c.qcow2", None, backing=tmp_path / "b.qcow2", cluster_size=512)
    before = (deep / "a.qcow2").read_bytes()
    answer = backchain("commit", "-y", tmp_path / "b.qcow2")
    assert refused(answer, "c.qcow2")
    assert "does not fit" in answer.error
    assert (deep / "a.qcow2").read_bytes() == before


def test_a_bitmap_directory_that_lies_in_the_guests_data(seeds: Seeds, tmp_path: Path) -> None:
    """Marking the bitmaps as inconsistent would write into it, and so into what a guest reads."""
    base, top = seeds["bitmaps"].write(tmp_path)
    data = base.read_bytes()
    (cluster,) = struct.unpack_from(">Q", data, damage.l2_tables(data)[0])
    place = data.index(struct.pack(">II", 0x23852875, 24)) + 8 + 16
    patched(base, lambda d: damage.put64(d, place, cluster & 0x00FF_FFFF_FFFF_FE00))
    before = base.read_bytes()
    assert refused(backchain("commit", "-y", top), "a.qcow2")
    assert base.read_bytes() == before


LINKS = {
    "itself": "top.qcow2",
    "nothing": "gone.qcow2",
    "a folder": ".",
    "a process's memory": "/proc/self/mem",
    "zeros": "/dev/zero",
    "a full device": "/dev/full",
    "a terminal": "/dev/tty",
    "standard input": "/dev/stdin",
    "the kernel's memory": "/proc/kcore",
    "a file that blocks": "fifo",
    "a path through a file": "top.qcow2/x",
    "a name that is too long": "x" * 300,
    "dots": "../" * 300 + "x",
    "nested": "json:" + "[" * 900,
    "json in json": 'json:{"driver":"qcow2","file":' + '{"file":' * 60 + "{}" + "}" * 60 + "}",
    "numbers": 'json:{"driver":1e999,"file":{"filename":123456789012345678901234567890}}',
    "a protocol": "nbd://127.0.0.1:1/x",
}


@pytest.mark.parametrize("what", LINKS)
@pytest.mark.parametrize("recorded", ["qcow2", "raw"])
def test_a_link_to_what_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, recorded: str) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    top = overlay(tmp_path / "top.qcow2", "x", recorded)
    patched(top, lambda d: damage.with_header(d, [(damage.BACKING_FORMAT, recorded.encode())], LINKS[what].encode()))
    before = top.read_bytes()
    for words, status in (
        (("graph", tmp_path), 0), (("graph", "--dot", top), 0), (("map", top), 4), (("commit", "-n", top), 3),
        (("commit", "-y", top), 3), (("pull", "-n", "--json", top), 3), (("pull", "-y", top), 3),
    ):  # fmt: skip
        answer = backchain(*words)
        judge.assert_well_behaved(answer, 3, 4)
        assert answer.status == status
    assert top.read_bytes() == before


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_loop_is_named_and_refused(tmp_path: Path, length: int) -> None:
    paths = chain_of(tmp_path, *(f"l{n}" for n in range(length)), "above")
    qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", f"l{length - 1}.qcow2", paths[0])
    for path in paths:
        for words, status in ((("map", path), 4), (("commit", "-y", path), 3), (("pull", "-y", path), 3)):
            answer = backchain(*words)
            judge.assert_well_behaved(answer, 3, 4)
            assert (answer.status, "loop" in answer.error) == (status, True)
    states = {i["path"]: i["state"] for i in json.loads(backchain("graph", "--json", tmp_path).out)["images"]}
    assert states == {str(p): "loop" if p.stem != "above" else "ok" for p in paths}


async def test_the_screen_shows_a_folder_of_damaged_images(seeds: Seeds, tmp_path: Path) -> None:
    for number, (name, which) in enumerate(CASES):
        folder = tmp_path / f"{number:03}-{name}"
        folder.mkdir()
        for path in seeds["v3-64k"].write(folder):
            if path.name == which:
                patched(path, DAMAGES[name])
    async with running(tmp_path, size=(100, 40)) as (app, pilot):
        screen = picture(app)
        assert screen.graph is not None
        assert screen.diagram is not None
        images = list(screen.graph)
        assert len(images) == 2 * len(CASES)
        for image in images[:: len(images) // 24]:
            screen.diagram.cursor = image
            await pilot.pause(0.1)
            assert_painted_well(app, 100)
            if Where.OVERLAY not in screen.where():
                continue
            await pilot.press("c")
            await until(pilot, lambda: isinstance(picture(app), OperationScreen))
            await until(pilot, lambda: "Planning" not in text_of(app, "#plan"))
            assert_painted_well(app, 100)
            await pilot.press("escape", "escape")
            await until(pilot, lambda: picture(app) is screen)
