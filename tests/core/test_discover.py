"""Discovery on real images: what is found, under which identity, and what is noted when it can't be looked at."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from backchain.chain import open_chain
from backchain.discover import discover
from backchain.errors import MalformedImageError, MissingImageError
from backchain.image import ImageState
from backchain.operations import Commit
from backchain.planning import make_plan

from . import qemu
from .images import chain_of, label_links, overlay, problems, states
from .planned import node
from .users import as_nobody, shared_folder

MIB = 1 << 20


def test_a_chain_is_found_from_any_of_its_images(tmp_path: Path) -> None:
    chain_of(tmp_path, "root", "s1", "s2", "s3")
    expected = {("s1", "root"), ("s2", "s1"), ("s3", "s2")}
    for name in ("root", "s1", "s2", "s3"):
        graph = discover([tmp_path / f"{name}.qcow2"])
        assert label_links(graph) == expected
        assert graph[next(iter(graph))].label == name
        assert graph.incomplete == ()


def test_a_file_brings_its_siblings_but_no_strangers(tmp_path: Path) -> None:
    chain_of(tmp_path, "golden", "web")
    chain_of(tmp_path, "golden", "db1", "db2")
    chain_of(tmp_path, "stranger", "guest")
    family = {("web", "golden"), ("db1", "golden"), ("db2", "db1")}
    assert label_links(discover([tmp_path / "web.qcow2"])) == family
    assert label_links(discover([tmp_path])) == {*family, ("guest", "stranger")}


def test_siblings_are_found_in_the_folders_of_the_whole_chain(tmp_path: Path) -> None:
    bases, mine, theirs, far = (tmp_path / n for n in ("bases", "mine", "bases/theirs", "far"))
    for folder in (bases, mine, theirs, far):
        folder.mkdir()
    qemu.create(bases / "base.qcow2", MIB)
    for folder in (mine, theirs, far):
        qemu.create(folder / f"{folder.name}.qcow2", None, backing=bases / "base.qcow2")
    assert label_links(discover([mine / "mine.qcow2"])) == {("mine", "base"), ("theirs", "base")}
    everywhere = discover([mine / "mine.qcow2"], scan=[far])
    assert label_links(everywhere) == {("mine", "base"), ("theirs", "base"), ("far", "base")}


def test_scanning_a_folder_adds_no_strangers(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    chain_of(one, "base", "top")
    chain_of(other, "stranger")
    assert label_links(discover([one / "top.qcow2"], scan=[other])) == {("top", "base")}
    assert len(discover([one], scan=[other])) == 2


def test_images_are_known_by_magic_or_as_raw_by_suffix(tmp_path: Path) -> None:
    qemu.create(tmp_path / "no-suffix-at-all", MIB)
    qemu.create(tmp_path / "disk.img", MIB)
    (tmp_path / "plain.raw").write_bytes(bytes(MIB))
    (tmp_path / "PLAIN.IMG").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("QFI is not enough")
    (tmp_path / "empty.qcow2").write_bytes(b"")
    found = {i.path.name: i.format for i in discover([tmp_path]).images.values()}
    assert found == {"no-suffix-at-all": "qcow2", "disk.img": "qcow2", "plain.raw": "raw", "PLAIN.IMG": "raw"}
    assert [i.format for i in discover([tmp_path / "notes.txt"]).images.values()] == ["raw"]


def test_one_file_under_two_names_is_one_image(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    os.link(tmp_path / "base.qcow2", tmp_path / "also-base.qcow2")
    (tmp_path / "a-link.qcow2").symlink_to("top.qcow2")
    graph = discover([tmp_path])
    assert len(graph) == 2
    assert "top.qcow2" in {i.path.name for i in graph.images.values()}
    twice = discover([tmp_path / "top.qcow2", tmp_path / "top.qcow2", tmp_path / "also-base.qcow2"])
    assert len(twice) == 2


def test_a_symlinked_overlay_looks_beside_the_link_as_qemu_does(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    chain_of(home, "base", "top")
    link = elsewhere / "top.qcow2"
    link.symlink_to(home / "top.qcow2")
    with pytest.raises(qemu.QemuError):
        qemu.backing_chain(link)
    graph = discover([link])
    assert states(graph) == {"top": ImageState.OK, "base": ImageState.MISSING}
    qemu.create(elsewhere / "base.qcow2", MIB)
    assert qemu.backing_chain(link)[1]["filename"] == str(elsewhere / "base.qcow2")
    graph = discover([link])
    (image,) = (i for i in graph if graph[i].path == link)
    assert [graph[i].path for i in graph.chain(image)] == [link, elsewhere / "base.qcow2"]
    assert [path for path, _ in graph.surroundings.forked[image]] == [link, home / "top.qcow2"]


def test_what_hangs_on_the_file_behind_a_symlink_is_found(tmp_path: Path) -> None:
    """A commit through the symlink would harm it, wherever the symlink lies."""
    for name in ("bases", "machines", "home"):
        (tmp_path / name).mkdir()
    base, middle = tmp_path / "bases" / "base.qcow2", tmp_path / "machines" / "middle.qcow2"
    qemu.create(base, MIB)
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, middle)
    sibling = tmp_path / "machines" / "sibling.qcow2"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "middle.qcow2", sibling)
    link, top = tmp_path / "home" / "link.qcow2", tmp_path / "home" / "top.qcow2"
    link.symlink_to(middle)
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "link.qcow2", top)
    qemu.io(top, "write -q -P 7 0 64k")
    graph = discover([top], scan=[base.parent])
    assert label_links(graph) == {("top", "link"), ("link", "base"), ("sibling", "link")}
    assert graph.surroundings.forked == {}
    plan = make_plan(graph, Commit(node(graph, base), node(graph, top)))
    assert {h.code for h in plan.stopping()} == {"sibling-corruption"}


@pytest.mark.parametrize("name", ["../bases/base.qcow2", "{bases}/base.qcow2", "./../mine/../bases/./base.qcow2"])
def test_names_lead_into_another_folder(tmp_path: Path, name: str) -> None:
    bases, mine = tmp_path / "bases", tmp_path / "mine"
    bases.mkdir()
    mine.mkdir()
    qemu.create(bases / "base.qcow2", MIB)
    qemu.create(mine / "top.qcow2", None, backing=name.format(bases=bases), backing_format="qcow2")
    graph = discover([mine / "top.qcow2"])
    assert label_links(graph) == {("top", "base")}
    assert {i.path for i in graph.images.values()} == {mine / "top.qcow2", bases / "base.qcow2"}


def test_dots_are_not_folded_through_a_symlinked_folder(tmp_path: Path) -> None:
    real, link = tmp_path / "deep" / "real", tmp_path / "link"
    real.mkdir(parents=True)
    link.symlink_to(real)
    qemu.create(real.parent / "base.qcow2", MIB)
    qemu.create(tmp_path / "base.qcow2", MIB)
    qemu.create(real / "top.qcow2", None, backing="../base.qcow2", backing_format="qcow2")
    graph = discover([link / "top.qcow2"])
    base = next(graph[i] for i in graph if graph.is_base(i))
    assert base.path.samefile(real.parent / "base.qcow2")
    assert base.path.samefile(qemu.backing_chain(link / "top.qcow2")[1]["filename"])


def test_json_names_and_names_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    qemu.create(tmp_path / "base.qcow2", MIB)
    qemu.create(tmp_path / "with:colon.qcow2", MIB)
    inner = {"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}}
    qemu.create(tmp_path / "json.qcow2", None, backing=f"json:{json.dumps(inner)}", backing_format="qcow2")
    flat = '{"driver":"qcow2","file.filename":"base.qcow2"}'
    qemu.create(tmp_path / "flat.qcow2", None, backing=f"json:{flat}", backing_format="qcow2")
    qemu.create(tmp_path / "colon.qcow2", None, backing="./with:colon.qcow2", backing_format="qcow2")
    links = {("json", "base"), ("flat", "base"), ("colon", "with:colon")}
    assert label_links(discover([Path()])) == links


def test_what_is_no_file_of_this_machine_is_a_node_and_is_not_opened(tmp_path: Path) -> None:
    nbd = "nbd://localhost:10809/export"
    for number, name in enumerate([nbd, nbd, 'json:{"driver":"null-co"}', "json:{broken", "with:colon"]):
        overlay(tmp_path / f"{number}.qcow2", name, "raw")
    graph = discover([tmp_path])
    remote = {graph[i].location: len(graph.overlays_of(i)) for i in graph if graph.is_base(i)}
    assert remote == {nbd: 2, 'json:{"driver":"null-co"}': 1, "json:{broken": 1, "with:colon": 1}
    assert all(graph[i].state is ImageState.UNREADABLE and graph[i].problem for i in graph if graph.is_base(i))
    assert nbd in json.dumps(graph.to_json())


def test_a_missing_base_is_one_node_however_it_is_named(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    for path, name in [(tmp_path / "a.qcow2", "gone.qcow2"), (deep / "b.qcow2", "../gone.qcow2")]:
        overlay(path, name, "qcow2")
    graph = discover([tmp_path])
    assert label_links(graph) == {("a", "gone"), ("b", "gone")}
    assert states(graph)["gone"] is ImageState.MISSING
    assert problems(graph)["gone"] == "the file does not exist"


def test_a_named_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    chain_of(tmp_path, "top")
    with pytest.raises(MissingImageError, match="nowhere"):
        discover([tmp_path / "top.qcow2", tmp_path / "nowhere"])
    with pytest.raises(MissingImageError, match="nowhere"):
        discover([tmp_path / "top.qcow2"], scan=[tmp_path / "nowhere"])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_loop_is_shown_and_not_followed(tmp_path: Path, length: int) -> None:
    chain_of(tmp_path, *(f"l{n}" for n in range(length)), "above")
    qemu.run(
        "qemu-img", "rebase", "-u", "-F", "qcow2", "-b", f"l{length - 1}.qcow2", tmp_path / "l0.qcow2"
    )  # fmt: skip
    for start in (tmp_path, tmp_path / "above.qcow2", tmp_path / "l0.qcow2"):
        graph = discover([start])
        assert states(graph) == {f"l{n}": ImageState.LOOP for n in range(length)} | {"above": ImageState.OK}
        assert [len(loop) for loop in graph.loops()] == [length]
        assert all(problems(graph)[f"l{n}"] for n in range(length))
    with pytest.raises(MalformedImageError, match="loop"):
        open_chain(tmp_path / "above.qcow2")


def test_a_chain_of_two_hundred(tmp_path: Path) -> None:
    names = [f"n{n:03d}" for n in range(200)]
    chain_of(tmp_path, names[0])
    data = (tmp_path / "n000.qcow2").read_bytes()
    for below, name in pairwise(names):
        (tmp_path / f"{name}.qcow2").write_bytes(data)
        qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", f"{below}.qcow2", tmp_path / f"{name}.qcow2")
    graph = discover([tmp_path / "n120.qcow2"])
    assert len(graph) == 200
    assert [graph[i].label for i in graph.chain(graph.leaves()[0])] == names[::-1]
    assert len(open_chain(tmp_path / "n199.qcow2")) == 200


def test_nothing_in_a_folder_blocks_or_is_opened_that_is_no_file(tmp_path: Path) -> None:
    """Run apart with a time limit: opening a FIFO would wait for ever."""
    os.mkfifo(tmp_path / "fifo.qcow2")
    os.mkfifo(tmp_path / "fifo.raw")
    (tmp_path / "null.img").symlink_to("/dev/null")
    (tmp_path / "zero.raw").symlink_to("/dev/zero")
    (tmp_path / "dangling.raw").symlink_to("nowhere")
    (tmp_path / "circle.raw").symlink_to("circle.raw")
    (tmp_path / "folder.qcow2").mkdir()
    for name, base in [("f.qcow2", "fifo.raw"), ("z.qcow2", "zero.raw"), ("d.qcow2", "folder.qcow2")]:
        overlay(tmp_path / name, base, "raw")
    overlay(tmp_path / "c.qcow2", "circle.raw", "raw")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.raw"))
        code = (
            "import sys; from pathlib import Path; from backchain.discover import discover;"
            "g = discover([Path(sys.argv[1])]); print(sorted((i.label, str(i.state)) for i in g.images.values()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=30, check=True
        )
    found = dict(eval(done.stdout))
    overlays = {"f": "ok", "z": "ok", "d": "ok", "c": "ok"}
    assert found == overlays | dict.fromkeys(["fifo", "zero", "folder", "circle"], "unreadable")


def test_a_fifo_named_outright_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(MissingImageError, match="neither a file nor a block device"):
        discover([tmp_path / "fifo"])


def test_damaged_headers_are_nodes(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    with (tmp_path / "base.qcow2").open("r+b") as file:
        file.seek(20)
        file.write(b"\x00\x00\x00\xff")
    (tmp_path / "stub.qcow2").write_bytes(b"QFI\xfb\x00")
    graph = discover([tmp_path])
    assert states(graph) == {"base": ImageState.UNREADABLE, "top": ImageState.OK, "stub": ImageState.UNREADABLE}
    assert "cluster size" in problems(graph)["base"]
    assert label_links(graph) == {("top", "base")}
    with pytest.raises(MalformedImageError, match=r"backing file of .*top\.qcow2: .*cluster size"):
        open_chain(tmp_path / "top.qcow2")


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "[b]markup[@]", "b\udcffytes", "“q”", "-n", "a b"])
def test_any_name_is_followed_and_shown_harmlessly(tmp_path: Path, name: str) -> None:
    base, top = tmp_path / f"{name}.qcow2", tmp_path / f"{name}-top.qcow2"
    qemu.create(base, MIB)
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    graph = discover([tmp_path])
    assert {i.path for i in graph.images.values()} == {base, top}
    assert graph.backing_of(graph.leaves()[0]) is not None
    assert all(i.display_path.isprintable() for i in graph.images.values())
    json.dumps(graph.to_json()).encode("ascii")


def test_images_that_are_called_alike_are_told_apart(tmp_path: Path) -> None:
    """By their suffix where that is enough, else by as many folders as it takes."""
    for name in ("a/disk.qcow2", "b/disk.qcow2", "a/base.raw", "a/base.qcow2", "one/x/top.qcow2", "two/x/top.qcow2"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        qemu.create(path, MIB)
    qemu.create(tmp_path / "alone.qcow2", MIB)
    graph = discover([tmp_path])
    assert {graph[i].label for i in graph} == {
        "a/disk", "b/disk", "base.raw", "base.qcow2", "one/x/top", "two/x/top", "alone",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["nul\0inside", 'json:{"driver":"raw","file":{"driver":"file","filename":"\\ud800"}}'])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    path = tmp_path / "top.qcow2"
    overlay(path, "x" * len(name), "raw")
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
    graph = discover([path])
    assert next(graph[i] for i in graph if graph.is_base(i)).state in {ImageState.MISSING, ImageState.UNREADABLE}
    with pytest.raises(MissingImageError):
        open_chain(path)


def test_a_budget_is_kept_and_noted(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    for n in range(50):
        (tmp_path / f"file{n}").write_text("")
    assert discover([tmp_path / "top.qcow2"], budget=52).incomplete == ()
    graph = discover([tmp_path / "top.qcow2"], budget=51)
    assert label_links(graph) == {("top", "base")}
    assert len(graph.incomplete) == 1
    assert "too many files" in graph.incomplete[0]


def test_symlinked_folders_are_noted_unless_they_are_searched_anyway(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    chain_of(inside, "base", "top")
    chain_of(outside, "hidden")
    (inside / "out").symlink_to(outside)
    (inside / "back").symlink_to(inside)
    graph = discover([inside])
    assert set(states(graph)) == {"base", "top"}
    assert len(graph.incomplete) == 1
    assert "symlink" in graph.incomplete[0]
    assert discover([inside], scan=[outside]).incomplete == ()
    assert set(states(discover([inside / "out"]))) == {"hidden"}


def test_what_may_not_be_read_is_a_node_and_is_noted() -> None:
    with shared_folder() as folder, ExitStack() as stack:
        locked, hidden = folder / "locked", folder / "hidden"
        locked.mkdir()
        hidden.mkdir()
        chain_of(folder, "base", "top")
        qemu.create(hidden / "deep.qcow2", MIB)
        qemu.create(folder / "other.qcow2", None, backing=hidden / "deep.qcow2")
        (folder / "base.qcow2").chmod(0)
        locked.chmod(0)
        hidden.chmod(0)
        stack.enter_context(as_nobody())
        graph = discover([folder])
        assert states(graph) == {
            "base": ImageState.UNREADABLE, "top": ImageState.OK, "other": ImageState.OK, "deep": ImageState.UNREADABLE,
        }  # fmt: skip
        assert problems(graph)["base"] == problems(graph)["deep"] == "Permission denied"
        assert label_links(graph) == {("top", "base"), ("other", "deep")}
        assert set(graph.incomplete) == {
            f"{folder}/base.qcow2 is not readable",
            f"{hidden}: Permission denied",
            f"{locked}: Permission denied",
        }
        with pytest.raises(MissingImageError, match="Permission denied"):
            discover([folder / "base.qcow2"])
        with pytest.raises(MissingImageError, match="Permission denied"):
            discover([hidden / "deep.qcow2"])
