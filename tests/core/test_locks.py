"""QEMU's locks: backchain keeps off what QEMU holds, and QEMU off what backchain holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from backchain.engines.builtin import BuiltinEngine
from backchain.errors import ImageInUseError
from backchain.jobs import Job, JobState

from . import chains, qemu
from .test_job import CHAIN, OPERATIONS, Runner, trial
from .trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

    from .folders import Folders

WRITE_LOCK = re.compile(r'Failed to get "write" lock')
SHARED_WRITE_LOCK = re.compile(r'Failed to get shared "write" lock')


def assert_refused_untouched(found: Trial) -> None:
    """The run of a plan made before somebody opened an image is refused with exit status 5; nothing is written."""
    job = Job(found.plan)
    with pytest.raises(ImageInUseError) as caught:
        BuiltinEngine().run(found.plan, job)
    assert caught.value.exit_code == 5
    assert job.state is JobState.FAILED
    assert isinstance(job.error, ImageInUseError)
    for path in found.built.paths:
        assert qemu.digest(path) == found.before.digests[path]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_image_that_qemu_writes_is_in_use(folders: Folders, name: str) -> None:
    """The top is open for writing, as in a running machine: planned as in-use, and not run."""
    with trial(folders, name) as found, qemu.held_open(found.built.top):
        assert_refused_untouched(found)
        again = OPERATIONS[name](found.built)
        assert "in-use" in again.blocks
        assert_refused_untouched(again)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_target_that_qemu_reads_is_in_use(folders: Folders, name: str) -> None:
    """Even a reader (qemu-img convert, a backup) must not see the target change under it."""
    with trial(folders, name) as found, qemu.held_open(found.target, "-r"):
        again = OPERATIONS[name](found.built)
        assert "in-use" in again.blocks
        assert_refused_untouched(again)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_source_that_qemu_writes_is_in_use(folders: Folders, name: str) -> None:
    """An intermediate that is written meanwhile would give torn data."""
    with trial(folders, name) as found, qemu.held_open(found.built.paths[1]):
        again = OPERATIONS[name](found.built)
        assert "in-use" in again.blocks
        assert_refused_untouched(again)


def test_an_overlay_held_by_a_machine_protects_its_base(folders: Folders) -> None:
    """Snap-3 is to be committed into Snap-2 while a machine runs on a sibling branch's top: the base is locked."""
    with folders.fresh() as folder:
        built = chains.build(CHAIN, folder / "images")
        side = built.folder / "side.qcow2"
        qemu.create(side, None, backing=built.paths[0])
        with qemu.held_open(side):
            found = Trial.commit(built, 0, 1)
            assert {"in-use", "sibling-corruption"} <= found.blocks


def test_it_runs_once_the_image_is_free_again(folders: Folders) -> None:
    with trial(folders, "commit") as found:
        with qemu.held_open(found.built.top):
            assert_refused_untouched(found)
        found.run()


def test_a_reader_of_a_source_does_not_stop_a_pull(folders: Folders) -> None:
    """A pull only reads its sources, and so may others, as with QEMU's own jobs."""
    with trial(folders, "pull") as found, qemu.held_open(found.built.paths[1], "-r"):
        again = OPERATIONS["pull"](found.built)
        assert "in-use" not in again.codes
        again.run()


def probes(path: Path) -> tuple[str, str]:
    """Give what qemu-io (to write) and qemu-img info (to read) say of an image that somebody uses."""
    kind = qemu.format_of(path)
    writing = qemu.attempt("qemu-io", "-f", kind, "-c", "quit", path).stderr
    reading = qemu.attempt("qemu-img", "info", "-f", kind, path).stderr
    return writing, reading


@pytest.mark.parametrize("name", OPERATIONS)
def test_qemu_keeps_off_while_the_engine_runs(folders: Folders, name: str) -> None:
    """Amid a run nobody can open the target at all, nor write to what is read; afterwards everybody can again."""
    with trial(folders, name) as found:
        job = Job(found.plan)
        job.pause()
        runner = Runner(found, job)
        job.step(2)
        runner.until(lambda: runner.done() == 2)
        target_write, target_read = probes(found.target)
        assert WRITE_LOCK.search(target_write), target_write
        assert SHARED_WRITE_LOCK.search(target_read), target_read
        for image in found.plan.sources:
            writing, _ = probes(found.path(image))
            assert WRITE_LOCK.search(writing), (found.path(image).name, writing)
        for relink in found.plan.relinked:
            writing, _ = probes(found.path(relink.image))
            assert WRITE_LOCK.search(writing), (found.path(relink.image).name, writing)
        for image in found.plan.sources:
            if found.path(image) not in found.changed:
                assert not probes(found.path(image))[1], "a source that is only read may be read by others"
        job.resume()
        runner.finish()
        assert runner.error is None
        for path in found.built.paths:
            assert probes(path) == ("", "")
        found.assert_done()


def test_the_lock_errors_are_those_that_qemu_itself_causes(folders: Folders) -> None:
    """Compare with an image that qemu-io writes: the same words for the reader and for the writer."""
    with trial(folders, "pull") as found:
        with qemu.held_open(found.target):
            theirs = probes(found.target)
        job = Job(found.plan)
        job.pause()
        runner = Runner(found, job)
        job.step(1)
        runner.until(lambda: runner.done() == 1)
        ours = probes(found.target)
        job.cancel()
        runner.finish()
        assert ours == theirs
