"""After a death: the journal tells what was interrupted; leaving it costs nothing, and finishing it does all of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from backchain import recovery
from backchain.discover import discover
from backchain.errors import MissingImageError
from backchain.image import ImageState
from backchain.journal import SCRATCH_SUFFIX
from backchain.operations import Commit, Delete, Rebase, Snapshot
from backchain.record import Stage

from . import damage, qemu
from .home import Home, state_of
from .interruption import interrupted, perform
from .judging import Judge
from .recording import Flush, Sync, recorded
from .scenes import Scene
from .states import State, States
from .trial import assert_same_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backchain.record import Record

    from .folders import Folders
    from .recording import Recording

CASES = [
    ("commit", "4k"), ("commit-active", "4k"), ("commit-under-two", "4k"), ("snapshot", "4k"), ("delete", "4k"),
    ("rebase-link", "long-names"),
]  # fmt: skip
SLOW_CASES = [
    ("commit-next", "4k"), ("commit-kept", "4k"), ("commit", "512"), ("commit", "raw-base"), ("commit", "growing"),
    ("commit", "shorter-base"), ("commit", "shared-tables"), ("commit", "refcount-1"), ("commit", "v2"),
    ("commit-under-two", "512"), ("commit-under-two", "long-names"), ("commit-active", "512"),
    ("commit-active", "extended-l2"), ("commit-active", "shorter-raw-base"), ("commit-active", "compressed"),
    ("commit-next", "batches"), ("pull", "4k"), ("pull", "refcount-64"), ("pull", "batches-shared"),
    ("pull-everything", "64k"), ("pull-everything", "v2"), ("rebase", "4k"), ("rebase", "extended-l2"),
    ("rebase-elsewhere", "compressed"), ("rebase-onto-nothing", "shared-tables"), ("rebase-link", "512"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("deed", "layout"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)]
)
def test_recovery_from_every_stage(memory: Folders, deed: str, layout: str) -> None:
    with memory.fresh() as folder:
        scene = Scene(deed, layout, folder / "images")
        assert scene.plan
        home = Home(scene.folder, folder / "pins")
        with recorded(scene.folder) as recording:
            scene.run()
        states = States(recording)
        recovered = [r for s in stages(recording, states) for r in both_ways(scene, home, states, s)]
        assert len(recovered) >= 6
        expected = replace(scene.expected(), leaks=False)
        Judge(folder / "judge", expected, states.contents.__getitem__).judge(recovered)


def stages(recording: Recording, states: States) -> list[State]:
    """Give the states around each flush, and those in which all that is not flushed is lost; each once."""
    flushes = [n for n, e in enumerate(recording.events) if isinstance(e, Flush | Sync)]
    around = [states.killed_before(n + more) for n in flushes for more in (0, 1)]
    return list({state.key: state for state in (*around, *states.all_lost())}.values())


def both_ways(scene: Scene, home: Home, states: States, state: State) -> Iterator[State]:
    """Recover from a state by leaving and by finishing what was interrupted; give what each leads to."""
    for recover in (leave, finish):
        home.put({name: states.contents[digest] for name, digest in state.files.items()})
        records = discover([scene.folder]).interrupted
        if not records:
            continue
        story = f"{state.story}: {recover.__name__}"
        try:
            (record,) = records
            recover(scene, record)
            assert_tidy(scene.folder, left=recover is leave and isinstance(scene.operation, Commit))
        except Exception as error:
            raise AssertionError(f"{story}: {error}") from error
        yield state_of(scene.folder, story, states.contents)


def leave(scene: Scene, record: Record) -> None:
    """Tidy up, and leave the links as they are."""
    tidied = recovery.tidy_up(record)
    assert tidied.problems == ()


def finish(scene: Scene, record: Record) -> None:
    """Do what is left; then all must be as after a run that nothing interrupted."""
    assert recovery.finish(record, perform).problems == ()
    assert_finished(scene)


def assert_tidy(folder: Path, *, left: bool = False) -> None:
    """Nothing is left of what was made in part, and no journal asks for more."""
    graph = discover([folder])
    assert graph.interrupted == ()
    memories = ([], [Stage.LEFT], *([[Stage.UNDONE]] if left else []))
    assert [r.stage for r in graph.surroundings.journals] in memories
    assert not [p for p in folder.iterdir() if p.name.endswith(SCRATCH_SUFFIX)]


def assert_finished(scene: Scene) -> None:
    """The chain is as the plan said it would be."""
    plan, operation = scene.plan, scene.operation
    for relink in plan.relinked:
        path = plan.info(relink.image).path
        info = qemu.info(path)
        assert info.get("backing-filename") == relink.name, path.name
        assert info.get("backing-filename-format") == relink.format, path.name
    graph = discover([scene.folder])
    if isinstance(operation, Commit):
        base, top = scene.paths["base"], scene.views[plan.before[operation.top].path.name]
        assert_same_view(base, top + scene.views[base.name][len(top) :], qemu.view(base))
        invalid = {i.path for i in graph.images.values() if i.state is ImageState.INVALID}
        assert invalid == {plan.before[i].path for i in plan.invalidated}
        if plan.emptied is not None:
            assert not any(e["data"] for e in qemu.map_json(plan.before[plan.emptied].path) if e["depth"] == 0)
    elif isinstance(operation, Snapshot):
        assert operation.overlay.exists()
    elif isinstance(operation, Delete):
        assert not scene.written & {p.name for p in scene.folder.iterdir()}


# --- what must not be done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["pull", "rebase", "commit"])
def test_a_base_that_is_gone_stops_the_finish(tmp_path: Path, deed: str) -> None:
    """Without the image that was asked for, an operation onto nothing would be another operation."""
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base" if deed == "commit" else "over")
    gone = scene.paths["mid" if deed == "rebase" else "base"]
    gone.rename(tmp_path / "elsewhere")
    before = {p: qemu.digest(p) for p in scene.paths.values() if p != gone}
    with pytest.raises(MissingImageError, match=f"{gone.name} is gone"):
        recovery.finish(record, perform)
    assert {p: qemu.digest(p) for p in before} == before
    assert record.path.exists()
    (tmp_path / "elsewhere").rename(gone)
    finish(scene, record)
    assert_tidy(scene.folder)


def test_a_file_of_the_same_name_is_not_deleted(tmp_path: Path) -> None:
    """What took a removed image's name since is another image."""
    scene = Scene("delete", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", None)
    assert record.intent.operation == "delete"
    over = scene.paths["over"]
    over.unlink()
    qemu.create(over, 1 << 20)
    tidied = recovery.finish(record, perform)
    assert tidied.problems == ()
    assert over.exists()
    assert not scene.paths["over2"].exists()
    assert discover([scene.folder]).interrupted == ()


def test_a_rebase_of_the_name_alone_is_finished(tmp_path: Path) -> None:
    """Old and new name lead to the same file, and yet the new one was asked for."""
    scene = Scene("rebase-link", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", None)
    assert isinstance(recovery.what_remains(record, recovery.graph_of(record)), Rebase)
    recovery.finish(record, perform)
    assert qemu.info(scene.paths["top"])["backing-filename"] == "././mid.qcow2"
    assert recovery.what_remains(record, recovery.graph_of(record)) is None


def test_what_a_commit_invalidated_is_known_before_its_end(tmp_path: Path) -> None:
    """Killed after the last link and before the journal's last line: no overlay counts that nothing reads through."""
    scene = Scene("commit", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over", -1)
    assert record.stage is Stage.RELINKING
    graph = discover([scene.folder])
    invalid = {i.path for i in graph.images.values() if i.state is ImageState.INVALID}
    assert invalid == {scene.paths["mid"], scene.paths["top"]}
    assert recovery.what_remains(record, graph) is None


@pytest.mark.parametrize("flush", [None, "base"])
@pytest.mark.parametrize("recover", [recovery.tidy_up, lambda record: recovery.finish(record, perform)])
def test_a_raw_base_that_begins_like_a_qcow2_image_by_now(
    tmp_path: Path, flush: str | None, recover: Callable[[Record], recovery.Tidied]
) -> None:
    """The guest put a disk image at the start of its disk: its bytes are data, and nothing in them is tidied up."""
    scene = Scene("commit", "raw-base", tmp_path / "images")
    inner, base, top = tmp_path / "inner.qcow2", scene.paths["base"], scene.paths["top"]
    qemu.create(inner, 64 * 1024, cluster_size=512)
    qemu.io(inner, "write -q -P 3 0 8k")
    start = inner.read_bytes().ljust(16 * 1024, b"\0")
    inner.write_bytes(start)
    qemu.io(top, f"write -q -s {inner} 0 {len(start)}")
    del scene.graph  # it was read before
    scene.operation = scene.deed.ask(scene)
    size, view = base.stat().st_size, qemu.view(scene.paths["over"])
    record = interrupted(scene, tmp_path / "pins", flush)
    if flush is not None:
        assert base.read_bytes().startswith(b"QFI\xfb")
        with pytest.raises(AssertionError, match="format-mismatch"):
            recovery.finish(record, perform)
        recover = recovery.tidy_up
    assert recover(record).problems == ()
    assert base.stat().st_size == size
    assert qemu.view(scene.paths["over"]) == view
    assert_tidy(scene.folder, left=recover is recovery.tidy_up)


@pytest.mark.parametrize("copied", [True, False])
def test_a_file_that_is_another_by_now_is_not_tidied(tmp_path: Path, *, copied: bool) -> None:
    """A copy that took the target's name since may be in use elsewhere, or hold what nobody knows, or be no image."""
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    over = scene.paths["over"]
    if copied:
        shutil.copyfile(over, tmp_path / "copy")
    else:
        (tmp_path / "copy").write_bytes(bytes(4096))
    (tmp_path / "copy").replace(over)
    before = qemu.digest(over)
    tidied = recovery.tidy_up(record)
    assert "is another file than the one that was written" in tidied.problems[0]
    assert not tidied.kept
    assert not record.path.exists()
    assert qemu.digest(over) == before


def test_an_image_with_what_is_not_known_keeps_its_leaks_and_not_the_job(tmp_path: Path) -> None:
    """No repair makes its header extension known, so that the job would be told of for ever."""
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    over = scene.paths["over"]
    unknown = [(damage.BACKING_FORMAT, b"qcow2"), (0x12345678, b"whose?")]
    over.write_bytes(damage.with_header(over.read_bytes(), unknown, b"top.qcow2"))
    leaks = qemu.check(over).leaks
    tidied = recovery.tidy_up(record)
    assert leaks
    assert "header extensions whose clusters are not known; qemu-img check -r leaks" in tidied.problems[0]
    assert (tidied.leaks, tidied.kept, record.path.exists()) == ({}, False, False)
    assert qemu.check(over).leaks == leaks
    assert qemu.view(over) == scene.views["over.qcow2"]


def test_a_journal_whose_writer_lives_is_left_alone(tmp_path: Path) -> None:
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", None)
    descriptor = os.open(record.path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert discover([scene.folder]).interrupted == ()
        recovery.tidy_up(record)
        assert record.path.exists()
    finally:
        os.close(descriptor)
