"""Names out of files are data: whatever they hold, they are shown escaped, in their place, and mean the same file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.operation import OperationScreen
from backchain_tui.widgets.cluster_map import ClusterMap
from tests.core import damage, judge, qemu
from tests.core.damage import BACKING_FORMAT
from tests.core.images import MIB, overlay
from tests.core.judge import backchain
from tests.tui.driving import assert_painted_well, ended_well, picture, planned, put_cursor, running, text_of, until

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "newline": "a\nb\r\tc",
    "escape": "\x1b[31mred\x1b]0;title\x07\x1b[2J",
    "c1": "\x85\x9b31m\x9d0;t\x9c",
    "markup": "[red]x[@click=app.quit]y[blink",
    "unclosed-markup": "[bold[[]",
    "bidi": "\u202egnp.2wocq\u202c\u2066x\u2069\u200f",
    "invisible": "a\u200b\u00ad\ufeff\u2060b\u00a0\u3000c",
    "not-utf-8": "b\udcff\udc80yte",
    "combining": "e\u0301" + "\u0300\u0489\u20dd" * 8 + "\u0e31\ufe0f",
    "wide": "日本語のディスク",
    "jamo": "\u1112\u1161\u11ab\u115f\u1160",
    "emoji": "\U0001f469\u200d\U0001f467\U0001f44d\U0001f3fd",
    "quotes": "'\"`$(id)\\&<b>{}|",
    "dashes": "-n --json",
    "percent": "%s%n{0}\\N",
    "long": "x" * 240,
    "long-wide": "語" * 78,
}


def base_and_top(folder: Path, name: str) -> tuple[Path, Path]:
    """Make NAME.qcow2 and an overlay of it, with data in both."""
    base, top = folder / f"{name}.qcow2", folder / f"{name}2.qcow2"
    qemu.create(base, MIB)
    qemu.io(base, "write -q 0 256k")
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    qemu.io(top, "write -q 128k 256k")
    return base, top


@pytest.mark.parametrize("kind", NAMES)
def test_a_file_of_any_name_is_shown_escaped_and_merged(tmp_path: Path, kind: str) -> None:
    base, top = base_and_top(tmp_path, NAMES[kind])
    view = qemu.view(top)
    answers = [
        backchain(*words)
        for words in (
            ("graph", tmp_path), ("graph", "--ascii", top), ("graph", "--dot", tmp_path), ("map", top),
            ("map", tmp_path / f"{NAMES[kind]}-not-there"), ("commit", "-n", base), ("commit", "-b", top, top),
            ("commit", "-n", top), ("pull", "-n", top), ("commit", "-n", "--json", top),
        )
    ]  # fmt: skip
    assert [a.status for a in answers] == [0, 0, 0, 0, 4, 2, 2, 0, 0, 0]
    for answer in answers:
        assert all(line.isprintable() for line in (answer.out + answer.error).split("\n")), answer
        assert answer.error.count("\n") == (answer.status != 0)
    assert len(answers[0].out.splitlines()) == 4
    assert len(answers[2].out.splitlines()) == 3 + 2 + 1 + 1
    images = json.loads(backchain("graph", "--json", tmp_path).out)["images"]
    assert {i["path"] for i in images} == {str(base), str(top)}
    assert json.loads(answers[-1].out)["target"] == str(base)
    assert backchain("commit", "-y", top).status == 0
    assert qemu.view(top) == view


def test_columns_stand_below_each_other_whatever_the_names(tmp_path: Path) -> None:
    chosen = NAMES.keys() - {"long", "long-wide", "emoji"}  # terminals do not agree on the width of joined emoji
    for kind in chosen:
        base_and_top(tmp_path, NAMES[kind])
    heading, *rows = backchain("graph", tmp_path).out.splitlines()[1:]
    place = cell_len(heading[: heading.index("FORMAT")])
    assert len(rows) == 2 * len(chosen)
    for row in rows:
        assert cell_len(row[: row.rindex("qcow2   ")]) == place, row


# --- what a header records --------------------------------------------------------------------------------------------

RECORDED = {
    **{kind: os.fsencode(name) for kind, name in NAMES.items()},
    "1023-bytes": b"d/" * 511 + b"e",
    "1023-wide": "語".encode() * 341,
    "1023-escapes": b"\x1b" * 1023,
    "surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "json": b'json:{"driver":"\\u001b[2J","file":{"driver":"file","filename":"\\u202e\\ud800\\n"}}',
    "protocol": b"nbd://\x1b[2J\n/x",
}


@pytest.mark.parametrize("kind", RECORDED)
def test_a_recorded_name_and_format_are_shown_escaped(tmp_path: Path, kind: str) -> None:
    top = overlay(tmp_path / "top.qcow2", "x", "raw")
    (tmp_path / "there").write_bytes(bytes(MIB))
    formats = [RECORDED[kind][:15], b"qcow2"]
    qemu.run(
        "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "0.qcow2", tmp_path / "2.qcow2", "1M"
    )
    for number, (name, backing_format) in enumerate([(RECORDED[kind], formats[1]), (b"there", formats[0])]):
        path = tmp_path / f"{number}.qcow2"
        path.write_bytes(damage.with_header(top.read_bytes(), [(BACKING_FORMAT, backing_format)], name))
        for words in (
            ("graph", tmp_path), ("graph", "--dot", path), ("graph", "--json", path), ("map", path),
            ("commit", "-n", path), ("pull", "-n", path), ("pull", "-n", "--json", path), ("pull", "-y", path),
        ):  # fmt: skip
            answer = backchain(*words)
            judge.assert_well_behaved(answer, 3, 4)
            assert answer.status == (0 if words[0] == "graph" else 4 if words[0] == "map" else 3)


# --- the screen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ascii_only"), [((80, 24), False), pytest.param((140, 45), True, marks=pytest.mark.slow)]
)
async def test_no_name_breaks_the_screen(tmp_path: Path, size: tuple[int, int], *, ascii_only: bool) -> None:
    for name in NAMES.values():
        base_and_top(tmp_path, name)
    odd = overlay(tmp_path / "odd.qcow2", "x", "raw").read_bytes()
    for number, recorded in enumerate(RECORDED.values()):
        data = damage.with_header(odd, [(BACKING_FORMAT, recorded[:15])], recorded)
        (tmp_path / f"odd{number}.qcow2").write_bytes(data)
    async with running(tmp_path, size=size, ascii_only=ascii_only) as (app, pilot):
        graph = picture(app).graph
        assert graph is not None
        assert len(graph) > 2 * len(NAMES) + len(RECORDED)
        for image in graph:
            await put_cursor(app, pilot, graph[image].label)
            await pilot.pause()
            assert_painted_well(app, size[0])
        for kind in ("escape", "markup", "combining", "wide", "long-wide"):
            top = next(graph[i].label for i in graph if graph[i].path.name == f"{NAMES[kind]}2.qcow2")
            await put_cursor(app, pilot, top)
            await until(pilot, lambda: app.screen.query_one(ClusterMap).view is not None)
            for keys in (("2",), ("m",), ("0", "i"), ("question_mark",), ("escape",)):
                await pilot.press(*keys)
                await pilot.pause()
                assert_painted_well(app, size[0])
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, OperationScreen) and app.screen.plan is not None)
            for keys in (("1",), ("2",), ("3",), ("enter",)):
                await pilot.press(*keys)
                await pilot.pause()
                assert_painted_well(app, size[0])
            await pilot.press("escape", "escape", "escape")  # the question, the pane, the operation
            await until(pilot, lambda: not isinstance(picture(app), OperationScreen))


@pytest.mark.parametrize("kind", ["newline", "escape", "not-utf-8", "bidi"])
async def test_the_name_that_is_proposed_for_an_overlay_holds_nothing_that_a_terminal_obeys(
    tmp_path: Path, kind: str
) -> None:  # fmt: skip
    base, top = base_and_top(tmp_path, NAMES[kind])
    async with running(tmp_path) as (app, pilot):
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, NamingScreen))
        await pilot.pause()
        assert_painted_well(app, 120)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, OperationScreen))
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    (made,) = {*tmp_path.glob("*.qcow2")} - {base, top}
    assert qemu.compare(made, top)


async def test_a_name_that_begins_like_a_user(tmp_path: Path) -> None:
    base_and_top(tmp_path, "plain")
    async with running(tmp_path) as (app, pilot):
        await pilot.press("s")
        await pilot.press(*"~nobody-of-that-name.qcow2", "enter")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert (tmp_path / "~nobody-of-that-name.qcow2").exists()


async def test_the_note_at_the_end_of_the_title_stands_beside_wide_names(tmp_path: Path) -> None:
    base_and_top(tmp_path, "語" * 30)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        await pilot.press("c")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        assert text_of(app, "TitleBar").endswith("… done")
