"""The legend of the cluster map: the names of long chains, told apart, the base among them, and how many more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from backchain.jobs import Cell
from backchain.plan import CopyList
from backchain_tui.jobgrid import JobGrid
from backchain_tui.mapgrid import DiskMap, Kind
from backchain_tui.mapview import SHARES, MapView
from backchain_tui.session import read_map
from backchain_tui.widgets.map_legend import Legend, legend
from backchain_tui.widgets.map_words import shorten_middle
from tests.core import qemu
from tests.core.images import backed
from tests.tui.driving import MIB, figure, planned, running, text_of, until

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = 1 << 16


def layered(folder: Path, count: int, *, most: int) -> DiskMap:
    """Map a chain of `count` layers: each provides a cluster of its own, and `most` provides ten."""
    backing = None
    for number in range(count):
        path = folder / f"layer{number:02}.qcow2"
        qemu.create(path, 4 * MIB, backing=backing)
        size = 10 if number == most else 1
        qemu.io(path, f"write -P 1 {(number if number != most else 50) * 64}k {size * 64}k")
        backing = path
    assert backing is not None
    return read_map(backed(backing), own=False, size=None, started=lambda _: True)


def shown(view: MapView, names: list[str], width: int, *, ascii_only: bool = False) -> Legend:
    view.resize(width, 8, doubled=True)
    view.compute()
    found = legend(view, names, width, ascii_only=ascii_only)
    assert found.width <= width
    return found


def layers_of(found: Legend) -> list[str]:
    return [e.name for e in found.entries if e.look is not None and e.look // SHARES >= Kind.LAYER]


@pytest.mark.parametrize("width", [40, 58, 98, 118, 198])
def test_the_layers_that_provide_most_and_the_base_are_named(tmp_path: Path, width: int) -> None:
    view = MapView(layered(tmp_path, 25, most=12))
    names = [f"layer{n:02}" for n in reversed(range(25))]
    found = shown(view, names, width)
    named = layers_of(found)
    assert named[-1] == "layer00"
    assert "layer12" in named
    assert found.entries[-1].name == f"+{25 - len(named)} more"
    assert len(named) >= (width - len("█ empty  +23 more")) // len("█ layer00  ")
    assert named == sorted(named, reverse=True)


def test_what_is_zoomed_in_on_decides(tmp_path: Path) -> None:
    view = MapView(layered(tmp_path, 25, most=12))
    names = [f"layer{n:02}" for n in reversed(range(25))]
    view.resize(8, 1, doubled=False)
    view.zoom(3)
    view.place_cursor(20)
    view.compute()
    there = {f"layer{n:02}" for n in range(view.first // CLUSTER, view.first // CLUSTER + 8)}
    assert view.zoomed
    assert "layer20" in there
    named = layers_of(legend(view, names, 98, ascii_only=False))
    assert set(named) > {"layer20"}
    assert set(named[:-1]) <= there | {"layer12"}


def test_names_are_cut_so_that_they_still_differ(tmp_path: Path) -> None:
    view = MapView(layered(tmp_path, 6, most=2))
    names = [f"a-machine-of-the-accounts-department-{n}-before-the-update" for n in reversed(range(6))]
    named = layers_of(shown(view, names, 198))
    assert len(set(named)) == len(named) >= 2
    ends = [f"a-machine-of-the-accounts-department-{n}" for n in reversed(range(6))]
    named = layers_of(shown(view, ends, 98))
    assert len(named) == 6
    assert [n[-2:] for n in named] == [f"-{n}" for n in reversed(range(6))]


def test_a_few_short_names_stand_in_full(tmp_path: Path) -> None:
    found = shown(MapView(layered(tmp_path, 3, most=0)), ["top", "a-middle-of-its-own", "base"], 98)
    assert layers_of(found) == ["top", "a-middle-of-its-own", "base"]
    assert (found.gap, found.entries[-1].name) == (2, "base")


def test_of_a_job_what_is_on_the_screen_is_named(tmp_path: Path) -> None:
    disk = layered(tmp_path, 3, most=0)
    copies = CopyList(CLUSTER, np.array([0], np.int64), np.array([8], np.int64))
    cells = np.zeros(8, np.uint8)
    view = MapView(disk, job=JobGrid(copies, cells))
    works = [e.name for e in shown(view, ["c", "b", "a"], 98).entries][:2]
    assert works == ["waiting", "empty"]
    cells[:3] = Cell.DONE  # between two copies of a job that runs: the legend does not flicker
    view = MapView(disk, job=JobGrid(copies, cells))
    works = [e.name for e in shown(view, ["c", "b", "a"], 98).entries][:4]
    assert works == ["waiting", "copying", "done", "empty"]


@pytest.mark.parametrize("width", [1, 5, 12, 20])
def test_even_the_smallest_line_is_filled_from_the_base(tmp_path: Path, width: int) -> None:
    view = MapView(layered(tmp_path, 25, most=12))
    view.resize(width, 8, doubled=True)
    view.compute()
    found = legend(view, [f"layer{n:02}" for n in reversed(range(25))], width, ascii_only=True)
    assert "layer00" in layers_of(found)


def test_a_name_is_cut_in_its_middle_by_columns() -> None:
    assert shorten_middle("RootBase", 8, ascii_only=False) == "RootBase"
    assert shorten_middle("layer-of-monday", 8, ascii_only=True) == "laye~day"
    assert shorten_middle("日本語のイメージ", 8, ascii_only=False) == "日本…ジ"
    assert shorten_middle("name", 1, ascii_only=False) == "…"


async def test_the_base_is_named_below_the_map_of_the_figure(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path, size=(120, 40), ascii_only=True) as (app, pilot):
        await pilot.press("c")
        screen = await planned(app, pilot)
        await pilot.press("2", "m")
        await until(pilot, lambda: screen.map.view is not None and not screen.map.view.disk.own)
        await pilot.pause()
        last = text_of(app, "#map").splitlines()[-2]
        assert "waiting" in last
        assert "RootBase" in last
        assert "Snap-1" in last
