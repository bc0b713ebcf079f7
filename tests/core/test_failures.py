"""Writes that fail amid a run: one line, the contract's status, every view intact, and no leak that a journal forgets.

A disk that breaks is played by `faults`; a file system that is full is a real one where this user may mount one.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from backchain import recovery
from backchain.discover import discover
from backchain.engines import files
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import ImageIOError, NoRoomError
from backchain.jobs import Job
from backchain.journal import SCRATCH_SUFFIX, state_folder
from backchain.operations import Commit, Delete
from backchain.planning import make_plan

from . import qemu
from .faults import Fault
from .home import Home, state_of
from .images import chain_of
from .judging import Judge
from .mounting import mounted
from .planned import node
from .scenes import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .folders import Folders
    from .states import State

_RUN_WITH_LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from backchain_tui.cli import main
sys.argv = ["backchain", *sys.argv[2:]]
main()
"""


def limited(limit: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program while no file may grow past `limit` bytes, as on a file system that is full."""
    command = [sys.executable, "-c", _RUN_WITH_LIMIT, str(limit), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_full_file_system_loses_nothing(tmp_path: Path, megabytes: int) -> None:
    root, one = chain_of(tmp_path, "root", "one", size=8 << 20)
    qemu.io(root, "write -P 1 0 512k")
    qemu.io(one, "write -P 2 256k 6M")
    before = qemu.view(one)
    done = limited(megabytes << 20, "commit", "-y", one)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert qemu.view(one) == before
    for path in (root, one):
        found = qemu.check(path)
        assert (found.corruptions, found.leaks) == (0, 0), found.text
    again = limited(1 << 40, "commit", "-y", one)
    assert again.returncode == 0, again.stderr
    assert qemu.view(root) == before


def test_a_raw_base_on_a_full_file_system(tmp_path: Path) -> None:
    raw, top = tmp_path / "disk.raw", tmp_path / "top.qcow2"
    raw.write_bytes(b"r" * (1 << 20))
    qemu.create(top, 4 << 20, backing=raw)
    qemu.io(top, "write -P 2 512k 3M")
    before = qemu.view(top)
    done = limited(2 << 20, "commit", "-y", top)
    assert done.returncode == 6, done.stderr
    assert qemu.view(top) == before


def test_a_journal_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    """A limit of one byte meets the journal first."""
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 2 0 64k")
    before = [qemu.digest(p) for p in (root, one)]
    for verb in (["commit", one], ["pull", one], ["rebase", "-b", "", one], ["snapshot", one, tmp_path / "new.qcow2"]):
        done = limited(1, *verb, "-y")
        assert (done.returncode, done.stderr.count("\n")) == (6, 1), done.stderr
        assert [qemu.digest(p) for p in (root, one)] == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["one.qcow2", "root.qcow2"]


# --- a disk that breaks -----------------------------------------------------------------------------------------------

SLOW_CASES = [
    ("commit-next", "4k"), ("commit-kept", "4k"), ("commit-under-two", "512"), ("commit", "growing"),
    ("commit-active", "raw-base"), ("commit-active", "compressed"), ("pull", "growing"), ("pull", "batches"),
    ("pull-everything", "v2"), ("rebase", "compressed"), ("rebase-elsewhere", "extended-l2"),
    ("rebase-onto-nothing", "4k"), ("rebase-link", "long-names"), ("commit", "shared-tables"),
]  # fmt: skip
QUICK_CASES = [("commit", "4k"), ("pull", "shared-tables"), ("rebase", "4k"), ("snapshot", "4k"), ("delete", "4k")]


class Aftermath:
    """What failed runs of a scene have left, as states to be judged: right after the failure, and once tidied up."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._failed: list[State] = []
        self._tidied: list[State] = []
        self._contents: dict[str, bytes] = {}

    def take(self, story: str) -> None:
        """Take down what is there now; a journal, if there is one, must know how to tidy up."""
        folder = self._scene.folder
        state = state_of(folder, story, self._contents)
        self._failed.append(state)
        for record in discover([folder]).interrupted:
            assert recovery.tidy_up(record).problems == ()
        assert not list(folder.glob(f"*{SCRATCH_SUFFIX}")), f"{story}: a part of an image that no job knows of"
        self._tidied.append(state_of(folder, f"{story}, tidied up", self._contents))

    def judge(self, folder: Path) -> None:
        """Judge all that was taken down."""
        expected = self._scene.expected()
        Judge(folder / "failed", expected, self._contents.__getitem__).judge(self._failed)
        Judge(folder / "tidied", replace(expected, leaks=False), self._contents.__getitem__).judge(self._tidied)


def failure_of(scene: Scene) -> str | None:
    """Run a scene's plan; give the one line in which it failed with status 6, or None when it was done."""
    try:
        scene.run()
    except ImageIOError as error:
        failure = error
    else:
        return None
    assert failure.exit_code == 6
    assert "\n" not in str(failure)
    full = any(os.strerror(code) in failure.message for code in (errno.ENOSPC, errno.EDQUOT))
    assert isinstance(failure, NoRoomError) == full
    return failure.message


BEGINNING = 3
"""Changes by which a journal begins: its first line, and the flushes of file and folder."""


def may_pass_unseen(fault: Fault) -> bool:
    """A journal that cannot be removed for good or has no room here, or a lack of hard links, fails no run."""
    elsewhere = fault.at < BEGINNING and fault.code in {errno.ENOSPC, errno.EROFS, errno.EDQUOT}
    removal = fault.struck_name == "fsync" and fault.calls == fault.at + 1  # of the folder, when all else is done
    return elsewhere or removal or fault.struck_name in {"unlink", "link"}


@pytest.mark.parametrize(
    ("deed", "layout"), [*QUICK_CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)]
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_whichever_change_fails(memory: Folders, deed: str, layout: str, *, lasting: bool) -> None:
    """The first change fails, then the second, and so on to the end; a short write comes before a lasting failure."""
    with memory.fresh() as folder:
        scene = Scene(deed, layout, folder / "images")
        assert scene.plan
        home = Home(scene.folder, folder / "pins")
        aftermath = Aftermath(scene)
        codes = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
        for at in range(10_000):
            home.restore()
            fault = Fault(at, codes[at % len(codes)], lasting=lasting, short=lasting)
            with fault.active():
                message = failure_of(scene)
            if not fault.struck:
                assert message is None
                break
            if message is None:
                assert may_pass_unseen(fault), f"change {at} ({fault.struck_name}) failed unseen"
            else:
                assert os.strerror(fault.code) in message
            aftermath.take(f"change {at} ({fault.struck_name}) failed")
        assert at > 5
        aftermath.judge(folder)


# --- a file system that is full, or may not be written ----------------------------------------------------------------


@contextmanager
def filled(folder: Path, free: int) -> Iterator[None]:
    """Fill a file system but for `free` bytes until the block ends."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            with suppress(OSError):
                while file.write(bytes(4096)) == 4096:
                    pass
            os.fsync(file.fileno())
            file.truncate(max(file.tell() - free, 0))
            yield
        finally:
            ballast.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize(
    ("deed", "layout"), [("commit", "4k"), ("pull", "512"), ("rebase-onto-nothing", "4k"), ("snapshot", "4k")]
)
def test_a_file_system_with_too_little_room(memory: Folders, kind: str, deed: str, layout: str) -> None:
    """Page by page there is a little more room, from none at all, until there is enough."""
    with memory.fresh() as folder, mounted(folder, kind, 8 << 20) as place:
        scene = Scene(deed, layout, place / "images")
        assert scene.plan
        home = Home(scene.folder, place / "pins")
        aftermath = Aftermath(scene)
        failures = 0
        for pages in range(256):
            home.restore()
            with filled(place, pages * 4096):
                message = failure_of(scene)
                if message is None:
                    break
                assert os.strerror(errno.ENOSPC) in message
                failures += 1
                aftermath.take(f"{pages} pages free")
        else:
            raise AssertionError("it never found room enough")
        assert failures > 2
        aftermath.judge(folder)


def test_on_a_full_file_system_images_can_be_deleted(memory: Folders) -> None:
    """There is no room for a journal beside them; the one that is kept elsewhere is found if the delete dies."""
    with memory.fresh() as folder, mounted(folder, "tmpfs", 4 << 20) as place:
        root, one, two = chain_of(place, "root", "one", "two")
        with filled(place, 0):
            with (
                mock.patch.object(files, "sync_folder", side_effect=KeyboardInterrupt),
                pytest.raises(KeyboardInterrupt),
            ):
                delete(place, two)
            (record,) = discover([place]).interrupted
            assert record.path.parent == state_folder()
            recovery.finish(record, lambda *_: pytest.fail("two is gone already"))
            assert limited(1 << 40, "delete", one, "-y").returncode == 0
        assert [p.name for p in place.iterdir()] == [root.name]
        assert discover([place]).interrupted == ()


def delete(folder: Path, image: Path) -> None:
    graph = discover([folder])
    plan = make_plan(graph, Delete((node(graph, image),)))
    BuiltinEngine().run(plan, Job(plan))


def test_a_user_who_has_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that nobody has named, as containers and services run under; the journal lies beside the images."""
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 2 0 64k")
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", mock.Mock(side_effect=KeyError))
    graph = discover([one])
    plan = make_plan(graph, Commit(node(graph, root), node(graph, one)))
    assert plan.hazards == ()
    BuiltinEngine().run(plan, Job(plan))
    delete(tmp_path, one)
    assert list(tmp_path.iterdir()) == [root]
    assert qemu.view(root)[:65536] == b"\2" * 65536


def test_a_file_system_that_may_not_be_written(memory: Folders) -> None:
    """That is seen before anything starts."""
    with memory.fresh() as folder, mounted(folder, "tmpfs", 4 << 20) as place:
        root, one = chain_of(place, "root", "one")
        qemu.io(one, "write -P 2 0 64k")
        qemu.run("mount", "-o", "remount,ro", place)
        for verb in (["commit", one], ["pull", one], ["snapshot", one, place / "new.qcow2"], ["delete", one]):
            done = limited(1 << 40, *verb, "-y")
            assert done.returncode == 3, done.stderr
            assert done.stderr.startswith("permission: ") or "permission: " in done.stderr
            assert done.stderr.count("\n") == 1
        assert root.exists()


def test_a_file_that_may_not_be_changed(tmp_path: Path) -> None:
    root, one = chain_of(tmp_path, "root", "one")
    qemu.io(one, "write -P 2 0 64k")
    if qemu.attempt("chattr", "+i", root).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        done = limited(1 << 40, "commit", "-y", one)
        assert done.returncode == 3, done.stderr
        assert "permission: " in done.stderr
        assert done.stderr.count("\n") == 1
    finally:
        qemu.run("chattr", "-i", root)
