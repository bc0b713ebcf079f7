"""Every state in which a death can leave the files of a run, judged by QEMU.

In each of them every surviving image reads as it did, ``qemu-img check`` finds no corruption, what the plan does not
name is untouched, and a journal tells of what is half done.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from backchain.journal import SCRATCH_SUFFIX, is_journal, read_journal

from . import qemu
from .judging import Judge
from .recording import Content, Flush, Names, Recording, Sync, recorded
from .scenes import DEEDS, LAYOUTS, Scene
from .states import States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .folders import Folders
    from .recording import Event
    from .states import State

_ALL = list(LAYOUTS)
_LEFT_OUT = {
    ("commit-active", "batches-growing"), ("commit-active", "batches-shared"), ("commit-active", "growing"),
    ("pull", "batches-growing"), ("rebase", "batches-growing"), ("rebase", "batches-shared"),
}  # fmt: skip
"""The same code on the same tables as in another case, and slow."""
MATRIX: dict[str, list[str]] = {
    "commit": _ALL,
    "commit-under-two": ["4k", "512", "long-names"],
    "commit-active": _ALL,
    "commit-next": ["4k", "refcount-1", "raw-base", "shorter-base", "batches"],
    "commit-kept": ["4k", "512", "raw-base"],
    "pull": _ALL,
    "pull-everything": ["64k", "extended-l2", "v2", "raw-base", "compressed"],
    "rebase": _ALL,
    "rebase-elsewhere": ["4k", "extended-l2", "v2", "shorter-base", "batches"],
    "rebase-onto-nothing": ["4k", "512", "shorter-raw-base"],
    "rebase-link": ["4k", "512", "v2", "long-names"],
    "snapshot": ["4k", "raw-base", "long-names"],
    "delete": ["4k"],
}
QUICK = {
    ("commit", "4k"), ("commit-next", "4k"), ("pull", "4k"), ("rebase", "extended-l2"), ("rebase-link", "long-names"),
    ("snapshot", "4k"), ("delete", "4k"),
}  # fmt: skip
CASES = [
    pytest.param(deed, layout, marks=() if (deed, layout) in QUICK else pytest.mark.slow)
    for deed, layouts in MATRIX.items()
    for layout in layouts
    if (deed, layout) not in _LEFT_OUT
]


def judge_of(scene: Scene, states: States) -> Judge:
    """Make a judge of a scene's states."""
    return Judge(scene.folder.parent / "judge", scene.expected(), states.contents.__getitem__)


@pytest.mark.parametrize(("deed", "layout"), CASES)
def test_every_state_reads_the_same(
    memory: Folders, deed: str, layout: str, record_property: Callable[[str, object], None]
) -> None:
    with memory.fresh() as folder:
        scene = Scene(deed, layout, folder / "images")
        assert not [h for h in scene.plan.stopping() if h.code != "internal-snapshots"], scene.plan.hazards
        with recorded(scene.folder) as recording:
            scene.run()
        states = States(recording)
        every = list(states.every())
        judge = judge_of(scene, states)
        judge.judge(every)
        record_property("states", judge.states)
        record_property("processes", judge.processes)
        assert len(every) > len(recording.events) // 2
        assert_journal_tells(scene, every, states, folder / "journals")
        assert_all_is_flushed(recording)


def assert_journal_tells(scene: Scene, every: Iterable[State], states: States, folder: Path) -> None:
    """Whatever is half done, a readable journal says so; before and after there is nothing to tell."""
    folder.mkdir()
    after = {p.name: qemu.digest(p) for p in scene.folder.iterdir() if not p.name.startswith(".")}
    readable: dict[str, bool] = {}
    for state in every:
        images = {name: digest for name, digest in state.files.items() if not name.startswith(".")}
        scratch = any(name.endswith(SCRATCH_SUFFIX) for name in state.files)
        if not scratch and images in (scene.digests, after):
            continue
        journals = [name for name in state.files if is_journal(name)]
        assert len(journals) == 1, f"{state.story}: nothing tells of it"
        digest = state.files[journals[0]]
        if digest not in readable:
            path = folder / journals[0]
            path.write_bytes(states.contents[digest])
            record = read_journal(path)
            readable[digest] = record is not None and record.intent.operation == scene.operation.name
        assert readable[digest], f"{state.story}: the journal cannot be read"


def assert_all_is_flushed(recording: Recording) -> None:
    """What is said to be done is on the disk, whatever happens to the machine then."""
    journals = {number for name, number in _named(recording) if is_journal(name)}
    flushed: dict[int, int] = {e.file: n for n, e in enumerate(recording.events) if isinstance(e, Flush)}
    synced = max((n for n, e in enumerate(recording.events) if isinstance(e, Sync)), default=-1)
    for number, event in enumerate(recording.events):
        if isinstance(event, Content) and event.file not in journals:
            assert number < flushed.get(event.file, -1), f"{event} is never flushed"
        if isinstance(event, Names) and not all(is_journal(name) for name, _ in event.changes):
            assert number < synced, f"{event} is never flushed"


def _named(recording: Recording) -> Iterator[tuple[str, int]]:
    for event in recording.events:
        if isinstance(event, Names):
            yield from ((name, file) for name, file in event.changes if file is not None)


# --- the harness itself: a state that is wrong is found ---------------------------------------------------------------


def _without(recording: Recording, unwanted: Callable[[Event], bool]) -> Recording:
    events = [e for e in recording.events if not unwanted(e)]
    return Recording(recording.folder, recording.names, recording.contents, events)


@pytest.mark.parametrize(
    ("deed", "layout", "image"),
    [
        ("commit", "4k", "base"),
        ("pull", "4k", "over"),
        ("rebase-link", "long-names", "top"),
        ("commit-next", "4k", "mid"),
    ],
)
def test_a_run_without_flushes_is_found_out(memory: Folders, deed: str, layout: str, image: str) -> None:
    """The same writes in the same order, but not one of them waited for the disk."""
    with memory.fresh() as folder:
        scene = Scene(deed, layout, folder / "images")
        with recorded(scene.folder) as recording:
            scene.run()
        number = recording.names[scene.paths[image].name]
        states = States(_without(recording, lambda e: e == Flush(number)))
        with pytest.raises(AssertionError, match=image):
            judge_of(scene, states).judge(states.every())


def test_a_journal_that_comes_too_late_is_found_out(memory: Folders) -> None:
    with memory.fresh() as folder:
        scene = Scene("commit", "4k", folder / "images")
        with recorded(scene.folder) as recording:
            scene.run()
        states = States(_without(recording, lambda e: isinstance(e, Sync)))
        with pytest.raises(AssertionError, match="nothing tells of it"):
            assert_journal_tells(scene, states.every(), states, folder / "journals")


def test_a_wrong_order_is_found_out(memory: Folders) -> None:
    """Events in the opposite order, the link first and the data last, show a guest what was never there."""
    with memory.fresh() as folder:
        scene = Scene("pull", "4k", folder / "images")
        with recorded(scene.folder) as recording:
            scene.run()
        recording.events.reverse()
        states = States(recording)
        with pytest.raises(AssertionError, match="over"):
            judge_of(scene, states).judge(states.killed())


def test_what_is_not_recorded_is_noticed(memory: Folders) -> None:
    with memory.fresh() as folder:
        (folder / "image").write_bytes(b"before")
        with pytest.raises(AssertionError, match="written to unseen"), recorded(folder):
            (folder / "image").write_bytes(b"after")
        with pytest.raises(AssertionError, match="came or went unseen"), recorded(folder):
            (folder / "other").write_bytes(b"")


def test_digests_are_those_of_the_files(memory: Folders) -> None:
    """What a recording plays back to is byte for byte what is there."""
    with memory.fresh() as folder:
        scene = Scene("commit-active", "compressed", folder / "images")
        with recorded(scene.folder) as recording:
            scene.run()
        played = recording.after()
        for path in scene.paths.values():
            assert hashlib.sha256(played[path.name]).hexdigest() == qemu.digest(path)


def test_every_deed_and_layout_has_its_case() -> None:
    assert set(DEEDS) == set(MATRIX)
    assert {layout for layouts in MATRIX.values() for layout in layouts} == set(LAYOUTS)
