"""The command line as a user meets it: in a process of its own, by exit status, standard output and standard error."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from backchain_tui.commands.options import parse_size
from tests.core import damage, qemu
from tests.core.images import chain_of, overlay

from .command_line import HEAVY, TIMEOUT, backchain, error_of

# --- what is loaded ---------------------------------------------------------------------------------------------------


def loaded_by(*arguments: str | Path) -> set[str]:
    """Give which heavy packages a command loads."""
    code = (
        "import sys; from backchain_tui.cli import run; status = run(sys.argv[1:]);"
        f"print(status, *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    status, *modules = done.stderr.splitlines()[-1].split()
    assert status == "0", done.stderr
    return set(modules)


def test_each_command_loads_only_what_it_needs(tmp_path: Path) -> None:
    top = chain_of(tmp_path, "base", "top")[-1]
    assert loaded_by("--version") == set()
    assert loaded_by("--help") == set()
    assert loaded_by("commit", "--help") == set()
    assert loaded_by("graph", top) == {"networkx", "humanize"}
    assert loaded_by("graph", "--json", top) == set()
    assert loaded_by("map", top) == {"numpy"}
    assert loaded_by("demo", "--no-ui", "--folder", tmp_path / "lab") == set()
    assert not {"textual", "rich"} & loaded_by("commit", "-n", top)


# --- help, version, usage ---------------------------------------------------------------------------------------------


def test_help_and_version() -> None:
    done = backchain("--version")
    assert (done.returncode, done.stdout) == (0, "backchain 0.1.0\n")
    text = backchain("--help").stdout
    for command in ("[PATH ...]", "demo", "graph PATH", "map [--output human|json] IMAGE", "commit [-b BASE] [-d] TOP"):
        assert f"backchain {command}" in text
    assert backchain(".", "--help").stdout == text
    assert "--dry-run" in backchain("commit", "--help").stdout


def test_a_path_without_a_terminal_and_a_word_that_is_nothing(tmp_path: Path) -> None:
    assert "needs a terminal" in error_of(backchain(tmp_path), 2)
    assert "needs a terminal" in error_of(backchain(cwd=tmp_path), 2)
    assert "neither a file nor a folder, nor a command" in error_of(backchain("comit", "x"), 4)
    assert error_of(backchain("comit", "-y", "x"), 4).endswith("nor a command; did you mean commit?")
    assert error_of(backchain("qqq"), 4).endswith("nor a command; see backchain --help")
    (tmp_path / "graph").mkdir()
    assert "needs a terminal" in error_of(backchain("./graph", cwd=tmp_path), 2)
    assert "PATH" in error_of(backchain("graph", cwd=tmp_path), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["graph"],
        ["graph", "--json", "--dot", "."],
        ["map"],
        ["map", "--output", "xml", "x"],
        ["commit"],
        ["commit", "a", "b"],
        ["commit", "--rate-limit", "fast", "x"],
        ["commit", "--rate-limit", "0", "x"],
        ["commit", "--engine", "warp", "x"],
        ["commit", "-t", "quick", "x"],
        ["map", "--start-offset", "-1", "x"],
        ["map", "-l", "8E", "x"],
        ["pull", "--no-such-option", "x"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str]) -> None:
    error_of(backchain(*arguments), 2)


@pytest.mark.parametrize(
    ("text", "count"),
    [("10M", 10 << 20), ("1G", 1 << 30), ("4096", 4096), ("1.5k", 1536), ("2t", 2 << 40), ("100b", 100)],
)
def test_sizes_are_those_of_qemu_img(text: str, count: int) -> None:
    assert parse_size(text) == count


# --- graph ------------------------------------------------------------------------------------------------------------


def test_graph_is_a_tree_as_text(lab: Path) -> None:
    done = backchain("graph", lab, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0
    folder, heading, *rows = done.stdout.splitlines()
    assert folder == str(lab)
    assert heading.split() == ["IMAGE", "ROLE", "FORMAT", "VIRTUAL", "ON", "DISK", "CLUSTER"]
    assert [row.partition(".qcow2")[0] for row in rows] == [
        "Golden", "├─ Db-1", "│  ↑ Db-2", "└─ Web-1", "RootBase", "↑ Snap-1", "↑ Snap-2", "↑ Snap-3", "↑ Snap-4",
    ]  # fmt: skip
    assert [row.partition("active")[2].split()[0] for row in rows if "active" in row] == ["qcow2"] * 3


def test_graph_is_drawn_in_ascii_where_there_is_nothing_else(lab: Path) -> None:
    forced = backchain("graph", "--ascii", lab)
    encoded = backchain("graph", lab, PYTHONIOENCODING="ascii")
    assert forced.stdout == encoded.stdout
    assert forced.stdout.isascii()
    assert "|  ^ Db-2.qcow2" in forced.stdout


def test_graph_of_a_long_chain_is_not_wide(tmp_path: Path) -> None:
    base = chain_of(tmp_path, "n0")[0]
    data = base.read_bytes()
    for n in range(1, 150):
        (tmp_path / f"n{n}.qcow2").write_bytes(data)
        qemu.run("qemu-img", "rebase", "-u", "-F", "qcow2", "-b", f"n{n - 1}.qcow2", tmp_path / f"n{n}.qcow2")
    lines = backchain("graph", tmp_path).stdout.splitlines()
    assert len(lines) == 152
    assert max(map(len, lines)) < 100


def test_graph_calls_an_image_that_stands_alone_a_base_as_its_box_does(tmp_path: Path) -> None:
    qemu.create(tmp_path / "alone.qcow2", 1 << 20)
    row = backchain("graph", tmp_path).stdout.splitlines()[-1]
    assert row.split()[:3] == ["alone.qcow2", "base", "qcow2"]


def test_graph_json_is_the_contract(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    done = backchain("graph", "--json", tmp_path)
    images = {Path(i["path"]).stem: i for i in json.loads(done.stdout)["images"]}
    base, top = str(tmp_path / "base.qcow2"), str(tmp_path / "top.qcow2")
    assert images["base"]["overlays"] == [top]
    assert images["top"] == {
        "path": top, "format": "qcow2", "virtual_size": 1 << 20, "disk_size": qemu.allocated(tmp_path / "top.qcow2"),
        "cluster_size": 65536, "backing": base, "overlays": [], "state": "ok",
    }  # fmt: skip
    assert done.stderr == ""


def test_graph_shows_what_is_broken_and_still_succeeds(tmp_path: Path) -> None:
    overlay(tmp_path / "top.qcow2", "gone.qcow2", "qcow2")
    overlay(tmp_path / "self.qcow2", "self.qcow2", "qcow2")
    overlay(tmp_path / "net.qcow2", "nbd://localhost:10809/x", "raw")
    done = backchain("graph", tmp_path)
    assert done.returncode == 0
    assert "gone.qcow2" in done.stdout
    assert "the file does not exist" in done.stdout
    assert "the image is backed by itself" in done.stdout
    assert "nbd://localhost:10809/x" in done.stdout


def test_graph_of_nothing(tmp_path: Path) -> None:
    assert backchain("graph", tmp_path).stdout == "no disk images found\n"
    assert "No such file" in error_of(backchain("graph", tmp_path / "nowhere"), 4)


def test_names_are_never_markup_nor_terminal_commands(tmp_path: Path) -> None:
    for number, name in enumerate(['quote"back\\slash\\N&lt;', "\x1b[31mred\n", "b\udcffyte"]):
        qemu.create(tmp_path / f"{number}{name}", 1 << 20)
    text, dot = backchain("graph", tmp_path).stdout, backchain("graph", "--dot", tmp_path).stdout
    assert "\x1b" not in text + dot
    assert "\\x1b[31mred\\x0a" in text
    assert "b\\xffyte" in text
    assert '"0quote\\"back\\\\slash\\\\N&amp;lt;\\n1 MiB, 196 KiB on disk"' in dot
    assert len(dot.splitlines()) == 3 + 3 + 1


def test_dot_points_from_overlay_to_backing_file(tmp_path: Path) -> None:
    chain_of(tmp_path, "base", "top")
    dot = backchain("graph", "--dot", tmp_path / "top.qcow2").stdout
    assert '  n0 [label="top.qcow2\\n' in dot
    assert '  n1 [label="base.qcow2\\n' in dot
    assert "  n0 -> n1;" in dot


def test_what_was_not_looked_at_is_said_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    chain_of(tmp_path / "in", "base")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    done = backchain("graph", "--json", tmp_path / "in")
    assert len(json.loads(done.stdout)["images"]) == 1
    assert done.stderr.startswith("backchain: not looked at: ")


# --- map --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RootBase", "Snap-4", "Web-1", "Db-2"])
def test_map_answers_what_qemu_img_answers(lab: Path, name: str) -> None:
    path = lab / f"{name}.qcow2"
    ours = backchain("map", "--output", "json", path).stdout.replace(', "compressed": false', "")
    assert ours == qemu.run("qemu-img", "map", "--output=json", path)
    assert backchain("map", path).stdout == qemu.run("qemu-img", "map", path)


def test_map_of_raw_and_of_qcow2_taken_as_raw(tmp_path: Path) -> None:
    raw = tmp_path / "disk"
    with raw.open("wb") as file:
        file.write(b"x" * 65536)
        file.truncate(1 << 20)
    top = tmp_path / "top.qcow2"
    qemu.create(top, 1 << 20)
    for path, options in [(raw, []), (raw, ["-f", "raw"]), (top, ["-f", "raw"]), (top, ["-f", "qcow2"])]:
        ours = json.loads(backchain("map", "--output=json", *options, path).stdout)
        theirs = json.loads(qemu.run("qemu-img", "map", "--output=json", *options, path))
        assert [{k: v for k, v in e.items() if k != "compressed"} for e in ours] == theirs


def test_map_of_compressed_data(tmp_path: Path) -> None:
    path = tmp_path / "c.qcow2"
    qemu.create(path, 1 << 20)
    qemu.io(path, "write -c -P 5 0 64k")
    extents = json.loads(backchain("map", "--output", "json", path).stdout)
    assert extents[0]["compressed"] is True
    assert "offset" not in extents[0]
    assert "compressed" in error_of(backchain("map", path), 4)


def test_map_refuses_what_another_process_writes_unless_told_otherwise(tmp_path: Path) -> None:
    path = chain_of(tmp_path, "base", "top")[-1]
    with qemu.held_open(path):
        assert "-U" in error_of(backchain("map", path), 5)
        assert backchain("map", "-U", path).returncode == 0
    assert backchain("map", path).returncode == 0


def assert_alike_up_to_damage(image: Path, *options: str) -> None:
    """Compare with qemu-img's map: what both show, and whether both come to the damage."""
    theirs = qemu.attempt("qemu-img", "map", "--output=json", *options, image)
    ours = backchain("map", "--output=json", *options, image)
    damaged = theirs.returncode == 1
    if damaged:
        assert "an L2 entry names a host offset that is not aligned" in error_of(ours, 4)
    else:
        assert ours.returncode == theirs.returncode == 0
    end = "]" if damaged else ""
    wanted = json.loads(theirs.stdout.rstrip(",\n") + end)
    assert wanted
    assert [{**e, "compressed": False} for e in wanted] == json.loads(ours.stdout.rstrip() + end)


def damage_entry(image: Path, guest: int) -> None:
    """Make the L2 entry of the cluster at the guest offset (bytes) one that names no cluster."""
    data = image.read_bytes()
    table, inside = divmod(guest, 512 << 20)
    entry = damage.l2_tables(data)[table] + inside // 65536 * 8
    image.write_bytes(damage.put64(data, entry, 0x8000_0000_1234_5200))


@pytest.mark.parametrize(("name", "place"), [("top.qcow2", 305), ("top.qcow2", 700), ("base.qcow2", 300)])
def test_map_of_a_damaged_image_shows_what_precedes_the_damage(tmp_path: Path, name: str, place: int) -> None:
    """As qemu-img does: all up to the entry, in whatever window of tables it lies."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, 1 << 30)
    qemu.create(top, 1 << 30, backing=base)
    qemu.io(base, "write -q 0 64k", "write -q 300M 1M", "write -q -z 310M 1M", "write -q 900M 64k")
    qemu.io(top, "write -q 64k 64k", "write -q 305M 64k", "write -q 700M 64k")
    damage_entry(tmp_path / name, place << 20)
    assert_alike_up_to_damage(top)


def test_map_up_to_damage_that_lies_at_odd_places(tmp_path: Path) -> None:
    """A disk that ends amid a cluster, parts that begin or end in one, and overlays that cover the damage."""
    image, over, fine = (tmp_path / f"{n}.qcow2" for n in ("image", "over", "fine"))
    qemu.create(image, (1 << 20) + 512)
    qemu.io(image, "write -q 0 1M", "write -q 1M 512", "discard -q 64k 64k", "discard -q 896k 64k")
    sound = image.read_bytes()
    damage_entry(image, 1 << 20)
    assert_alike_up_to_damage(image)
    image.write_bytes(sound)
    damage_entry(image, 192 << 10)
    for options in (("-s", "0", "-l", "250000"), ("-s", "1000"), ("-s", "70001", "-l", "200000")):
        assert_alike_up_to_damage(image, *options)
    qemu.create(over, (1 << 20) + 512, backing=image)
    qemu.io(over, "write -q 192k 64k")
    assert_alike_up_to_damage(over, "-s", "1000")
    qemu.create(fine, (1 << 20) + 512, backing=image, extended_l2="on")
    qemu.io(fine, "write -q 192k 2k", "write -q -z 194k 2k", "write -q 196k 28k")
    assert_alike_up_to_damage(fine)


def test_map_of_a_broken_chain_is_status_4(tmp_path: Path) -> None:
    assert "gone" in error_of(backchain("map", overlay(tmp_path / "a.qcow2", "gone", "raw")), 4)
    assert "loop" in error_of(backchain("map", overlay(tmp_path / "b.qcow2", "b.qcow2", "qcow2")), 4)
    assert "nbd" in error_of(backchain("map", overlay(tmp_path / "c.qcow2", "nbd://x/y", "raw")), 4)
    (tmp_path / "d.qcow2").write_bytes(b"QFI\xfb" + bytes(200))
    assert "version 0" in error_of(backchain("map", tmp_path / "d.qcow2"), 4)
    assert "No such file" in error_of(backchain("map", tmp_path / "nowhere"), 4)


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_writes_its_files_where_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "lab"
    done = backchain("demo", "--no-ui", "--folder", folder)
    assert (done.returncode, done.stdout) == (0, f"The lab is in {folder}\n")
    assert qemu.check(folder / "Snap-4.qcow2").clean
    assert "exists already" in error_of(backchain("demo", "--no-ui", "--folder", folder), 2)


def test_demo_removes_its_scratch_folder_when_it_fails(tmp_path: Path) -> None:
    done = backchain("demo", TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert "it is removed when the UI is left" in done.stderr
    assert list(tmp_path.iterdir()) == []
    kept = backchain("demo", "--no-ui", TMPDIR=str(tmp_path)).stdout.removeprefix("The lab is in ").strip()
    assert Path(kept).is_dir()


# --- what nobody expected ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [
        ("RuntimeError('odd\\nthing')", 1, "unexpected RuntimeError: odd thing; set BACKCHAIN_DEBUG=1"),
        ("OSError(28, 'No space left on device', '/some/image')", 6, "/some/image: No space left on device"),
        ("MemoryError()", 6, "not enough memory"),
        ("KeyboardInterrupt()", 7, "cancelled"),
    ],
)
def test_whatever_goes_wrong_is_one_line(tmp_path: Path, failure: str, status: int, says: str) -> None:
    code = (
        "import sys; import backchain.discover as d; from backchain_tui.cli import main\n"
        f"def fail(*_, **__): raise {failure}\n"
        "d.discover = fail; sys.argv = ['backchain', 'graph', '.']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert error_of(done, status).startswith(says)
    if status == 1:
        debug = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"BACKCHAIN_DEBUG": "1"}
        )
        assert "Traceback" in debug.stderr


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--ascii"], ["demo", "--keep"], ["."], []])
def test_the_screen_opens_on_a_terminal_and_leaves_nothing_behind(lab: Path, arguments: list[str]) -> None:
    scratch = lab.parent / "scratch"
    scratch.mkdir()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(lab)
        os.environ |= {"TMPDIR": str(scratch), "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        os.execv(sys.executable, [sys.executable, "-m", "backchain_tui", *arguments])
    shown = b""
    while b"RootBase" not in shown or b"Db-2" not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 65536)
    assert len(list(scratch.iterdir())) == (arguments[:1] == ["demo"])
    try:
        while True:
            os.write(terminal, b"\x11")
            while select.select([terminal], [], [], 2)[0]:
                shown += os.read(terminal, 65536)
    except OSError:
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown[-2000:]
    assert len(list(scratch.iterdir())) == ("--keep" in arguments)
