"""What a journal tells when the images are no longer where they were: removed, renamed, moved, copied, relinked."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from backchain import journal, recovery
from backchain.discover import discover
from backchain.engines.intents import intent_of
from backchain.errors import MissingImageError, StalePlanError
from backchain.image import Fingerprint, ImageState
from backchain.journal import Journal, is_journal, note, read_journal, read_journals
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.planning import make_plan
from backchain.record import Intent, Stage

from . import qemu
from .images import chain_of, invalid, problems
from .interruption import committed, interrupted, leak, perform
from .planned import node, stopping
from .scenes import Scene

if TYPE_CHECKING:
    from collections.abc import Callable


def rebase_away(scene: Scene) -> None:
    graph = discover([scene.folder])
    perform(graph, Rebase(node(graph, scene.paths["over"]), node(graph, scene.paths["base"])))


CHANGES: dict[str, Callable[[Scene], object]] = {
    "removed": lambda scene: scene.paths["over"].unlink(),
    "renamed": lambda scene: scene.paths["over"].rename(scene.folder / "renamed.qcow2"),
    "moved away": lambda scene: scene.paths["over"].rename(scene.folder.parent / "over.qcow2"),
    "rebased": rebase_away,
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_image_is_invalid_before_all_data_is_in_place(tmp_path: Path, change: str) -> None:
    """The links look changed, but not by the commit: what it was to leave invalid still reads through its base."""
    scene = Scene("commit", "4k", tmp_path / "images")
    view = scene.views["top.qcow2"]
    interrupted(scene, tmp_path / "pins", "base")
    CHANGES[change](scene)
    graph = discover([scene.folder])
    assert ImageState.INVALID not in {i.state for i in graph.images.values()}, problems(graph)
    base, top = node(graph, scene.paths["base"]), node(graph, scene.paths["top"])
    assert base in graph.chain(top)
    assert "needed-file" in stopping(graph, Delete((base,)))
    assert qemu.view(scene.paths["top"]) == view


@pytest.mark.parametrize("deed", ["commit", "commit-active", "pull", "rebase"])
def test_what_was_done_by_another_run_is_not_left_to_be_done(tmp_path: Path, deed: str) -> None:
    """Whoever asked for the rest of it did not say that the job is over; a commit tells by itself."""
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base" if deed.startswith("commit") else "over")
    while (rest := recovery.what_remains(record, graph := recovery.graph_of(record))) is not None:
        perform(graph, rest)
    left = [] if deed.startswith("commit") else [record.path]
    assert [r.path for r in discover([scene.folder]).interrupted] == left
    assert recovery.finish(record, lambda _, rest: pytest.fail(f"{rest} is left")).problems == ()
    assert discover([scene.folder]).interrupted == ()
    assert invalid(scene.folder) == ({"mid.qcow2", "top.qcow2"} if deed == "commit" else
                                     {"mid.qcow2"} if deed == "commit-active" else set())  # fmt: skip


def test_a_commit_that_was_overtaken_is_not_finished(tmp_path: Path) -> None:
    """The top was pulled free of its base since; which command was wrong is not the question."""
    scene = Scene("commit", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    graph = discover([scene.folder])
    perform(graph, Pull(node(graph, scene.paths["top"]), None))
    with pytest.raises(StalePlanError, match=r"not below .*top\.qcow2"):
        recovery.finish(record, perform)


@pytest.mark.parametrize("deed", ["pull", "commit", "commit-active", "rebase", "snapshot"])
def test_a_folder_that_was_moved_is_finished_where_it_is(tmp_path: Path, deed: str) -> None:
    scene = Scene(deed, "4k", tmp_path / "images")
    interrupted(scene, tmp_path / "pins", "base" if deed.startswith("commit") else None)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    scene.folder.rename(moved)
    (record,) = read_journals([moved])
    assert recovery.finish(record, perform).problems == ()
    assert not discover([moved]).interrupted
    for path in moved.iterdir():
        if path.suffix == ".qcow2":
            assert (qemu.check(path).corruptions, qemu.check(path).leaks) == (0, 0), path.name
    if deed == "pull":
        assert qemu.info(moved / "over.qcow2")["backing-filename"] == "base.qcow2"


@pytest.mark.parametrize("deed", ["pull", "commit", "rebase"])
def test_a_copy_of_a_folder_is_finished_alone(tmp_path: Path, deed: str) -> None:
    """The journal was copied with the images: what it says is meant for the copies, and the others stay as they are."""
    scene = Scene(deed, "4k", tmp_path / "images")
    interrupted(scene, tmp_path / "pins", "base" if deed == "commit" else "over")
    before = {p: qemu.digest(p) for p in scene.folder.iterdir()}
    copy = tmp_path / "copy"
    shutil.copytree(scene.folder, copy)
    (record,) = read_journals([copy])
    recovery.finish(record, perform)
    assert {p: qemu.digest(p) for p in scene.folder.iterdir()} == before
    assert qemu.view(copy / "over.qcow2") == scene.views["over.qcow2"]
    links = {p.name: qemu.info(p).get("backing-filename") for p in copy.glob("*.qcow2")}
    assert links["over.qcow2"] == {"pull": "base.qcow2", "commit": "base.qcow2", "rebase": "mid.qcow2"}[deed]
    assert not discover([copy]).interrupted
    assert len(discover([scene.folder]).interrupted) == 1


def test_what_cannot_be_tidied_up_as_it_is_gone_is_said(tmp_path: Path) -> None:
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    scene.paths["over"].unlink()
    tidied = recovery.tidy_up(record)
    assert "over.qcow2 is gone" in tidied.problems[0]
    assert not tidied.kept
    assert not record.path.exists()


@pytest.mark.parametrize("deed", ["pull", "rebase"])
def test_an_image_with_another_name_by_now_is_not_finished(tmp_path: Path, deed: str) -> None:
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    scene.paths["over"].rename(scene.folder / "renamed.qcow2")
    with pytest.raises(MissingImageError, match=r"over\.qcow2 is gone"):
        recovery.finish(record, perform)
    assert record.path.exists()


@pytest.mark.parametrize("deed", ["commit", "commit-active", "commit-kept"])
def test_the_same_commit_run_again_ends_what_the_first_left(tmp_path: Path, deed: str) -> None:
    """Nothing is a mix any more, nothing is left to be done, and what it has leaked is given back."""
    scene = Scene(deed, "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    leaks = qemu.check(scene.paths["base"]).leaks
    perform(discover([scene.folder]), scene.deed.ask(scene))
    assert leaks
    assert qemu.check(scene.paths["base"]).clean
    graph = discover([scene.folder])
    assert not graph.interrupted
    assert not record.path.exists()
    base, top = (node(graph, scene.paths[name]) for name in ("base", "top"))
    assert "corrupt" not in stopping(graph, Snapshot(base, scene.folder / "new.qcow2"))
    if deed != "commit":
        assert stopping(graph, Snapshot(top, scene.folder / "new.qcow2")) == set()


def test_another_commit_changes_no_image_to_tidy_up(tmp_path: Path) -> None:
    """The job of before wrote one more; its journal stays, and tells that nothing but leaks can be left."""
    scene = Scene("commit-under-two", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    graph = discover([scene.folder])
    perform(graph, Pull(node(graph, scene.paths["over2"]), None))
    before = qemu.digest(scene.paths["over2"])
    perform(discover([scene.folder]), scene.deed.ask(scene))
    assert qemu.digest(scene.paths["over2"]) == before
    (left,) = discover([scene.folder]).interrupted
    assert (left.path, left.linking) == (record.path, True)
    assert recovery.finish(left, perform).problems == ()
    assert discover([scene.folder]).interrupted == ()


def test_an_image_that_a_larger_commit_invalidates_is_left_as_it_is(tmp_path: Path) -> None:
    """The job of before wrote it, and it leaks; were that given back, it would no longer be known as invalid."""
    scene = Scene("commit", "4k", tmp_path / "images")
    over, new = scene.paths["over"], scene.folder / "new.qcow2"
    interrupted(scene, tmp_path / "pins", "base")
    graph = discover([scene.folder])
    perform(graph, Snapshot(node(graph, over), new))
    leak(over)
    before = qemu.digest(over)
    graph = discover([scene.folder])
    perform(graph, Commit(node(graph, scene.paths["base"]), node(graph, over)))
    assert qemu.info(new)["backing-filename"] == "base.qcow2"
    assert not discover([scene.folder]).interrupted
    assert qemu.digest(over) == before
    assert invalid(scene.folder) == {"mid.qcow2", "top.qcow2", "over.qcow2"}


def test_images_in_a_symlinked_folder_are_told_of_where_they_are(tmp_path: Path) -> None:
    """A link with ``..`` leads out of where the symlink leads, not out of where it is."""
    for name in ("one/images", "one/bases", "two/bases"):
        (tmp_path / name).mkdir(parents=True)
    (base,) = chain_of(tmp_path / "one" / "bases", "base")
    top = tmp_path / "one" / "images" / "top.qcow2"
    qemu.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "../bases/base.qcow2", top)
    qemu.io(top, "write -q -P 1 0 64k")
    (tmp_path / "two" / "images").symlink_to(tmp_path / "one" / "images")
    asked = tmp_path / "two" / "images" / "top.qcow2"
    graph = discover([asked], scan=[tmp_path / "one"])
    perform(graph, Commit(graph.chain(node(graph, asked))[-1], node(graph, asked)))
    assert qemu.view(base)[:1] == b"\1"
    graph = discover([asked], scan=[tmp_path / "one"])
    begun = Journal.begin(intent_of(make_plan(graph, Pull(node(graph, asked), None))))
    begun.close()
    assert begun.path.parent == top.parent
    assert [r.intent.target for r in read_journals([top.parent])] == [top]


# --- journals that were cut off as they began -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b'{"backchain": 1, "fol', bytes(300)], ids=["empty", "cut", "zeros"])
def test_a_journal_without_a_whole_first_line_goes_with_the_next_operation(tmp_path: Path, content: bytes) -> None:
    """Whoever began it died before anything was changed; while he lives nobody takes it away."""
    (base,) = chain_of(tmp_path, "base")
    dead, alive = (tmp_path / f".backchain-{name}.journal" for name in ("dead", "alive"))
    for path in (dead, alive):
        path.write_bytes(content)
    with alive.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        graph = discover([base])
        assert graph.interrupted == ()
        perform(graph, Snapshot(node(graph, base), tmp_path / "new.qcow2"))
        assert {p.name for p in tmp_path.iterdir()} == {"base.qcow2", "new.qcow2", alive.name}


def test_a_stage_is_noted_behind_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """On a full disk the last line of a job that dies may be there in part."""
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    with record.path.open("ab") as file:
        file.write(b'{"sta')
    note(record, Stage.CLEANING)
    now = read_journal(record.path)
    assert now is not None
    assert now.stage is Stage.CLEANING


def test_whoever_sees_the_images_can_read_the_journal(tmp_path: Path) -> None:
    journal = Journal.begin(Intent("delete", {"images": []}, tmp_path / "gone.qcow2", ()))
    assert journal.path.stat().st_mode & 0o777 == 0o644
    journal.discard()


def test_a_journal_that_cannot_be_read_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base,) = chain_of(tmp_path, "base")
    (tmp_path / ".backchain-x.journal").write_bytes(b"{}")
    assert discover([base]).incomplete == ()
    may = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: not is_journal(Path(p).name) and may(p, mode))
    assert ".backchain-x.journal" in " ".join(discover([base]).incomplete)


def test_what_an_operation_has_begun_is_kept_by_the_next_one(tmp_path: Path) -> None:
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    graph = discover([scene.folder])
    perform(graph, Snapshot(node(graph, scene.paths["over"]), scene.folder / "new.qcow2"))
    assert read_journal(record.path) == record


def test_an_interrupted_job_does_not_look_alive_while_another_operation_begins(tmp_path: Path) -> None:
    """Else a reader would miss, just then, that an image is half committed; it looks whenever something is locked."""
    scene = Scene("pull", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "over")
    lock = fcntl.flock
    alive: list[bool] = []

    def looked_at(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        if operation & fcntl.LOCK_EX:
            now = read_journal(record.path)
            assert now is not None
            alive.append(now.alive)

    with mock.patch("fcntl.flock", looked_at):
        Journal.begin(Intent("delete", {"images": []}, scene.paths["over"], ())).discard()
    assert alive == [False], "the new journal's own lock is the only one"


def test_a_journal_is_begun_though_it_is_looked_at_or_taken_away_before_it_is_locked(tmp_path: Path) -> None:
    """A search reads what it finds, and another operation may take it for the remains of a job."""
    (base,) = chain_of(tmp_path, "base")
    make, seen = tempfile.mkstemp, []

    def looked_at(**where: str) -> tuple[int, str]:
        descriptor, name = make(**where)
        seen.append(name)
        looking = os.open(name, os.O_RDONLY)
        fcntl.flock(looking, fcntl.LOCK_SH)
        if len(seen) == 1:
            Path(name).unlink()
        threading.Timer(0.05, os.close, (looking,)).start()
        return descriptor, name

    with mock.patch("tempfile.mkstemp", looked_at):
        begun = Journal.begin(Intent("delete", {"images": [str(base)]}, base, ()))
    assert begun.path.name == Path(seen[1]).name
    assert read_journals([tmp_path])[0].alive
    begun.discard()


# --- journals that lie elsewhere, belong to others, or are large ------------------------------------------------------


def test_a_journal_with_the_users_state_is_found_through_any_path(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (base, top) = chain_of(folder, "base", "top")
    intent = Intent("pull", {"image": str(top), "base": None}, top, ())
    with mock.patch.object(journal, "_folders_for", return_value=[state()]):
        Journal.begin(intent).close()
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link", folder / ".." / "images"):
        assert [r.intent.target for r in read_journals([place])] == [top]
        assert [r.intent.target for r in discover([place]).interrupted] == [top]
    graph = discover([folder], scan=[journal.state_folder()])
    assert len(graph.interrupted) == 1, "it is found in two ways"
    for record in read_journals([folder]):
        record.path.unlink()
    assert discover([base]).interrupted == ()


def state() -> Path:
    place = journal.state_folder()
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.mark.parametrize(
    "change",
    [{"arguments": {}}, {"arguments": {"base": 1, "top": 2, "keep_top": 3}}, {"arguments": "x"}, {"operation": "mend"},
     {"folder": 5}, {"target": None}, {"written": [None]}, {"links": [{}]}, {"invalidated": [{}]}],
)  # fmt: skip
def test_a_journal_that_makes_no_sense_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever a file of that name holds, the images beside it can be worked on."""
    scene = Scene("commit", "4k", tmp_path / "images")
    record = interrupted(scene, tmp_path / "pins", "base")
    first, rest = record.path.read_text().split("\n", 1)
    record.path.write_text(json.dumps(json.loads(first) | change) + "\n" + rest)
    assert read_journal(record.path) is None
    graph = discover([scene.folder])
    assert stopping(graph, Snapshot(node(graph, scene.paths["base"]), scene.folder / "new.qcow2")) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_journal_of_another_user_is_told_of_and_not_believed(tmp_path: Path) -> None:
    committed(tmp_path / "images")
    (record,) = read_journals([tmp_path / "images"])
    os.chown(record.path, 4242, -1)
    graph = discover([tmp_path / "images"])
    assert graph.surroundings.journals == ()
    assert any("the journal of another user" in line for line in graph.surroundings.incomplete)


def test_the_journal_of_many_images_is_read(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{'long-name' * 20}-{n}.qcow2" for n in range(8000))
    intent = Intent("delete", {"images": [str(p) for p in paths]}, paths[0], (), (),
                    tuple((p, Fingerprint(1, n, 2, 3)) for n, p in enumerate(paths)))  # fmt: skip
    begun = Journal.begin(intent)
    begun.reach(Stage.ABANDONED)
    begun.close()
    record = read_journal(begun.path)
    assert record is not None
    assert record.intent == intent
    assert begun.path.stat().st_size > 2 << 20
