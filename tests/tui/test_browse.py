"""The forest on the screen: real images, driven by keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backchain_tui.actions import Where
from backchain_tui.badges import Badge, Mark
from backchain_tui.diagram.glyphs import ASCII, UNICODE
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.help import HelpScreen
from backchain_tui.screens.operation import OperationScreen
from backchain_tui.widgets.bars import KeyBar
from backchain_tui.widgets.cluster_map import ClusterMap
from tests.core import qemu
from tests.tui.driving import MIB, branches, figure, label, picture, put_cursor, running, text_of, until, words_of


def test_the_first_paint_waits_for_neither_numpy_nor_networkx() -> None:
    code = "import sys, backchain_tui.app; print(sorted({'numpy', 'networkx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"


async def test_the_forest_is_read_and_the_cursor_walks(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        assert label(app) == "Snap-4"
        await pilot.press("left", "left")
        assert label(app) == "Snap-2"
        details = text_of(app, "#details")
        assert "Snap-2.qcow2 · intermediate layer" in details
        assert "Snap-1.qcow2 (qcow2)" in details
        assert "Snap-3 and Snap-4 would break" in details
        assert "8 MiB (8,388,608 bytes)" not in details
        await pilot.press("e")
        assert "8 MiB (8,388,608 bytes)" in text_of(app, "#details")


async def test_the_title_names_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "vm"
    (folder / "old").mkdir(parents=True)
    branches(folder)
    for place, given, shown in ((folder, ".", folder), (folder / "old", "..", folder), (tmp_path, "vm", "vm")):
        monkeypatch.chdir(place)
        async with running(Path(given), size=(240, 40)) as (app, _):
            assert f"{shown}: 3 images in 1 tree" in text_of(app, "TitleBar")


async def test_the_details_say_what_is_in_use(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    with qemu.held_open(paths["Web"]):
        async with running(tmp_path) as (app, pilot):
            await put_cursor(app, pilot, "Web")
            assert "in use another process has it open" in words_of(app, "#details")
            await put_cursor(app, pilot, "Mail")
            assert "in use" not in words_of(app, "#details")


async def test_the_map_tells_which_layer_provides_a_cluster(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        grid = app.screen.query_one(ClusterMap)
        await until(pilot, lambda: grid.view is not None)
        await pilot.press("2")
        assert app.screen.focused is grid
        assert "cluster 0 · guest 0x0 · RootBase · data · host 0x" in text_of(app, "#map")
        await pilot.press(*["right"] * 8)
        assert "cluster 8 · guest 0x80000 · Snap-1 · data" in text_of(app, "#map")
        await pilot.press("m")
        await until(pilot, lambda: grid.view is not None and grid.view.disk.own)
        assert "cluster 8 · guest 0x80000 · unallocated" in text_of(app, "#map")
        assert "Snap-4 · 128 clusters of 64 KiB" in text_of(app, "#map")
        await pilot.press("0")
        assert app.screen.focused is picture(app).diagram


async def test_only_valid_keys_are_offered(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await until(pilot, lambda: "Commit" in text_of(app, "KeyBar"))
        await put_cursor(app, pilot, "RootBase")
        await until(pilot, lambda: Where.OVERLAY not in picture(app).where())
        await until(pilot, lambda: "Commit" not in text_of(app, "KeyBar"))
        await pilot.press("c", "p")
        assert not isinstance(app.screen, OperationScreen)
        names = {c.title for c in app.get_system_commands(app.screen)}
        assert "Commit" not in names
        assert "What breaks" in names


async def test_a_missing_backing_file_and_markup_in_names(tmp_path: Path) -> None:
    base = tmp_path / "base.qcow2"
    odd = tmp_path / "[red]x[bold].qcow2"
    qemu.create(base, MIB)
    qemu.create(odd, MIB, backing=base)
    base.unlink()
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "[red]x[bold]")
        await pilot.pause()
        assert "[red]x[bold].qcow2" in text_of(app, "#details")
        assert "missing" in text_of(app, "#details")
        assert Where.OVERLAY not in picture(app).where()
        await pilot.press("m")
        await until(pilot, lambda: "[red]x[bold]" in text_of(app, "#map"))
        assert "[red]x[bold]" in text_of(app, "#picture")


@pytest.mark.parametrize(("key", "name"), [("c", "Golden"), ("p", "Golden"), ("c", "Web"), ("p", "Web")])
async def test_a_range_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, key: str, name: str) -> None:
    paths = branches(tmp_path)
    reason = "Golden has no backing file."
    if name == "Web":
        paths["Golden"].unlink()
        reason = "Golden, which backs Web, cannot be read."
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, name)
        await pilot.press(key)
        assert isinstance(app.screen, BrowseScreen)
        assert [n.message for n in app._notifications] == [reason]
        assert "Commit" not in text_of(app, "KeyBar")
        if name == "Golden":
            await put_cursor(app, pilot, "Web")
            await pilot.press(key)
            assert isinstance(app.screen, OperationScreen)
            await until(pilot, lambda: not app._notifications)


@pytest.mark.parametrize("key", ["r", "s", "d", "f", "i"])
async def test_what_cannot_be_done_with_a_missing_image_is_refused_with_the_reason(tmp_path: Path, key: str) -> None:
    paths = branches(tmp_path)
    paths["Golden"].unlink()
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Golden")
        await pilot.press(key)
        assert isinstance(app.screen, BrowseScreen)
        assert [n.message for n in app._notifications] == ["Golden is missing; f on Mail looks for a repair."]


async def test_a_raw_image_is_not_rebased_and_a_sound_link_not_mended(tmp_path: Path) -> None:
    raw, overlay = tmp_path / "disk.img", tmp_path / "overlay.qcow2"
    raw.write_bytes(bytes(MIB))
    qemu.create(overlay, MIB, backing=raw, backing_format="raw")
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "disk")
        await pilot.press("r")
        assert [n.message for n in app._notifications] == ["disk is raw: it can have no backing file."]
        await put_cursor(app, pilot, "overlay")
        await pilot.press("f")
        assert len(app._notifications) == 1, "there is nothing to say"
        await pilot.press("r")
        assert isinstance(app.screen, OperationScreen)


async def test_a_path_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    from backchain_tui.app import BackchainApp

    app = BackchainApp([tmp_path / "nothing.qcow2"], frames=0)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "Image not found" in text_of(app, "#picture"))
        assert "Traceback" not in text_of(app, "#picture")


async def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    from backchain_tui.app import BackchainApp

    app = BackchainApp([tmp_path], frames=0)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: picture(app).graph is not None)
        await until(pilot, lambda: "No image here" in text_of(app, "#map"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (40, 12)])
async def test_every_size_shows_picture_and_keys(tmp_path: Path, size: tuple[int, int]) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=size) as (app, pilot):
        await pilot.pause()
        assert "Golden" in text_of(app, "#picture")
        await until(pilot, lambda: "Help" in text_of(app, "KeyBar") or size[0] < 60)
        if size == (80, 24):
            assert "1 Details" in text_of(app, "PaneTabs")
            await pilot.press("2")
            assert not app.screen.query_one("#details").display
            await until(pilot, lambda: "cluster 0" in text_of(app, "#map"))
            assert "empty" in text_of(app, "#map")


async def test_ascii_only_means_ascii(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, ascii_only=True) as (app, pilot):
        grid = app.screen.query_one(ClusterMap)
        await until(pilot, lambda: grid.view is not None)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, OperationScreen) and app.screen.plan is not None)
        await pilot.pause()
        for selector in ("TitleBar", "#picture", "#panes", "KeyBar"):
            assert text_of(app, selector).isascii(), text_of(app, selector)


async def test_help_and_theme(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        dark = app.current_theme.dark
        await pilot.press("T")
        assert app.current_theme.dark is not dark
        footer = app.screen.query_one(KeyBar)
        assert "Commit" in footer.render_line(0).text
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "Commit: Merge this image" in text_of(app, "#help")
        assert not footer.render_line(0).text.strip(), "the dialog has the keyboard"
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)
        await until(pilot, lambda: "Commit" in text_of(app, "KeyBar"))


async def test_the_help_tells_every_word_on_the_boxes(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path, size=(120, 90)) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        words = words_of(app, "#help")
        for word in (*Badge, *Mark):
            assert f"{word} {word.meaning}" in words
        assert "◉ IN USE Another process" in words
        assert "T top The uppermost image" in words
    for glyphs in (UNICODE, ASCII):
        assert set(glyphs.signs) == set(Badge)
        lost = {glyphs.signs[b] for b in (Badge.INVALID, Badge.DELETED, Badge.MISSING, Badge.UNREADABLE)}
        assert len(lost) == 4
        assert "?" not in glyphs.signs.values(), "it stands for letters that ASCII has not"


async def test_what_breaks_is_lit(tmp_path: Path) -> None:
    branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Golden")
        await pilot.press("i")
        diagram = picture(app).diagram
        assert diagram is not None
        assert diagram.blast
        await pilot.press("i")
        assert not diagram.blast


async def test_reload_sees_a_new_overlay(tmp_path: Path) -> None:
    paths = branches(tmp_path)
    async with running(tmp_path) as (app, pilot):
        qemu.create(tmp_path / "New.qcow2", MIB, backing=paths["Web"])
        await pilot.press("f5")
        await until(pilot, lambda: picture(app).graph is not None and len(picture(app).graph or ()) == 4)
        await pilot.pause()
        assert "New" in text_of(app, "#picture")


async def test_an_image_is_found_by_a_part_of_its_name(tmp_path: Path) -> None:
    figure(tmp_path)
    (tmp_path / "old").mkdir()
    qemu.create(tmp_path / "old" / "Mail.qcow2", MIB)
    async with running(tmp_path) as (app, pilot):
        await pilot.press("slash")
        await pilot.press(*"old mai")
        await pilot.press("enter")
        assert label(app) == "Mail"
        await pilot.press("slash", *"snap-1", "escape")
        assert label(app) == "Mail", "nothing was chosen"
        await pilot.press("slash", *"snap-1", "enter", "right")
        assert label(app) == "Snap-2", "the diagram has the keyboard"
