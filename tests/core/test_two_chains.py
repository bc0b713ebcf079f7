"""One image under several paths: its relative link leads QEMU elsewhere by each, so that it has several chains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backchain.discover import discover
from backchain.errors import StalePlanError, UsageError
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.plan import Hazard, Severity
from backchain.planning import make_plan

from . import qemu
from .images import chain_of
from .planned import codes, hazard, node, refused, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.operations import Operation


@dataclass(frozen=True)
class Folders:
    """Two folders, each with a base of its own; mid lies in the first and is called link in the second."""

    real: Path
    sub: Path

    @property
    def views(self) -> tuple[bytes, bytes]:
        """What QEMU reads through the overlays of both names."""
        return qemu.view(self.real / "top.qcow2"), qemu.view(self.sub / "o.qcow2")


@pytest.fixture(params=["symlink", "hard link"])
def folders(tmp_path: Path, request: pytest.FixtureRequest) -> Folders:
    real, sub = tmp_path / "real", tmp_path / "sub"
    for folder, value in ((real, 1), (sub, 9)):
        folder.mkdir()
        (base,) = chain_of(folder, "base")
        qemu.io(base, f"write -q -P {value} 0 64k")
    _, mid, _ = chain_of(real, "base", "mid", "top")
    link = sub / "link.qcow2"
    if request.param == "symlink":
        link.symlink_to("../real/mid.qcow2")
    else:
        link.hardlink_to(mid)
    qemu.create(sub / "o.qcow2", None, backing=link)
    found = Folders(real, sub)
    assert [view[0] for view in found.views] == [1, 9]
    return found


def refusal(graph: ChainGraph, operation: Operation, code: str) -> Hazard:
    """Make sure that an operation is refused and writes nothing; give the hazard that says why."""
    plan = make_plan(graph, operation)
    found = hazard(plan, code)
    assert found.severity is Severity.BLOCK
    refused(plan)
    return found


@pytest.mark.parametrize("first", ["real", "sub"])
@pytest.mark.parametrize("verb", ["pull", "commit", "rebase", "link", "snapshot", "delete"])
def test_an_image_with_two_chains_is_not_worked_on_by_either_name(folders: Folders, first: str, verb: str) -> None:
    name, other = folders.real / "mid.qcow2", folders.sub
    if first == "sub":
        name, other = folders.sub / "link.qcow2", folders.real
    graph = discover([name], scan=[other])
    image = node(graph, name)
    operations: dict[str, Operation] = {
        "pull": Pull(image, None),
        "commit": Commit(graph.chain(image)[1], image),
        "rebase": Rebase(image, None),
        "link": Rebase(image, None, unsafe=True),
        "snapshot": Snapshot(image, name.with_name("new.qcow2")),
        "delete": Delete((image,)),
    }
    if verb == "delete" and name.is_symlink():
        with pytest.raises(UsageError, match="is a symlink"):
            make_plan(graph, operations[verb])
        return
    found = refusal(graph, operations[verb], "path-trap")
    for folder, alias in ((folders.real, "mid.qcow2"), (folders.sub, "link.qcow2")):
        assert f"{folder / alias} is backed by {folder / 'base.qcow2'}" in found.message


def test_nothing_is_read_through_such_an_image(folders: Folders) -> None:
    graph = discover([folders.real, folders.sub])
    for overlay in (folders.real / "top.qcow2", folders.sub / "o.qcow2"):
        refusal(graph, Pull(node(graph, overlay), None), "path-trap")
        refusal(graph, Snapshot(node(graph, overlay), overlay.with_name("new.qcow2")), "path-trap")
    (stranger,) = chain_of(folders.sub, "stranger")
    graph = discover([folders.real, folders.sub, stranger])
    refusal(graph, Rebase(node(graph, stranger), node(graph, folders.real / "top.qcow2")), "path-trap")


@pytest.mark.parametrize("first", ["real", "sub"])
def test_both_backing_files_are_needed(folders: Folders, first: str) -> None:
    for base, other in ((folders.real, folders.sub), (folders.sub, folders.real)):
        given = [base / "base.qcow2"] if first == "real" else [other, base / "base.qcow2"]
        graph = discover(given, scan=[other])
        refusal(graph, Delete((node(graph, base / "base.qcow2"),)), "needed-file")


def test_neither_backing_file_is_changed(folders: Folders) -> None:
    for base in (folders.real, folders.sub):
        qemu.create(base / "p.qcow2", None, backing=base / "base.qcow2")
        graph = discover([folders.real, folders.sub])
        image, into = node(graph, base / "p.qcow2"), node(graph, base / "base.qcow2")
        refusal(graph, Commit(into, image), "path-trap")
        assert codes(make_plan(graph, Pull(image, None))) == set(), "what the others read does not matter to it"


def test_a_second_name_that_appears_after_the_plan(folders: Folders) -> None:
    link, views = folders.sub / "link.qcow2", folders.views
    aside = link.rename(folders.sub.parent / "aside")
    overlay = (folders.sub / "o.qcow2").rename(folders.sub.parent / "o-aside")
    graph = discover([folders.real / "mid.qcow2"], scan=[folders.sub])
    plan = make_plan(graph, Pull(node(graph, folders.real / "mid.qcow2"), None))
    assert not plan.stopping()
    aside.rename(link)
    with pytest.raises(StalePlanError, match="second name"):
        run(plan)
    overlay.rename(folders.sub / "o.qcow2")
    assert folders.views == views


def test_a_name_from_which_the_link_leads_nowhere(folders: Folders) -> None:
    """No machine can use the image by that name, which may be there for convenience alone."""
    (folders.sub / "base.qcow2").unlink()
    graph = discover([folders.real / "mid.qcow2"], scan=[folders.sub])
    plan = make_plan(graph, Pull(node(graph, folders.real / "mid.qcow2"), None))
    assert not plan.stopping()
    found = hazard(plan, "path-trap")
    assert found.severity is Severity.WARN
    assert f"{folders.sub / 'base.qcow2'} (missing)" in found.message
    graph = discover([folders.sub / "link.qcow2"], scan=[folders.real])
    refusal(graph, Pull(node(graph, folders.sub / "link.qcow2"), None), "missing-backing")
    refusal(graph, Delete((node(graph, folders.real / "base.qcow2"),)), "needed-file")


def test_the_data_behind_either_name_survives_what_the_message_advises(folders: Folders) -> None:
    views = folders.views
    qemu.run("qemu-img", "rebase", "-b", "", folders.sub / "o.qcow2")
    (folders.sub / "link.qcow2").unlink()
    graph = discover([folders.real / "mid.qcow2"], scan=[folders.sub])
    plan = make_plan(graph, Pull(node(graph, folders.real / "mid.qcow2"), None))
    assert codes(plan) == set()
    run(plan)
    assert folders.views == views


def _beside(folder: Path) -> None:
    (folder / "also.qcow2").symlink_to("mid.qcow2")


def _hard_beside(folder: Path) -> None:
    (folder / "also.qcow2").hardlink_to(folder / "mid.qcow2")


def _by_folder(folder: Path) -> None:
    (folder.parent / "other").symlink_to(folder)
    qemu.create(folder / "o.qcow2", None, backing=str(folder.parent / "other" / "mid.qcow2"))


def _absolute(folder: Path) -> None:
    qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", folder / "base.qcow2", folder / "mid.qcow2")
    (folder.parent / "also.qcow2").symlink_to(folder / "mid.qcow2")


def _linked_base(folder: Path) -> None:
    (folder.parent / "base.qcow2").symlink_to(folder / "base.qcow2")
    (folder.parent / "also.qcow2").symlink_to(folder / "mid.qcow2")


@pytest.mark.parametrize("name", [_beside, _hard_beside, _by_folder, _absolute, _linked_base])
def test_names_that_lead_to_the_same_file_are_one_chain(tmp_path: Path, name: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    base, mid, top = chain_of(folder, "base", "mid", "top")
    qemu.io(base, "write -q -P 1 0 64k")
    name(folder)
    graph = discover([mid], scan=[tmp_path])
    assert len(graph) == 3 + os.path.lexists(folder / "o.qcow2")
    view = qemu.view(top)
    plan = make_plan(graph, Pull(node(graph, mid), None))
    assert codes(plan) == set()
    run(plan)
    assert qemu.view(top) == view


def test_two_names_that_lead_to_one_another_end_the_walk(tmp_path: Path) -> None:
    """By its second name the image is backed by itself, by its third by its own overlay."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    base, mid, top = chain_of(home, "base", "mid", "top")
    (away / "base.qcow2").symlink_to(mid)
    (away / "mid.qcow2").symlink_to(mid)
    (tmp_path / "base.qcow2").symlink_to(top)
    (tmp_path / "mid.qcow2").symlink_to(mid)
    graph = discover([mid], scan=[tmp_path])
    assert {i.path.resolve() for i in graph.images.values()} == {base, mid, top}
    assert len(graph.surroundings.forked[node(graph, mid)]) == 3
    assert "and 1 more" in refusal(graph, Pull(node(graph, mid), None), "path-trap").message


# --- names that are recorded anew -------------------------------------------------------------------------------------


def _reached_by_a_symlink(folder: Path) -> tuple[Path, Path, Path]:
    """Make two images that stand alone, and an overlay in a folder of its own that reaches one by a symlink there."""
    base, mid = (chain_of(folder, name)[0] for name in ("base", "mid"))
    away = folder / "away"
    away.mkdir()
    (away / "mid.qcow2").symlink_to("../mid.qcow2")
    top = away / "top.qcow2"
    qemu.create(top, None, backing=away / "mid.qcow2")
    return base, mid, top


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_new_link_is_good_for_every_path_by_which_the_image_is_opened(tmp_path: Path, unsafe: bool) -> None:
    base, mid, top = _reached_by_a_symlink(tmp_path)
    view, graph = qemu.view(top), discover([tmp_path])
    run(make_plan(graph, Rebase(node(graph, mid), node(graph, base), unsafe)))
    assert [i["filename"] for i in qemu.backing_chain(top)][-1] == str(base)
    assert qemu.view(top) == view
    assert discover([tmp_path]).surroundings.forked == {}


def test_a_link_of_an_image_that_is_named_by_a_symlink_is_good_for_its_own_path(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (base,), (own,) = chain_of(tmp_path, "base"), chain_of(away, "own")
    (tmp_path / "link.qcow2").symlink_to(own)
    graph = discover([tmp_path / "link.qcow2", base])
    run(make_plan(graph, Rebase(node(graph, tmp_path / "link.qcow2"), node(graph, base), unsafe=True)))
    for path in (own, tmp_path / "link.qcow2"):
        assert qemu.backing_chain(path)[-1]["filename"] == str(base)


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to"])
def test_a_new_link_is_good_for_every_name_that_was_found(tmp_path: Path, make: str) -> None:
    """A machine may have any of them as its disk; one that cannot use a name that was asked for is told of."""
    away = tmp_path / "away"
    away.mkdir()
    base, own = (chain_of(tmp_path, name)[0] for name in ("base", "own"))
    disk = away / "disk.qcow2"
    getattr(disk, make)(own)
    graph = discover([tmp_path])
    image, below = node(graph, own), node(graph, base)
    asked = make_plan(graph, Rebase(image, below, unsafe=True, backing_name="base.qcow2"))
    assert hazard(asked, "path-trap").severity is Severity.WARN
    run(make_plan(graph, Rebase(image, below, unsafe=True)))
    for path in (own, disk):
        assert qemu.backing_chain(path)[-1]["filename"] == str(base)


def test_a_name_that_is_asked_for_must_lead_to_the_image_by_every_path(tmp_path: Path) -> None:
    base, mid, _ = _reached_by_a_symlink(tmp_path)
    graph = discover([tmp_path])
    image, below = node(graph, mid), node(graph, base)
    refusal(graph, Rebase(image, below, unsafe=True, backing_name="base.qcow2"), "path-trap")
    refusal(graph, Rebase(image, below, unsafe=True, backing_name="nowhere.qcow2"), "path-trap")
    assert codes(make_plan(graph, Rebase(image, below, unsafe=True, backing_name=str(base)))) == set()


def test_overlays_that_are_found_by_other_names_are_the_same(tmp_path: Path) -> None:
    """A search for the images of a plan meets one of them by a symlink first, which comes after the other one."""
    base, one = chain_of(tmp_path, "base", "a")
    chain_of(tmp_path, "base", "b")
    (tmp_path / "z.qcow2").symlink_to(one)
    top = tmp_path / "top.qcow2"
    qemu.create(top, None, backing=tmp_path / "z.qcow2")
    graph = discover([tmp_path])
    run(make_plan(graph, Pull(node(graph, top), None)))
    assert qemu.backing_chain(top) == qemu.backing_chain(top)[:1]
    assert base.exists()


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A folder in which top.qcow2 has lost its backing file: it lies in the other one, "real", beside mid and mid2."""
    real, away = tmp_path / "real", tmp_path / "away"
    for folder in (real, away):
        folder.mkdir()
    _, mid, top = chain_of(real, "base", "mid", "top")
    _, mid2 = chain_of(real, "mid", "mid2")
    qemu.io(mid, "write -q -P 2 0 64k")
    qemu.io(mid2, "write -q -P 3 64k 64k")
    (away / "top.qcow2").symlink_to(top)
    return away


@pytest.mark.parametrize("named", ["", "away/top.qcow2"])
def test_an_overlay_by_its_other_name_is_not_damaged(away: Path, named: str) -> None:
    """The search comes to the name first from which the link leads nowhere."""
    real = away.parent / "real"
    view = qemu.view(real / "top.qcow2")
    graph = discover([away.parent / named], scan=[real])
    mid, mid2 = (node(graph, real / name) for name in ("mid.qcow2", "mid2.qcow2"))
    refusal(graph, Commit(mid, mid2), "path-trap" if named else "sibling-corruption")
    assert qemu.view(real / "top.qcow2") == view


@pytest.mark.parametrize("first", ["real/mid.qcow2", "away"])
def test_an_overlay_is_relinked_by_whichever_name_it_is_found_first(away: Path, first: str) -> None:
    real = away.parent / "real"
    views = {name: qemu.view(real / name) for name in ("top.qcow2", "mid2.qcow2")}
    graph = discover([away.parent / first], scan=[away, real])
    run(make_plan(graph, Commit(node(graph, real / "base.qcow2"), node(graph, real / "mid.qcow2"))))
    for name, view in views.items():
        assert qemu.view(real / name) == view
        assert qemu.backing_chain(real / name)[1]["filename"] == str(real / "base.qcow2")
