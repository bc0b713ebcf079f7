"""Names stand in the order in which people count, wherever images are listed or drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.discover import discover
from backchain.image import ImageId
from backchain.sorting import natural
from backchain_tui.diagram.figure import Stage
from backchain_tui.diagram.layout import Zoom, place
from backchain_tui.diagram.staging import figure
from backchain_tui.forest_text import forest_text
from tests.core import qemu
from tests.tui import builders

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = (1, 2, 9, 10, 11, 100)


def test_numbers_in_names_count() -> None:
    names = [f"disk{n}.qcow2" for n in NUMBERS]
    assert sorted(sorted(names), key=natural) == names
    texts = ["web-10", "web-2", "10", "web", "2", "web-²", "web-2b"]
    assert sorted(texts, key=natural) == ["2", "10", "web", "web-2", "web-2b", "web-10", "web-²"]
    assert sorted(["b", "a10b2", "a10b10", "a", "1"], key=natural) == ["1", "a", "a10b2", "a10b10", "b"]


def test_siblings_and_trees_stand_as_people_count(tmp_path: Path) -> None:
    base = tmp_path / "base.qcow2"
    qemu.create(base, 1 << 20)
    for number in NUMBERS:
        qemu.create(tmp_path / f"disk{number}.qcow2", 1 << 20, backing=base)
        qemu.create(tmp_path / f"lone{number}.qcow2", 1 << 20)
    graph = discover([tmp_path])
    wanted = [f"disk{n}" for n in NUMBERS]
    root = next(i for i in graph if graph[i].label == "base")
    assert [graph[i].label for i in graph.overlays_of(root)] == wanted
    drawn = [graph[i].label for i in place(graph).images]
    listed = [line.split()[1 if line[0] in "├└" else 0] for line in forest_text(graph).splitlines()[2:]]
    for labels in (drawn, [name.removesuffix(".qcow2") for name in listed]):
        assert [name for name in labels if name.startswith("disk")] == wanted
        assert [name for name in labels if name.startswith("lone")] == [f"lone{n}" for n in NUMBERS]


def test_siblings_have_one_order_before_and_after() -> None:
    links: dict[str, str | None] = {"Golden": None, "Top": "Golden"} | {f"Web-{n}": "Golden" for n in (1, 9, 10)}
    plan = builders.pull(builders.forest(links), "Top", None)
    drawn = figure(plan, Zoom.AUTO, 120, 40, 8)
    for stage in Stage:
        pills = [p for p in drawn.boxes if p.stage is stage and p.images[0].startswith("Web")]
        order = [p.images[0] for p in sorted(pills, key=lambda p: p.rect.y)]
        assert order == [ImageId("Web-1"), ImageId("Web-9"), ImageId("Web-10")], stage
