"""The figures and cases that the project is built on, and layouts by name, run for real and judged by QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BlockedError, StalePlanError, UsageError
from backchain.jobs import Job
from backchain.plan import Severity

from . import chains, qemu
from .chains import Forest, Layer, Write
from .test_engine_oracle import assert_damage_predicted
from .test_map_oracle import LAYOUTS
from .trial import Trial, differing, links

if TYPE_CHECKING:
    from collections.abc import Callable

    from .folders import Folders

MIB = 1 << 20
ROOT, SNAP_1, SNAP_2, SNAP_3, SNAP_4 = range(5)

FIGURES = Forest((
    Layer(MIB, commands=(Write("data", 0, 1024),)),
    Layer(MIB, ROOT, commands=(Write("data", 128, 256),)),
    Layer(MIB, SNAP_1, commands=(Write("data", 256, 256), Write("zero", 896, 128))),
    Layer(MIB, SNAP_2, commands=(Write("compressed", 512, 256),)),
    Layer(MIB, SNAP_3, commands=(Write("data", 640, 256),)),
))  # fmt: skip
"""RootBase <- Snap-1 <- Snap-2 <- Snap-3 <- Snap-4 (active)."""

SIDE = Layer(MIB, ROOT, commands=(Write("data", 128, 64),))
"""A second branch on the same base."""


def names(built: chains.Built, *indices: int) -> set[Any]:
    return {built.paths[i] for i in indices}


def test_figure_4(folders: Folders) -> None:
    """Blockcommit of Snap-1, 2 and 3 into RootBase: they are invalidated, Snap-4 is backed by RootBase."""
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        trial = Trial.commit(built, ROOT, SNAP_3)
        assert trial.invalidated == names(built, SNAP_1, SNAP_2, SNAP_3)
        assert {trial.path(r.image) for r in trial.plan.relinked} == names(built, SNAP_4)
        assert [trial.path(c.source) for c in trial.plan.copies] == [built.paths[i] for i in (3, 2, 1)]
        trial.run()
        assert [i["filename"] for i in qemu.backing_chain(built.top)] == [str(built.top), str(built.paths[ROOT])]


def test_figure_5(folders: Folders) -> None:
    """Blockpull of Snap-1, 2 and 3 into Snap-4: nothing is invalidated, every other file stays as it is."""
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        trial = Trial.pull(built, SNAP_4, ROOT)
        assert not trial.plan.invalidated
        trial.run()
        assert links(trial.plan.after)["e.qcow2"] == "a.qcow2"
        for path in built.paths[:SNAP_4]:
            assert qemu.digest(path) == trial.before.digests[path]


def test_figure_6(folders: Folders) -> None:
    """Blockpull with no base: Snap-4 stands alone, and nothing else need be there."""
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        trial = Trial.pull(built, SNAP_4, None)
        trial.run()
        for path in built.paths[:SNAP_4]:
            path.unlink()
        assert qemu.view(built.top) == trial.before.views[built.top]
        assert "backing-filename" not in qemu.info(built.top)


@pytest.mark.parametrize(
    ("base", "top"),
    [(ROOT, SNAP_3), (ROOT, SNAP_2), (ROOT, SNAP_1), (SNAP_1, SNAP_2), (SNAP_2, SNAP_3), (SNAP_1, SNAP_3)],
    ids=["S1+S2+S3-into-Root", "S1+S2-into-Root", "S1-into-Root", "S2-into-S1", "S3-into-S2", "S2+S3-into-S1"],
)
def test_the_six_cases_of_blockcommit(folders: Folders, base: int, top: int) -> None:
    with folders.fresh() as folder:
        trial = Trial.commit(chains.build(FIGURES, folder / "images"), base, top)
        trial.run()
        assert trial.invalidated == names(trial.built, *range(base + 1, top + 1))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("base", [ROOT, SNAP_3])
def test_the_active_layer(folders: Folders, base: int, keep: bool) -> None:
    """It is emptied and stays as an overlay of the base; or, with -d, it is left as it was, byte for byte."""
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        trial = Trial.commit(built, base, SNAP_4, keep_top=keep)
        trial.run()
        if keep:
            assert qemu.digest(built.top) == trial.before.digests[built.top]
        else:
            assert all(e["depth"] >= 1 for e in qemu.map_json(built.top))
            assert built.top.stat().st_size < trial.before.sizes[built.top]


@pytest.mark.parametrize("name", [n for n, layers in LAYOUTS.items() if len(layers) > 1])
@pytest.mark.parametrize("verb", ["commit", "pull"])
def test_each_layout(folders: Folders, name: str, verb: str) -> None:
    """Every layout that the map is tested on is committed down and pulled up as a whole."""
    with folders.fresh() as folder:
        built = chains.build(Forest(LAYOUTS[name]), folder / "images")
        top = len(built.paths) - 1
        trial = Trial.commit(built, 0, top) if verb == "commit" else Trial.pull(built, top, None)
        assert not trial.blocks
        trial.run()


def test_a_sibling_is_damaged_where_the_plan_says(folders: Folders) -> None:
    """Predicted: what the commit writes, less what the sibling holds itself. Observed when forced: the same."""
    with folders.fresh() as folder:
        built = chains.build(Forest((*FIGURES.layers, SIDE)), folder / "images")
        trial = Trial.commit(built, ROOT, SNAP_2)
        hazard = next(h for h in trial.plan.hazards if h.code == "sibling-corruption")
        assert hazard.severity is Severity.BLOCK
        assert trial.path(hazard.images[0]) == built.paths[5]
        theirs = built.copied(folder / "copy")
        qemu.run("qemu-img", "commit", "-q", "-d", "-b", "a.qcow2", "c.qcow2", cwd=theirs.folder)
        damage = differing(trial.before.views[built.paths[5]], qemu.view(theirs.paths[5]))
        assert [(start * 512, count * 512) for start, count in damage] == list(hazard.ranges)
        assert damage
        with pytest.raises(BlockedError) as caught:
            BuiltinEngine().run(trial.plan, Job(trial.plan))
        assert caught.value.exit_code == 3
        for path in built.paths:
            assert qemu.digest(path) == trial.before.digests[path]


def test_a_sibling_of_an_intermediate(folders: Folders) -> None:
    """A branch on a committed intermediate loses its ground, too; one above the top, or on the root, does not."""
    with folders.fresh() as folder:
        on_snap_1 = Layer(MIB, SNAP_1, commands=(Write("data", 0, 8),))
        built = chains.build(Forest((*FIGURES.layers, on_snap_1)), folder / "images")
        trial = Trial.commit(built, ROOT, SNAP_2)
        assert trial.blocks == {"sibling-corruption"}
        assert_damage_predicted(trial, ("commit", SNAP_2, ROOT, False), folder / "copy")
        assert not Trial.commit(built, SNAP_2, SNAP_3).blocks
        Trial.commit(built, SNAP_1 + 1, SNAP_3).run()


def test_two_overlays_of_the_top_are_both_relinked(folders: Folders) -> None:
    with folders.fresh() as folder:
        fork = Layer(MIB, SNAP_2, commands=(Write("data", 0, 8),))
        built = chains.build(Forest((*FIGURES.layers[:4], fork)), folder / "images")
        trial = Trial.commit(built, ROOT, SNAP_2)
        assert {trial.path(r.image) for r in trial.plan.relinked} == names(built, 3, 4)
        trial.run()


def test_a_pull_leaves_siblings_alone(folders: Folders) -> None:
    with folders.fresh() as folder:
        built = chains.build(Forest((*FIGURES.layers, SIDE)), folder / "images")
        trial = Trial.pull(built, SNAP_3, ROOT)
        assert not trial.blocks
        trial.run()


def test_a_shorter_top_is_not_committed_under_a_longer_overlay(folders: Folders) -> None:
    """The overlay reads zeros past the top's end; relinked, it would show the base's old tail."""
    with folders.fresh() as folder:
        layers = (
            Layer(MIB, commands=(Write("data", 0, 2048),)),
            Layer(MIB // 2, 0, commands=(Write("data", 0, 8),)),
            Layer(MIB, 1),
        )
        trial = Trial.commit(chains.build(Forest(layers), folder / "images"), 0, 1)
        assert "shorter-middle" in trial.blocks


def test_the_internal_snapshots_of_the_base_survive(folders: Folders) -> None:
    with folders.fresh() as folder:
        layers = (
            Layer(MIB, snapshot=1, commands=(Write("data", 0, 1024), Write("data", 256, 100))),
            Layer(2 * MIB, 0, commands=(Write("data", 0, 700), Write("zero", 900, 300))),
        )
        trial = Trial.commit(chains.build(Forest(layers), folder / "images"), 0, 1)
        assert trial.before.snapshots[trial.target]
        assert "internal-snapshots" not in trial.codes
        trial.run()


@pytest.mark.parametrize("verb", ["commit", "pull"])
def test_an_internal_snapshot_above_must_be_given_up_on_purpose(folders: Folders, verb: str) -> None:
    with folders.fresh() as folder:
        layers = (*FIGURES.layers[:2], Layer(MIB, 1, snapshot=1, commands=(Write("data", 64, 64),)))
        built = chains.build(Forest(layers), folder / "images")
        trial = Trial.commit(built, 0, 2) if verb == "commit" else Trial.pull(built, 2, 0)
        assert [h.severity for h in trial.plan.hazards if h.code == "internal-snapshots"] == [Severity.CONFIRM]
        with pytest.raises(BlockedError):
            BuiltinEngine().run(trial.plan, Job(trial.plan))
        trial.run()


def test_a_chain_that_changed_since_the_plan_is_planned_again(folders: Folders) -> None:
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        trial = Trial.commit(built, ROOT, SNAP_3)
        qemu.io(built.paths[SNAP_2], "write -q -P 9 0 64k")
        digests = [qemu.digest(p) for p in built.paths]
        with pytest.raises(StalePlanError) as caught:
            BuiltinEngine().run(trial.plan, Job(trial.plan))
        assert caught.value.exit_code == 3
        assert [qemu.digest(p) for p in built.paths] == digests


def test_what_makes_no_sense_is_a_usage_error(folders: Folders) -> None:
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        senseless: list[Callable[[], Trial]] = [
            lambda: Trial.commit(built, SNAP_3, SNAP_1),
            lambda: Trial.commit(built, SNAP_1, SNAP_1),
            lambda: Trial.pull(built, SNAP_1, SNAP_3),
            lambda: Trial.pull(built, ROOT, None),
            lambda: Trial.pull(built, SNAP_2, SNAP_1),
        ]
        for plan in senseless:
            with pytest.raises(UsageError) as caught:
                plan()
            assert caught.value.exit_code == 2


def test_operations_one_after_the_other(folders: Folders) -> None:
    """A commit, a pull and a flattening on the same chain, each on what the one before it left."""
    with folders.fresh() as folder:
        built = chains.build(FIGURES, folder / "images")
        view = qemu.view(built.top)
        Trial.commit(built, SNAP_1, SNAP_2).run()
        Trial.pull(built, SNAP_4, SNAP_1).run()
        Trial.pull(built, SNAP_4, None).run()
        assert qemu.view(built.top) == view
        assert len(qemu.backing_chain(built.top)) == 1
