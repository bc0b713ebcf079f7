"""Links that are lost or faulty, links that lead outside, and interrupted jobs, mended by keyboard."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from backchain.journal import read_journals
from backchain.operations import Commit
from backchain.planning import make_plan
from backchain.record import Stage
from backchain_tui.actions import Where
from backchain_tui.diagram.text import render_text
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.help import HelpScreen
from backchain_tui.screens.picker import Picker
from tests.core import qemu
from tests.core.interruption import leak
from tests.core.planned import node, run
from tests.tui.command_line import backchain, stopped_amid
from tests.tui.driving import (
    MIB,
    asked,
    begin_to_finish,
    ended_well,
    figure,
    operation,
    picture,
    planned,
    put_cursor,
    running,
    text_of,
    until,
    words_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from textual.pilot import Pilot

    from backchain_tui.app import BackchainApp


async def offered(app: BackchainApp, pilot: Pilot[None]) -> str:
    """Wait for the list of repairs and give its words."""
    await until(pilot, lambda: isinstance(app.screen, Picker) and app.screen.query("#picker-count"))
    await pilot.pause()
    return words_of(app, "#picker")


# --- links --------------------------------------------------------------------------------------------------------


async def test_a_lost_base_is_found_and_linked_after_a_typed_word(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    away = tmp_path / "away"
    away.mkdir()
    moved = paths["RootBase"].rename(away / "RootBase.qcow2")
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-1")
        assert Where.FAULTY_LINK in picture(app).where()
        await until(pilot, lambda: "Fix link" in text_of(app, "KeyBar"))
        assert "its backing file is lost; f looks for a repair" in words_of(app, "#details")
        await pilot.press("f")
        listed = await offered(app, pilot)
        assert "its backing file is lost" in listed
        assert "likely: it is called RootBase.qcow2, as the lost base was" in listed
        await pilot.press("enter")
        await planned(app, pilot)
        assert "rebase -u  Snap-1 → away/RootBase" in text_of(app, "#picture"), "another than the one that is lost"
        await pilot.press("enter")
        assert "unsafe-rebase" in await asked(app, pilot)
        await pilot.press(*"unsafe-rebase", "enter")
        await ended_well(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        await until(pilot, lambda: Where.FAULTY_LINK not in picture(app).where())
    assert qemu.info(paths["Snap-1"])["backing-filename"] == "away/RootBase.qcow2"
    assert qemu.view(paths["Snap-4"]) == view
    assert moved.exists()


async def test_a_format_that_is_not_recorded(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, MIB)
    qemu.io(base, "write -P 1 0 64k")
    qemu.create(top, MIB, backing=base)
    forget_format(top)
    assert "backing-filename-format" not in qemu.info(top)
    view = qemu.view(top)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "top")
        assert "it records no format for base" in words_of(app, "#details")
        await pilot.press("f")
        assert "certain: base.qcow2 is qcow2" in await offered(app, pilot)
        await pilot.press("enter")
        await planned(app, pilot)
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
    assert qemu.info(top)["backing-filename-format"] == "qcow2"
    assert qemu.view(top) == view


def forget_format(path: Path) -> None:
    """Turn the header extension that records the backing format into an unknown one."""
    with path.open("r+b") as file:
        data = bytearray(file.read(512))
        at = data.index(b"\xe2\x79\x2a\xca")
        data[at : at + 4] = b"\x12\x34\x56\x78"
        file.seek(0)
        file.write(data)


async def test_nothing_is_offered_for_a_sound_link_or_where_nothing_was_found(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    paths["Snap-2"].unlink()
    paths["RootBase"].unlink()
    paths["Snap-1"].unlink()
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        assert Where.FAULTY_LINK not in picture(app).where()
        await pilot.press("f")
        assert isinstance(app.screen, BrowseScreen)
        await put_cursor(app, pilot, "Snap-3")
        await pilot.press("f")
        assert "No image that was found can be what is meant" in await asked(app, pilot)


async def test_a_link_that_leads_outside_is_marked_and_confirmed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    secret, mine = outside / "secret.qcow2", inside / "mine.qcow2"
    qemu.create(secret, MIB)
    qemu.create(mine, MIB, backing=secret)
    async with running(inside) as (app, pilot):
        await pilot.pause()
        assert "OUTSIDE" in text_of(app, "#picture")
        await put_cursor(app, pilot, "mine")
        assert "the link leads out of the folders given" in words_of(app, "#details")
        await put_cursor(app, pilot, "secret")
        assert "a link leads here, out of the folders given" in words_of(app, "#details")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and app.screen.query("#help-rows"))
        await pilot.pause()
        assert "OUTSIDE" in text_of(app, "#help")
        await pilot.press("escape")
        await put_cursor(app, pilot, "mine")
        await pilot.press("p")
        await planned(app, pilot)
        await pilot.press("enter")
        assert "Type untrusted-link to confirm" in await asked(app, pilot)


# --- interrupted jobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["commit", "pull"])
async def test_an_interrupted_job_is_finished(tmp_path: Path, verb: str) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    stopped_amid(
        *([verb, "-b", paths["RootBase"], paths["Snap-3" if verb == "commit" else "Snap-4"]]), number=signal.SIGKILL
    )
    async with running(tmp_path) as (app, pilot):
        await until(pilot, lambda: "1 interrupted job" in text_of(app, "TitleBar"))
        await until(pilot, lambda: "Unfinished" in text_of(app, "KeyBar"))
        await pilot.press("exclamation_mark")
        told = await asked(app, pilot)
        assert f"{verb} into" in told
        assert "It was interrupted while copying." in told
        assert "Finishing does what is left of it." in told
        await pilot.press("left", "left", "enter")
        await planned(app, pilot)
        assert "finishing an interrupted" in text_of(app, "TitleBar")
        await pilot.press("enter", "y")
        await ended_well(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        await until(pilot, lambda: "interrupted job" not in text_of(app, "TitleBar"))
        assert Where.INTERRUPTED not in picture(app).where()
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "RootBase.qcow2"
    assert qemu.view(paths["Snap-4"]) == view
    assert qemu.check(paths["RootBase"]).clean
    assert qemu.check(paths["Snap-4"]).clean


async def test_what_an_interrupted_job_leaked_is_given_back_when_it_is_finished(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    stopped_amid("commit", "-b", paths["RootBase"], paths["Snap-3"], number=signal.SIGKILL)
    qemu.run("qemu-img", "check", "-r", "leaks", paths["RootBase"])
    leak(paths["RootBase"])
    async with running(tmp_path) as (app, pilot):
        await begin_to_finish(app, pilot)
        screen = await ended_well(app, pilot)
        assert Where.NEXT not in screen.where()
        told = "All of it is done. Nothing is left to be tidied up."
        await until(pilot, lambda: told in [n.message for n in app._notifications])
    assert qemu.check(paths["RootBase"]).clean
    assert qemu.view(paths["Snap-4"]) == view


async def test_an_interrupted_job_is_undone_or_left_for_later(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    view = qemu.view(paths["Snap-4"])
    stopped_amid("commit", "-b", paths["RootBase"], paths["Snap-3"], number=signal.SIGKILL)
    async with running(tmp_path) as (app, pilot):
        await until(pilot, lambda: "1 interrupted job" in text_of(app, "TitleBar"))
        await pilot.press("exclamation_mark")
        await asked(app, pilot)
        await pilot.press("enter")
        assert isinstance(app.screen, BrowseScreen), "later has the keyboard"
        assert list(tmp_path.glob(".backchain-*.journal"))
        await pilot.press("exclamation_mark")
        await asked(app, pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: "interrupted job" not in text_of(app, "TitleBar"))
    (record,) = read_journals([tmp_path])
    assert record.stage is Stage.UNDONE, "what reads a mix is remembered"
    assert qemu.info(paths["Snap-4"])["backing-filename"] == "Snap-3.qcow2"
    assert qemu.view(paths["Snap-4"]) == view
    assert all(qemu.check(path).clean for path in paths.values())


async def test_what_reads_a_mix_is_marked_until_the_same_is_committed(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    stopped_amid("commit", "-b", paths["RootBase"], paths["Snap-3"], number=signal.SIGKILL)
    async with running(tmp_path) as (app, pilot):
        await until(pilot, lambda: text_of(app, "#picture").count("MIXED") == 3)
        await put_cursor(app, pilot, "Snap-2")
        told = "reads a mix of before and after; commit Snap-3 into RootBase again, or recover --finish"
        await until(pilot, lambda: told in words_of(app, "#details"))
        await pilot.press("exclamation_mark")
        await asked(app, pilot)
        await pilot.press("left", "enter")
        await until(pilot, lambda: "interrupted job" not in text_of(app, "TitleBar"))
        (undone,) = (n for n in app._notifications if n.title == "Undone")
        assert undone.severity == "warning"
        assert "may read a mix of before and after until the same is committed again" in undone.message
        await until(pilot, lambda: "commit Snap-3 into RootBase after all" in words_of(app, "#details"))
        assert text_of(app, "#picture").count("MIXED") == 3
        await put_cursor(app, pilot, "Snap-4")
        await pilot.pause()
        assert "reads a mix" not in words_of(app, "#details"), "it reads through the top"
        graph = picture(app).graph
    assert graph is not None
    again = make_plan(graph, Commit(node(graph, paths["RootBase"]), node(graph, paths["Snap-3"])))
    assert render_text(again, 160).count("MIXED") == 3, "on the upper row alone"
    run(again)
    assert "reads a mix" not in backchain("graph", tmp_path).stdout


async def test_several_interrupted_jobs_are_a_list(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = figure(tmp_path / name)
        stopped_amid("pull", paths["Snap-4"], number=signal.SIGKILL)
    async with running(tmp_path) as (app, pilot):
        await until(pilot, lambda: "2 interrupted jobs" in text_of(app, "TitleBar"))
        await pilot.press("exclamation_mark")
        listed = await offered(app, pilot)
        assert "one/Snap-4.qcow2" in listed
        assert "two/Snap-4.qcow2" in listed, "which is which"
        await pilot.press("down", "enter")
        assert "pull into Snap-4.qcow2" in await asked(app, pilot)
        await pilot.press("left", "left", "enter")
        screen = await planned(app, pilot)
        assert screen is operation(app)


async def test_words_of_before_do_not_hide_the_buttons_of_a_question(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    stopped_amid("pull", paths["Snap-4"], number=signal.SIGKILL)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "! to finish or undo it" in " ".join(n.message for n in app._notifications))
        await pilot.press("exclamation_mark")
        await asked(app, pilot)
        assert not list(app._notifications)
