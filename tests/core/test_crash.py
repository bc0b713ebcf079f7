"""Whatever dies in the middle of a run, what survives it reads the same; clusters may be leaked, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from backchain.engines.builtin import BuiltinEngine
from backchain.jobs import Job

from . import chains, crashes, qemu
from .home import Home
from .judging import Expected, Judge
from .recording import recorded
from .states import States
from .strategies import WAYS, WINDOWS, forests, operations
from .test_engine_oracle import trial_of
from .test_job import CHAIN, OPERATIONS
from .trial import FORCED, Trial, assert_same_view, carried, windows_of

if TYPE_CHECKING:
    from pathlib import Path

    from .folders import Folders

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


_STATES = 12
"""States of each random run that are judged."""


def assert_survived(found: Trial, folder: Path) -> None:
    """Judge the forest in `folder`: a copy of the trial's own, as a death has left it."""
    for path in found.built.paths:
        check = qemu.check(folder / path.name)
        assert check.corruptions == 0, f"{path.name}: {check.text}"
    top = found.path(found.operation.top) if hasattr(found.operation, "top") else found.path(found.operation.image)
    # The top of a commit still reads as it did until it is dropped on purpose.
    for path in {*found.surviving, top}:
        assert_same_view(path, found.before.views[path], qemu.view(folder / path.name))
    for path in found.built.paths:
        if path not in found.changed:
            assert qemu.digest(folder / path.name) == found.before.digests[path]


def run(found: Trial) -> None:
    """Run the plan with no hand on it."""
    BuiltinEngine().run(found.plan, Job(found.plan), FORCED)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_before_each_write(memory: Folders, name: str) -> None:
    """The process is killed before its first write, its second, and so on to the end; then the job is run again."""
    with memory.fresh() as folder:
        built = chains.build(CHAIN, folder / "images")
        home = Home(built.folder, folder / "pins")
        deaths = 0
        for call in range(10_000):
            home.restore()
            found = OPERATIONS[name](built)
            if not crashes.dies_at(call, lambda found=found: run(found)):  # type: ignore[misc]
                break
            deaths += 1
            assert_survived(found, built.folder)
            if call % 5 == 0:
                assert_runs_again(found, name)
        assert deaths > 5
        found.assert_done()


def assert_runs_again(found: Trial, name: str) -> None:
    """After a death the same operation can be planned and run afresh, unless it was as good as done."""
    if len(qemu.backing_chain(found.built.top)) < len(found.built.paths):
        return
    second = OPERATIONS[name](found.built)
    assert not second.plan.stopping(), second.plan.hazards
    BuiltinEngine().run(second.plan, Job(second.plan), FORCED)
    for path in second.surviving:
        assert_same_view(path, found.before.views[path], qemu.view(path))
    second.assert_sound(leaks_allowed=True)


@given(data=st.data())
def test_killed_anywhere(memory: Folders, data: st.DataObject) -> None:
    """Random forests, random deaths."""
    spec = data.draw(forests(min_layers=2, max_layers=4, max_branches=1))
    drawn = data.draw(operations(spec))
    call = data.draw(st.integers(0, 60), label="killed before call")
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), memory.fresh() as folder:
        built = chains.build(spec, folder / "images")
        assume(built.usable)
        found = trial_of(built, drawn)
        assume(not found.blocks)
        died = crashes.dies_at(call, lambda: run(found))
        event(f"died: {died}")
        if died:
            assert_survived(found, built.folder)
        else:
            found.assert_done()


@given(data=st.data())
def test_power_is_cut_anywhere(memory: Folders, data: st.DataObject) -> None:
    """Of what was not flushed an arbitrary part is lost: the order of the flushes must carry the views."""
    spec = data.draw(forests(min_layers=2, max_layers=4, max_branches=1))
    drawn = data.draw(operations(spec))
    seed = data.draw(st.integers(0, 1 << 30), label="seed of what is lost")
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), memory.fresh() as folder:
        built = chains.build(spec, folder / "images")
        assume(built.usable)
        found = trial_of(built, drawn)
        assume(not found.blocks)
        with recorded(built.folder) as recording:
            run(found)
        assert recording.events
        states = States(recording, seed)
        judge = Judge(folder / "judge", expected_of(found), states.contents.__getitem__)
        judge.judge(states.some(_STATES))


def expected_of(found: Trial) -> Expected:
    """Say what must hold whatever happens: the top of a commit still reads as it did until it is dropped on purpose."""
    top = found.path(found.operation.top) if hasattr(found.operation, "top") else found.path(found.operation.image)
    return Expected(
        {p.name: found.before.views[p] for p in {*found.surviving, top}},
        {p.name: found.before.digests[p] for p in found.built.paths if p not in found.changed},
    )
