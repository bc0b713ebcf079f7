"""What nobody knows is not said: chains that cannot be read, and images whose header is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.core import qemu
from tests.tui.driving import MIB, figure, planned, put_cursor, running, text_of, until, words_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_there_is_no_map_of_a_chain_with_a_missing_layer(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    paths["Snap-2"].unlink()
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "Snap-4")
        await pilot.press("2")
        await until(pilot, lambda: "No map: Snap-2 is missing." in words_of(app, "#map"))
        await pilot.press("m")
        await until(pilot, lambda: "unallocated" in words_of(app, "#map"))
        await pilot.press("m")
        await until(pilot, lambda: "No map: Snap-2 is missing." in words_of(app, "#map"))
        await put_cursor(app, pilot, "Snap-1")
        await until(pilot, lambda: "Chain of Snap-1" in words_of(app, "#map"))


async def test_there_is_no_map_of_a_loop(tmp_path: Path) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    qemu.create(two, MIB)
    qemu.create(one, MIB, backing=two)
    qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", one.name, two, cwd=tmp_path)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "one")
        await pilot.press("2")
        await until(pilot, lambda: "is part of a loop." in words_of(app, "#map"))
        for key in ("c", "p"):
            await pilot.press(key)
            await planned(app, pilot)
            assert "cannot be counted" in text_of(app, "#picture"), key
            assert "nothing to copy" not in text_of(app, "#picture"), key
            assert "copies cannot be counted" in words_of(app, "#plan"), key
            await pilot.press("escape")


async def test_what_backs_a_damaged_image_is_not_known(tmp_path: Path) -> None:
    paths = figure(tmp_path)
    with paths["Snap-2"].open("r+b") as file:  # its version number
        file.seek(4)
        file.write(b"\xff" * 4)
    paths["RootBase"].unlink()
    async with running(tmp_path) as (app, pilot):
        for name, state in (("Snap-2", "cannot be read"), ("RootBase", "missing")):
            await put_cursor(app, pilot, name)
            words = words_of(app, "#details")
            assert f"{name}.qcow2 · {state}" in words
            assert "backing not known" in words
            assert "stands alone" not in words
            assert "base" not in words.replace("RootBase", "")
        await pilot.press("question_mark")
        assert "Under the cursor: RootBase, missing." in words_of(app, "#help-rows")
        await pilot.press("escape")
        await put_cursor(app, pilot, "Snap-1")
        assert "backing RootBase.qcow2 (qcow2)" in words_of(app, "#details")
