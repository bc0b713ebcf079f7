"""Where the cursor and the window are at first, and where the window goes when the cursor goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.geometry import Offset, Size

from backchain_tui.diagram.boxes import Rect
from backchain_tui.diagram.walk import window_on
from tests.core import qemu
from tests.tui.driving import MIB, label, picture, put_cursor, running, text_of, until

if TYPE_CHECKING:
    from pathlib import Path


def chain(folder: Path, name: str, layers: int) -> None:
    """Make a chain of some layers, called name-0, name-1 and so on."""
    backing = None
    for number in range(layers):
        path = folder / f"{name}-{number}.qcow2"
        qemu.create(path, MIB, backing=backing)
        backing = path


async def test_the_first_window_begins_at_the_left_though_a_chain_is_longer(tmp_path: Path) -> None:
    chain(tmp_path, "long", 12)
    chain(tmp_path, "mail", 2)
    chain(tmp_path, "web", 3)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        assert label(app) == "web-2"
        diagram = picture(app).diagram
        assert diagram is not None
        await until(pilot, lambda: "web-2" in text_of(app, "ChainDiagram"))
        assert diagram.scroll_offset == Offset(0, 0)
        assert {"long-0", "mail-0", "web-0"} <= set(text_of(app, "ChainDiagram").split())
        await put_cursor(app, pilot, "long-11")
        assert diagram.scroll_offset.x > 0
        await put_cursor(app, pilot, "mail-1")
        assert diagram.scroll_offset.x == 0, "no more of the bases is cut off than need be"


async def test_where_all_is_one_long_chain_its_active_layer_is_shown(tmp_path: Path) -> None:
    chain(tmp_path, "long", 12)
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        assert label(app) == "long-11"
        await until(pilot, lambda: "long-11" in text_of(app, "ChainDiagram"))


@pytest.mark.parametrize(
    ("box", "now", "then"),
    [
        (Rect(60, 0, 20, 3), 100, 56),  # back, and no further than to the box
        (Rect(26, 0, 20, 3), 100, 0),  # back to the left edge, which shows the box as well
        (Rect(26, 0, 20, 3), 10, 10),  # it is in sight
        (Rect(90, 0, 20, 3), 0, 64),  # on, until it is in sight
    ],
)
def test_a_window_that_goes_back_goes_all_the_way_if_that_will_do(box: Rect, now: int, then: int) -> None:
    assert window_on(box, Size(50, 20), Offset(now, 0)) == (then, 0)


async def test_the_cursor_stays_beside_an_image_that_is_gone(tmp_path: Path) -> None:
    chain(tmp_path, "long", 5)
    chain(tmp_path, "web", 3)
    async with running(tmp_path) as (app, pilot):
        await put_cursor(app, pilot, "web-2")
        (tmp_path / "web-2.qcow2").unlink()
        await pilot.press("f5")
        await until(pilot, lambda: label(app) != "web-2")
        assert label(app) == "web-1"
        await put_cursor(app, pilot, "web-0")
        qemu.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", tmp_path / "web-1.qcow2")
        (tmp_path / "web-0.qcow2").unlink()
        await pilot.press("f5")
        await until(pilot, lambda: len(picture(app).graph or ()) == 6)
        assert label(app) == "web-1"
