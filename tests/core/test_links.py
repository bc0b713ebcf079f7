"""What an overlay's header says of its backing file is taken as QEMU takes it, however oddly it is written."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from backchain.chain import open_chain
from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BlockedError, ImageError
from backchain.filename import UNKNOWN_OPTIONS, resolve_backing
from backchain.image import ImageState, read_image_info
from backchain.jobs import Job
from backchain.operations import Commit, Pull, Snapshot
from backchain.planning import make_plan

from . import damage, qemu
from .images import MIB, label_links, overlay
from .planned import run

FORMAT = damage.BACKING_FORMAT
UNKNOWN = 0x12345678


def odd_header(path: Path, extensions: list[tuple[int, bytes]], name: bytes) -> None:
    """Give a fresh overlay these extensions and this backing file name."""
    path.write_bytes(damage.with_header(path.read_bytes(), extensions, name))


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ([(FORMAT, b"raw"), (FORMAT, b"qcow2")], b"base.qcow2"),
        ([(FORMAT, b"qcow2"), (FORMAT, b"raw")], b"base.qcow2"),
        ([(FORMAT, b"qcow2\0junk")], b"base.qcow2"),
        ([(FORMAT, b"")], b"base.qcow2"),
        ([(FORMAT, b"\0junk")], b"base.qcow2"),
        ([(FORMAT, b"qcow2")], b"base.qcow2\0junk"),
        ([(FORMAT, b"qcow2")], b"\0junk"),
        ([(FORMAT, b"qcow2")], b"file:base.qcow2"),
    ],
)
def test_name_and_format_are_those_that_qemu_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extensions: list[tuple[int, bytes]], name: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    qemu.create(tmp_path / "base.qcow2", MIB)
    top = overlay(tmp_path / "top.qcow2", "x", "raw")
    odd_header(top, extensions, name)
    theirs, ours = qemu.info(top), read_image_info(top).backing
    assert (ours.name if ours else None) == theirs.get("backing-filename")
    assert (ours.format if ours else None) == theirs.get("backing-filename-format")
    assert label_links(discover([top])) == ({("top", "base")} if ours else set())
    assert [i.format for i in open_chain(top)] == [i["format"] for i in qemu.backing_chain(top)]


def test_a_name_that_ends_at_a_zero_byte_makes_a_sibling(tmp_path: Path) -> None:
    """QEMU reads the base through it, so that a commit into the base would harm it."""
    qemu.create(tmp_path / "base.qcow2", MIB)
    qemu.create(tmp_path / "top.qcow2", None, backing=tmp_path / "base.qcow2")
    qemu.io(tmp_path / "top.qcow2", "write -P 1 0 64k")
    odd_header(overlay(tmp_path / "odd.qcow2", "x", "raw"), [(FORMAT, b"qcow2")], b"base.qcow2\0junk")
    graph = discover([tmp_path])
    named = {graph[i].label: i for i in graph}
    codes = {h.code for h in make_plan(graph, Commit(named["base"], named["top"])).hazards}
    assert "sibling-corruption" in codes


@pytest.mark.parametrize("extra", [[(FORMAT, b"x" * 16)], [(FORMAT, b"qcow2"), (FORMAT, b"x" * 1000)]])
def test_a_format_that_is_too_long_is_damage(tmp_path: Path, extra: list[tuple[int, bytes]]) -> None:
    top = overlay(tmp_path / "top.qcow2", "x", "raw")
    odd_header(top, extra, b"base.qcow2")
    assert qemu.attempt("qemu-img", "info", top).returncode == 1
    info = read_image_info(top)
    assert (info.state, "backing format" in info.problem) == (ImageState.UNREADABLE, True)


@pytest.mark.parametrize("extra", [[(UNKNOWN, bytes(40000))], [(UNKNOWN, b"")] * 5000])
def test_a_header_that_never_ends_is_not_read(tmp_path: Path, extra: list[tuple[int, bytes]]) -> None:
    top = overlay(tmp_path / "top.qcow2", "x", "raw")
    odd_header(top, extra, b"base.qcow2")
    assert qemu.info(top)["backing-filename"] == "base.qcow2"
    with pytest.raises(ImageError, match="more than 16384 bytes"):
        open_chain(top)


# --- json: ------------------------------------------------------------------------------------------------------------


def json_overlay(path: Path, recorded: str, options: dict[str, object]) -> Path:
    """Make an overlay of 64 KiB behind a ``json:`` name."""
    name = f"json:{json.dumps(options)}"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", recorded, "-b", name, path, "64k")
    return path


def refused(top: Path) -> str:
    """Make sure that a pull is refused and changes nothing; give the reason."""
    before, view = top.read_bytes(), qemu.view(top)
    graph = discover([top])
    plan = make_plan(graph, Pull(next(iter(graph)), None))
    with pytest.raises(BlockedError) as caught:
        BuiltinEngine().run(plan, Job(plan))
    assert (top.read_bytes(), qemu.view(top)) == (before, view)
    return str(caught.value)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"A" * 65536 + b"B" * 65536)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "raw", "offset": 65536, "file": {"driver": "file", "filename": "disk.raw"}},
        {"driver": "raw", "offset": "65536", "file.filename": "disk.raw"},
        {
            "driver": "raw",
            "file": {"driver": "raw", "offset": 65536, "file": {"driver": "file", "filename": "disk.raw"}},
        },
    ],
)
def test_options_that_change_what_is_read_forbid_an_operation(
    tmp_path: Path, raw: Path, options: dict[str, object]
) -> None:
    """QEMU reads the second half of the file; taken for the whole of it, a pull would copy the first."""
    top = json_overlay(tmp_path / "top.qcow2", "raw", options)
    assert qemu.view(top)[:1] == b"B"
    assert UNKNOWN_OPTIONS in refused(top)
    with pytest.raises(ImageError, match=UNKNOWN_OPTIONS):
        open_chain(top)


def test_an_overlay_behind_odd_options_is_still_a_sibling(tmp_path: Path, raw: Path) -> None:
    options = {"driver": "raw", "offset": 65536, "file": {"driver": "file", "filename": "disk.raw"}}
    json_overlay(tmp_path / "odd.qcow2", "raw", options)
    qemu.create(tmp_path / "top.qcow2", None, backing=raw)
    graph = discover([tmp_path])
    named = {graph[i].label: i for i in graph}
    hazards = make_plan(graph, Commit(named["disk"], named["top"])).hazards
    assert {named["odd"]} <= {i for h in hazards if h.code == "sibling-corruption" for i in h.images}


BLKDEBUG = {"driver": "qcow2", "file": {"driver": "blkdebug", "image": {"driver": "file", "filename": "base.qcow2"}}}
COPY, BASE = ({"driver": f, "file.filename": name} for f, name in (("raw", "copy.raw"), ("qcow2", "base.qcow2")))
VERIFIED = {"driver": "blkverify", "raw": {"driver": "file", "filename": "copy.raw"}, "test": BASE}
VOTERS = {"driver": "quorum", "vote-threshold": 1, "children": [COPY, BASE]}
OVERRIDDEN = {"driver": "qcow2", "file": {"driver": "file", "filename": "other.qcow2"}, "backing": BASE}
FLAT = {"driver": "qcow2", "file.filename": "other.qcow2", "backing.driver": "qcow2"}
FLAT |= {"backing.file.filename": "base.qcow2"}
PREFIXED = {"driver": "qcow2", "file": {"driver": "blkdebug", "x-image": "base.qcow2"}}
SINGLE = "json:{'driver':'qcow2','file':{'driver':'file','filename':'base.qcow2'}}"
ESCAPED = r"""json:{'driver':"qcow2",'node-name':'a"b\'c','file':{'driver':'file','filename':'base.qcow2'}}"""


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("blkdebug::base.qcow2", "qcow2"),
        ("blkverify:copy.raw:base.qcow2", "blkverify"),
        (f"json:{json.dumps(BLKDEBUG)}", "qcow2"),
        (f"json:{json.dumps(VERIFIED)}", "blkverify"),
        (f"json:{json.dumps(VOTERS)}", "quorum"),
        (f"json:{json.dumps(OVERRIDDEN)}", "qcow2"),
        (f"json:{json.dumps(FLAT)}", "qcow2"),
        (f"json:{json.dumps(PREFIXED)}", "qcow2"),
        (SINGLE, "qcow2"),
        (ESCAPED.replace("a\"b\\'c", "n"), "qcow2"),
    ],
    ids=[
        "blkdebug",
        "blkverify",
        "json-blkdebug",
        "json-blkverify",
        "quorum",
        "backing",
        "flat",
        "x-image",
        "single",
        "mixed-quotes",
    ],
)
def test_an_overlay_behind_other_drivers_forbids_a_commit_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, recorded: str
) -> None:
    monkeypatch.chdir(tmp_path)
    qemu.create(tmp_path / "base.qcow2", MIB)
    qemu.create(tmp_path / "other.qcow2", MIB)
    (tmp_path / "copy.raw").write_bytes(bytes(MIB))
    odd = tmp_path / "odd.qcow2"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", recorded, "-b", name, odd, str(MIB))
    qemu.create(tmp_path / "top.qcow2", None, backing=tmp_path / "base.qcow2")
    graph = discover([tmp_path])
    named = {graph[i].name: i for i in graph}
    plan = make_plan(graph, Commit(named["base.qcow2"], named["top.qcow2"]))
    assert {"sibling-corruption", "needed-file"} & {h.code for h in plan.hazards if h.severity == "block"}
    assert "odd.qcow2" in " ".join(h.message for h in plan.hazards)
    assert refused(odd)


def test_the_recorded_format_goes_before_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    qemu.create(tmp_path / "base.qcow2", MIB)
    options = {"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}}
    top = json_overlay(tmp_path / "top.qcow2", "raw", options)
    assert qemu.view(top)[:3] == b"QFI"
    assert [i.format for i in open_chain(top)] == [i["format"] for i in qemu.backing_chain(top)] == ["qcow2", "raw"]
    assert "format-mismatch" in refused(top)


def test_json_is_read_as_qemu_reads_it(tmp_path: Path) -> None:
    for name in (SINGLE, ESCAPED):
        link = resolve_backing(tmp_path / "top.qcow2", name.replace("base.qcow2", "/x/b.qcow2"), None)
        assert (link.path, link.format) == (Path("/x/b.qcow2"), "qcow2")


def test_a_json_name_without_a_file_may_hide_an_overlay(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, MIB)
    qemu.create(top, None, backing=base)
    json_overlay(tmp_path / "odd.qcow2", "raw", {"driver": "null-co", "size": MIB})
    graph = discover([top])
    named = {graph[i].name: i for i in graph}
    plan = make_plan(graph, Commit(named["base.qcow2"], named["top.qcow2"]))
    assert "odd.qcow2: its json: name mentions no file" in " ".join(h.message for h in plan.hazards)


@pytest.mark.parametrize("options", [{"read-only": True}, {"cache.direct": False}, {"node-name": "x"}])
def test_options_that_change_nothing_are_no_matter(tmp_path: Path, raw: Path, options: dict[str, object]) -> None:
    top = json_overlay(
        tmp_path / "top.qcow2", "raw", {"driver": "raw", "file": {"driver": "file", "filename": "disk.raw"}, **options}
    )
    view = qemu.view(top)
    assert "untrusted-link" in refused(top)
    graph = discover([top, raw])
    plan = make_plan(graph, Pull(next(iter(graph)), None))
    BuiltinEngine().run(plan, Job(plan))
    assert qemu.view(top) == view


# --- names that are recorded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "image", "overlay", "recorded"),
    [
        (".", "d/base.qcow2", "d/../y.qcow2", "d/base.qcow2"),
        (".", "d/../d/base.qcow2", "d/../d/y.qcow2", "base.qcow2"),
        ("d", "base.qcow2", "../y.qcow2", "d/base.qcow2"),
        ("d", "../d/base.qcow2", "../e/y.qcow2", "../d/base.qcow2"),
        ("e", "../d/base.qcow2", "y.qcow2", "../d/base.qcow2"),
        # A symlinked folder: what follows it is walked from where it leads.
        (".", "d/base.qcow2", "link/../y.qcow2", "../d/base.qcow2"),
        (".", "link/../base.qcow2", "y.qcow2", "deep/base.qcow2"),
        (".", "link/../base.qcow2", "deep/y.qcow2", "base.qcow2"),
        (".", "link/base.qcow2", "link/y.qcow2", "base.qcow2"),
        (".", "d/base.qcow2", "link/y.qcow2", "{}/d/base.qcow2"),
    ],
)
def test_a_relative_name_leads_qemu_to_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, image: str, overlay: str, recorded: str
) -> None:
    for folder in ("d", "e", "deep/real"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/real")
    for value, folder in enumerate(("", "d", "e", "deep", "deep/real"), 1):
        qemu.create(tmp_path / folder / "base.qcow2", MIB)
        qemu.io(tmp_path / folder / "base.qcow2", f"write -q -P {value} 0 64k")
    monkeypatch.chdir(tmp_path / here)
    graph = discover([Path(image)])
    run(make_plan(graph, Snapshot(next(iter(graph)), Path.cwd() / overlay)))
    assert qemu.info(Path(overlay))["backing-filename"] == recorded.format(tmp_path)
    assert qemu.view(Path(overlay)) == qemu.view(Path(image))


# --- names in commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "it's", "b\udcffyte", "\x85c1", "\u202egnp", "$(id) `x`"])
def test_the_commands_of_other_tools_are_one_line_and_mean_the_file(tmp_path: Path, name: str) -> None:
    base, top = tmp_path / f"{name}.qcow2", tmp_path / f"{name}-top.qcow2"
    qemu.create(base, MIB)
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    graph = discover([top])
    image = next(i for i in graph if graph[i].path == top)
    plan = make_plan(graph, Commit(graph.chain(image)[1], image))
    assert all(command.isprintable() for _, command in plan.commands)
    command = dict(plan.commands)["qemu-img"]
    done = subprocess.run(["bash", "-c", command], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=False)
    assert done.returncode == 0, done.stderr


def test_virsh_takes_a_comma_for_a_part_of_the_name(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "a,b.qcow2"
    qemu.create(base, MIB)
    graph = discover([base])
    command = dict(make_plan(graph, Snapshot(next(iter(graph)), overlay)).commands)["virsh"]
    *_, disk = shlex.split(command)
    assert disk == f"DISK,snapshot=external,file={tmp_path}/a,,b.qcow2"
    if shutil.which("virsh") is not None:
        asked = command.replace("DOMAIN", "test").replace("DISK", "vda")
        done = qemu.run("virsh", "-c", "test:///default", *shlex.split(asked)[1:], "--print-xml")
        assert f"<source file='{overlay}'/>" in done
