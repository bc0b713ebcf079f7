"""A plan in words: what was looked at for it, and that it hands out no command that does the harm it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.discover import discover
from backchain.operations import Commit, Delete, Pull
from backchain.planning import make_plan
from backchain_tui import plan_words
from backchain_tui.plan_text import plan_text
from tests.core import qemu
from tests.core.images import chain_of
from tests.core.planned import node

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.plan import Plan


def commit(top: Path, base: Path, *scan: Path) -> Plan:
    graph = discover([top], scan=scan)
    return make_plan(graph, Commit(node(graph, base), node(graph, top)))


def test_it_is_said_where_overlays_were_looked_for(tmp_path: Path) -> None:
    """One that lies elsewhere may be harmed, and nobody knows of it."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    base, top = chain_of(mine, "base", "top")
    plan = commit(top, base)
    assert plan_words.hazard_heading(plan).text == "No hazards found in mine; Enter runs it."
    assert f"searched  {mine}; overlays elsewhere are not known" in plan_text(plan)
    (mine / "below").mkdir()
    plan = commit(top, base, other, mine / "below")
    assert plan_words.searched(plan) == [mine, other]
    assert plan_words.hazard_heading(plan).text == "No hazards found in 2 folders; Enter runs it."
    graph = discover([top])
    assert "searched" not in plan_text(make_plan(graph, Pull(node(graph, top), None))), "a pull harms nobody"


def test_a_refused_plan_hands_out_no_commands(tmp_path: Path) -> None:
    base, top = chain_of(tmp_path, "base", "top")
    assert "qemu-img commit" in plan_text(commit(top, base))
    with qemu.held_open(top):
        held = commit(top, base)
    assert {h.code for h in held.stopping()} == {"in-use"}
    assert "virsh blockcommit" in plan_text(held), "a running machine's own block job is the way"
    for n in range(30):
        qemu.create(tmp_path / f"sibling-{n}.qcow2", None, backing=base)
    refused = commit(top, base)
    assert "qemu-img" not in plan_text(refused).replace("other tools", "")
    assert plan_words.NO_COMMANDS in plan_text(refused)
    assert refused.commands, "the document has them for whoever knows what he does"
    assert str(refused.refusal()).endswith("(and 29 more: 29 times sibling-corruption)")


def test_what_other_tools_leave_otherwise_is_said(tmp_path: Path) -> None:
    base, one, two = chain_of(tmp_path, "base", "one", "two")
    for path in (one, two):
        qemu.io(path, "write -q -P 1 0 64k")
    note = "After virsh and QMP the machine runs on base, and two is not used any more."
    assert plan_words.commands_note(commit(two, one)) == note.replace("base", "one")
    assert plan_words.commands_note(commit(two, base)) == f"qemu-img leaves two as it is, not emptied. {note}"
    assert note in " ".join(plan_text(commit(two, base)).split())
    assert plan_words.commands_note(commit(one, base)) == "", "it has an overlay: all do the same"
    qemu.run("qemu-img", "commit", "-q", "-f", "qcow2", "-b", base, two)
    assert any(e["depth"] == 0 and e["data"] for e in qemu.map_json(two)), "not emptied"


def test_what_is_removed_is_named_each(tmp_path: Path) -> None:
    paths = chain_of(tmp_path, *(f"n{number}" for number in range(8)))
    graph = discover([tmp_path])
    text = " ".join(plan_text(make_plan(graph, Delete(tuple(node(graph, p) for p in paths[3:])))).split())
    assert "Removes n3, n4, n5, n6 and n7, files and all. What n7 holds may be a machine's disk" in text
    text = " ".join(plan_text(commit(paths[6], paths[0])).split())
    assert "invalid n1, n2, n3, n4, n5 and n6" in text


def test_virsh_pulls_into_a_machines_disk_alone(tmp_path: Path) -> None:
    _, middle, top = chain_of(tmp_path, "base", "middle", "top")
    graph = discover([tmp_path])
    tools = [{tool for tool, _ in make_plan(graph, Pull(node(graph, p), None)).commands} for p in (middle, top)]
    assert tools == [{"qemu-img", "qmp"}, {"qemu-img", "qmp", "virsh"}]
