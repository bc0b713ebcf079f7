"""Advice on getting rid of an image, and suggestions for links that lead nowhere or are badly recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.advice import Way, advise, recommended
from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.jobs import Job
from backchain.operations import Snapshot
from backchain.planning import make_plan
from backchain.repair import suggestions

from . import qemu
from .images import chain_of, overlay
from .planned import node

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.advice import Advice
    from backchain.plan import Plan
    from backchain.repair import Suggestion


def ways(folder: Path, image: Path) -> dict[Way, Advice]:
    graph = discover([folder])
    found = advise(graph, node(graph, image))
    assert [a.way for a in found] == list(Way)
    return {a.way: a for a in found}


def run(plan: Plan, *forced: str) -> None:
    BuiltinEngine().run(plan, Job(plan), frozenset(forced))


def test_the_prices_are_those_of_the_plans(tmp_path: Path) -> None:
    _, one, two, three = chain_of(tmp_path, "root", "one", "two", "three", size=8 << 20)
    qemu.io(one, "write -q -P 1 0 4M")
    qemu.io(two, "write -q -P 2 1M 1M")
    found = ways(tmp_path, two)
    assert [(a.clusters, a.bytes) for a in found.values()] == [(16, 1 << 20), (16, 1 << 20), (64, 4 << 20)]
    assert found[Way.DOWN].invalidated
    assert not found[Way.UP].invalidated
    best = recommended(tuple(found.values()))
    assert best is not None
    assert best.way is Way.UP  # costs the same as down, and nothing becomes invalid
    view = qemu.view(three)
    for plan in best.plans:
        run(plan)
    two.unlink()
    assert qemu.view(three) == view


def test_down_is_refused_where_siblings_stand_and_up_is_offered(tmp_path: Path) -> None:
    _, one, two = chain_of(tmp_path, "root", "one", "two")
    chain_of(tmp_path, "root", "sibling")
    qemu.io(one, "write -q -P 1 0 128k")
    found = ways(tmp_path, one)
    assert [h.code for h in found[Way.DOWN].blocked] == ["sibling-corruption"]
    assert not found[Way.DOWN].possible
    best = recommended(tuple(found.values()))
    assert best is found[Way.UP]
    assert two.exists()


def test_two_overlays_are_two_plans(tmp_path: Path) -> None:
    _, one, _ = chain_of(tmp_path, "root", "one", "two")
    chain_of(tmp_path, "one", "other")
    qemu.io(one, "write -q -P 1 0 64k")
    found = ways(tmp_path, one)
    assert [len(a.plans) for a in found.values()] == [1, 2, 2]
    assert found[Way.UP].clusters == 2


def test_ways_that_do_not_exist_say_why(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    base, leaf = ways(tmp_path, root), ways(tmp_path, one)
    assert "is a base" in base[Way.DOWN].reason
    assert "is a base" in base[Way.UP].reason
    assert base[Way.FLATTEN].possible
    assert "simply be deleted" in leaf[Way.UP].reason
    assert leaf[Way.DOWN].possible


# --- repair -----------------------------------------------------------------------------------------------------------


def suggested(image: Path, *folders: Path) -> tuple[Suggestion, ...]:
    graph = discover([image])
    return suggestions(graph, node(graph, image), folders)


def test_a_base_that_was_moved_is_found_by_what_its_overlay_remembers(tmp_path: Path) -> None:
    (root, decoy) = (chain_of(tmp_path, n, size=8 << 20)[0] for n in ("root", "decoy"))
    qemu.io(root, "write -q -P 1 0 4M")
    qemu.io(decoy, "write -q -P 2 0 4M")
    top = tmp_path / "top.qcow2"
    graph = discover([tmp_path])
    run(make_plan(graph, Snapshot(node(graph, root), top)))
    qemu.io(top, "write -q -P 3 1M 64k")
    view = qemu.view(top)
    away = tmp_path / "away"
    away.mkdir()
    root.rename(away / "renamed.qcow2")
    found = suggested(top, away)
    assert [s.graph[s.operation.backing or s.operation.image].label for s in found] == ["renamed"]
    assert found[0].certain
    run(make_plan(found[0].graph, found[0].operation), "unsafe-rebase", "untrusted-link")
    assert qemu.info(top)["backing-filename"] == "away/renamed.qcow2"
    assert qemu.view(top) == view


def test_without_a_memory_name_size_and_format_speak(tmp_path: Path) -> None:
    root, top = chain_of(tmp_path, "root", "top", size=8 << 20)
    chain_of(tmp_path, "same-size", size=8 << 20)
    chain_of(tmp_path, "other-size", size=4 << 20)
    (tmp_path / "raw.img").write_bytes(bytes(8 << 20))
    away = tmp_path / "away"
    away.mkdir()
    root.rename(away / "root.qcow2")
    found = suggested(top)
    labels = [s.graph[s.operation.backing or s.operation.image].path.stem for s in found]
    assert labels == ["root", "same-size"]
    assert [(s.certain, s.likely) for s in found] == [(False, True), (False, False)]
    assert "as the lost base was" in found[0].reason
    assert found[1].reason == "it has the same format and virtual size, which says little"


def test_an_image_of_the_lost_name_that_does_not_hold_what_is_remembered_is_only_possible(tmp_path: Path) -> None:
    (root,) = chain_of(tmp_path, "root", size=8 << 20)
    qemu.io(root, "write -q -P 1 0 64k")
    top = tmp_path / "top.qcow2"
    graph = discover([tmp_path])
    run(make_plan(graph, Snapshot(node(graph, root), top)))
    away = tmp_path / "away"
    away.mkdir()
    root.rename(away / "kept.qcow2")
    qemu.create(away / "root.qcow2", 8 << 20)
    kept, named = suggested(top)
    assert (kept.certain, kept.likely) == (True, True)
    assert (named.certain, named.likely) == (False, False)
    assert "does not hold what top.qcow2 remembers of it" in named.reason


def test_no_dependent_is_suggested_as_base(tmp_path: Path) -> None:
    root, one, _ = chain_of(tmp_path, "root", "one", "two")
    root.unlink()
    assert suggested(one) == ()


def test_nothing_that_hangs_on_the_lost_file_is_suggested(tmp_path: Path) -> None:
    base, one, *_ = chain_of(tmp_path, "base", "one", "above-one")
    chain_of(tmp_path, "base", "two", "above-two")
    chain_of(tmp_path, "base", "three")
    chain_of(tmp_path, "stranger", "strange-overlay")
    away = tmp_path / "away"
    away.mkdir()
    base.rename(away / "base.qcow2")
    labels = [s.graph[s.operation.backing or s.operation.image].path.stem for s in suggested(one)]
    assert (labels[0], set(labels[1:])) == ("base", {"stranger", "strange-overlay"})


def test_what_hangs_on_another_lost_file_is_suggested_and_waits_for_its_own_repair(tmp_path: Path) -> None:
    root, mid, top = chain_of(tmp_path, "root", "mid", "top")
    away = tmp_path / "away"
    away.mkdir()
    mid.rename(away / "mid.qcow2")
    root.unlink()
    (found,) = suggested(top)
    assert found.graph[found.operation.backing or found.operation.image].path.stem == "mid"
    assert [h.code for h in make_plan(found.graph, found.operation).stopping()] == ["missing-backing"]


def test_a_missing_format_is_suggested(tmp_path: Path) -> None:
    chain_of(tmp_path, "root")
    absent = overlay(tmp_path / "absent.qcow2", "root.qcow2", None)
    (found,) = suggested(absent)
    assert (found.operation.backing_format, found.certain) == ("qcow2", True)
    run(make_plan(found.graph, found.operation))
    assert qemu.info(absent)["backing-filename-format"] == "qcow2"
    assert suggested(absent) == ()


def test_a_fragile_name_is_rewritten(tmp_path: Path) -> None:
    chain_of(tmp_path, "root")
    name = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{tmp_path}/root.qcow2"}}}}'
    top = overlay(tmp_path / "top.qcow2", name, "qcow2")
    (found,) = suggested(top)
    run(make_plan(found.graph, found.operation))
    assert qemu.info(top)["backing-filename"] == "root.qcow2"


def test_a_sound_link_needs_no_repair(tmp_path: Path) -> None:
    root, top = chain_of(tmp_path, "root", "top")
    assert suggested(top) == ()
    assert suggested(root) == ()
