"""Commit, pull and rebase by the builtin engine on random real forests, judged by QEMU's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume, event, given
from hypothesis import strategies as st

from . import chains, qemu
from .chains import Forest, Layer, Write
from .strategies import WAYS, WINDOWS, forests, operations
from .trial import Trial, assert_same_view, carried, differing, windows_of

if TYPE_CHECKING:
    from pathlib import Path

    from .chains import Built
    from .folders import Folders

ACCEPTED_BLOCKS = {"sibling-corruption", "base-grows", "shorter-middle"}
"""What may rightly stop an operation on a random forest of sound, writable images that nobody has open."""

Drawn = tuple[str, int, int | None, bool]


def trial_of(built: Built, drawn: Drawn) -> Trial:
    """Plan what was drawn."""
    verb, image, base, keep_top = drawn
    if verb == "pull":
        return Trial.pull(built, image, base)
    if verb == "rebase":
        return Trial.rebase(built, image, base)
    assert base is not None
    return Trial.commit(built, base, image, keep_top=keep_top)


def run_on_forest(folder: Path, spec: Forest, drawn: Drawn) -> None:
    """Build, plan, run, judge; and let QEMU do the same on a copy."""
    built = chains.build(spec, folder / "images")
    assume(built.usable)
    trial = trial_of(built, drawn)
    assert trial.blocks <= ACCEPTED_BLOCKS, trial.plan.hazards
    assert ("sibling-corruption" in trial.blocks) == has_sibling(spec, drawn)
    if trial.blocks:
        event(f"blocked: {sorted(trial.blocks)}")
        if "sibling-corruption" in trial.blocks:
            assert_damage_predicted(trial, drawn, folder / "copy")
        return
    event(f"{drawn[0]}: {trial.plan.clusters.bit_length()} bits of clusters")
    theirs = built.copied(folder / "copy")
    same_by_qemu = qemus_own(theirs, drawn)
    if drawn[0] == "rebase":
        assert trial.plan.clusters == differing_clusters(trial, built, drawn)
    elif comparable(spec):
        assert (trial.plan.clusters, trial.plan.bytes) == expected_copy(built, drawn)
    trial.run()
    verb, image, base, _ = drawn
    target = base if verb == "commit" else image
    assert target is not None
    if same_by_qemu:
        assert_same_view(built.paths[target], qemu.view(theirs.paths[target]), qemu.view(built.paths[target]))


def has_sibling(spec: Forest, drawn: Drawn) -> bool:
    """Say whether a commit's target, or an image committed with its top, has an overlay outside of the path."""
    verb, top, base, _ = drawn
    if verb != "commit":
        return False
    path = [top]
    while path[-1] != base:
        parent = spec.layers[path[-1]].parent
        assert parent is not None
        path.append(parent)
    return any(o.parent in path[1:] and i not in path for i, o in enumerate(spec.layers))


def qemus_own(built: Built, drawn: Drawn) -> bool:
    """Do the same with qemu-img alone: a commit, or a safe rebase.

    Returns:
        Whether QEMU can: it does not grow a version 2 image that has a backing file.
    """
    verb, image, base, _ = drawn
    top = built.paths[image]
    if verb != "commit":
        name, kind = (built.paths[base].name, qemu.format_of(built.paths[base])) if base is not None else ("", "qcow2")
        options = ["-b", name, *(["-F", kind] if base is not None else [])]
        qemu.run("qemu-img", "rebase", "-q", "-f", "qcow2", *options, top.name, cwd=built.folder)
        return True
    assert base is not None
    target, layer = built.paths[base], built.spec.layers[base]
    command = ["qemu-img", "commit", "-q", "-f", "qcow2", "-d", "-b", target.name, top.name]
    if layer.compat == "0.10" and layer.parent is not None and layer.size < built.spec.layers[image].size:
        return qemu.attempt(*command, cwd=built.folder).returncode == 0
    qemu.run(*command, cwd=built.folder)
    return True


def comparable(spec: Forest) -> bool:
    """Say whether a plan on the forest can be counted from maps alone: one cluster size, one disk size."""
    overlays = [layer for layer in spec.layers if layer.format == "qcow2"]
    return (
        len({layer.cluster_bits for layer in overlays}) == 1
        and len({layer.size for layer in spec.layers}) == 1
        and not any(layer.extended_l2 or layer.size % 512 for layer in spec.layers)
    )


def expected_copy(built: Built, drawn: Drawn) -> tuple[int, int]:
    """Count a plan's clusters and bytes by ``qemu-img map``: what the layers between target and source provide.

    Zeros are no work where the target, by itself, reads zeros already.
    """
    verb, image, base, _ = drawn
    chain = built.chain(image)
    end = chain.index(base) if base is not None else len(chain)
    depths = range(1, end) if verb == "pull" else range(end)
    per_cluster = built.spec.layers[image].cluster_size // 512
    idle: set[int] = set()
    if base is None:
        idle.update(range(built.spec.layers[image].size // 512))
    elif verb == "commit":
        for extent in qemu.map_json(built.paths[base]):
            if extent["depth"] == 0 and extent["zero"] and not extent["data"]:
                idle.update(sectors_of(extent))
    data: set[int] = set()
    zeros: set[int] = set()
    for extent in qemu.map_json(built.paths[image]):
        if extent["present"] and extent["depth"] in depths:
            (zeros if extent["zero"] else data).update(sectors_of(extent))
    return len({s // per_cluster for s in data | (zeros - idle)}), 512 * len(data)


def differing_clusters(trial: Trial, built: Built, drawn: Drawn) -> int:
    """Count by QEMU's views the clusters that an image does not hold and whose old and new content differ."""
    _, image, backing, _ = drawn
    layer, path = built.spec.layers[image], built.paths[image]
    old = trial.before.views[path]
    new = (trial.before.views[built.paths[backing]] if backing is not None else b"").ljust(len(old), b"\0")[: len(old)]
    held = {s for e in qemu.map_json(path) if e["depth"] == 0 and e["present"] for s in sectors_of(e)}
    apart = {s for start, count in differing(old, new) for s in range(start, start + count)}
    return len({s // (layer.cluster_size // 512) for s in apart - held})


def sectors_of(extent: dict[str, int]) -> range:
    """Give the numbers of the sectors of a map's extent."""
    return range(extent["start"] // 512, (extent["start"] + extent["length"]) // 512)


def assert_damage_predicted(trial: Trial, drawn: Drawn, copy: Path) -> None:
    """Force the blocked commit with qemu-img on a copy: no image is damaged where the plan did not say so."""
    theirs = trial.built.copied(copy)
    if drawn[2] is not None and qemu.info(theirs.paths[drawn[2]]).get("snapshots"):
        return
    qemus_own(theirs, drawn)
    predicted: dict[str, set[int]] = {}
    direct: dict[str, set[int]] = {}
    for hazard in trial.plan.hazards:
        if hazard.code == "sibling-corruption":
            sectors = {s for start, length in hazard.ranges for s in range(start // 512, -(-(start + length) // 512))}
            direct[trial.path(hazard.images[0]).name] = sectors
            for image in hazard.images:
                predicted.setdefault(trial.path(image).name, set()).update(sectors)
    for path in theirs.paths:
        if trial.built.folder / path.name in {trial.target, *trial.invalidated}:
            continue
        changed = differing(trial.before.views[trial.built.folder / path.name], qemu.view(path))
        hit = {s for start, count in changed for s in range(start, start + count)}
        assert hit == direct.get(path.name, hit), f"{path.name}: predicted in vain"
        assert hit <= predicted.get(path.name, set()), f"{path.name}: not predicted"


@given(data=st.data())
def test_chains(folders: Folders, data: st.DataObject) -> None:
    spec = data.draw(forests(min_layers=2))
    drawn = data.draw(operations(spec))
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), folders.fresh() as folder:
        run_on_forest(folder, spec, drawn)


@given(data=st.data())
def test_chains_of_one_cluster_size(folders: Folders, data: st.DataObject) -> None:
    spec = data.draw(forests(min_layers=2, max_layers=4, uniform=True))
    drawn = data.draw(operations(spec))
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), folders.fresh() as folder:
        run_on_forest(folder, spec, drawn)


@given(data=st.data())
def test_forests_with_branches(folders: Folders, data: st.DataObject) -> None:
    spec = data.draw(forests(min_layers=2, max_layers=4, max_branches=2, snapshots=False))
    drawn = data.draw(operations(spec))
    with windows_of(data.draw(WINDOWS)), carried(data.draw(WAYS)), folders.fresh() as folder:
        run_on_forest(folder, spec, drawn)


@given(drawn=st.sampled_from([("commit", 1, 0, True), ("pull", 2, 0, False)]))
def test_large_compressed_clusters_over_small_ones(folders: Folders, drawn: Drawn) -> None:
    """The parts that a window is worked on in end amid the clusters of a source, which are decompressed for both."""
    packed = Layer(1 << 20, 0, cluster_bits=16, commands=(Write("compressed", 0, 1024),))
    small = Layer(1 << 20, None, cluster_bits=9, commands=(Write("data", 100, 30),))
    top = Layer(1 << 20, 1, cluster_bits=9, commands=(Write("data", 1500, 9),))
    layers = (small, packed) if drawn[0] == "commit" else (small, packed, top)
    with windows_of(4096), folders.fresh() as folder:
        run_on_forest(folder, Forest(layers), drawn)


@given(drawn=st.just(("commit", 1, 0, True)))
def test_neighbours_in_the_file_that_are_none_on_the_disk(folders: Folders, drawn: Drawn) -> None:
    """A cell is counted once, though its halves were written at different times and lie apart in the source."""
    apart = tuple(Write("data", start, sectors) for start, sectors in ((0, 8), (80, 8), (160, 4), (320, 8), (164, 4)))
    layers = (Layer(1 << 20, None, cluster_bits=12), Layer(1 << 20, 0, cluster_bits=11, commands=apart))
    with folders.fresh() as folder:
        run_on_forest(folder, Forest(layers), drawn)
