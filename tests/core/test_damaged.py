"""Damaged images give an answer or one of backchain's own errors: no traceback, no hang, no runaway memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BackchainError, ImageError
from backchain.image import ImageState, read_image_info
from backchain.jobs import Job
from backchain.mapping import qemu_map
from backchain.operations import Commit, Operation, Pull
from backchain.planning import make_plan

from . import chains, damage, planned, qemu
from .chains import Forest, Layer, Write
from .corpus import BAD_HEADERS, OVERLAPS, UNREADABLE
from .trial import id_of

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph

    from .folders import Folders

pytestmark = pytest.mark.timeout(240)

MEMORY_LIMIT = 64 << 20
"""Bytes that reading and planning a damaged image of under 3 MiB may take at their peak."""

COMMANDS = (
    Write("compressed", 768, 128),
    Write("data", 0, 130),
    Write("zero", 256, 128),
    Write("data", 1000, 1, 4, 64),
)
SEEDS: dict[str, Layer] = {
    "version-3": Layer(1 << 20, commands=COMMANDS),
    "version-2": Layer(1 << 20, compat="0.10", commands=COMMANDS),
    "clusters-512": Layer(1 << 20, cluster_bits=9, refcount_bits=64, commands=COMMANDS),
    "extended-l2": Layer(1 << 20, cluster_bits=14, extended_l2=True, commands=COMMANDS),
    "zstd": Layer(1 << 20, compression="zstd", cluster_bits=12, commands=COMMANDS),
    "snapshot": Layer(1 << 20, cluster_bits=12, snapshot=1, commands=COMMANDS),
}


@pytest.fixture(scope="module")
def seeds(folders: Folders) -> dict[str, tuple[bytes, bytes]]:
    """Give the bytes of sound chains by name: (base, overlay), the overlay without an internal snapshot."""
    found = {}
    for name, layer in SEEDS.items():
        with folders.fresh() as folder:
            over = Layer(
                layer.size, 0, cluster_bits=layer.cluster_bits, extended_l2=layer.extended_l2, compat=layer.compat,
                commands=(Write("data", 64, 300), Write("compressed", 512, 128), Write("zero", 900, 200)),
            )  # fmt: skip
            built = chains.build(Forest((layer, over)), folder / "images")
            assert built.usable
            found[name] = (built.paths[0].read_bytes(), built.paths[1].read_bytes())
    return found


def write_chain(folder: Path, base: bytes, overlay: bytes) -> tuple[Path, Path]:
    """Put a chain of two on disk under the names that its link uses."""
    paths = folder / "a.qcow2", folder / "b.qcow2"
    for path, data in zip(paths, (base, overlay), strict=True):
        path.write_bytes(data)
    return paths


def exercise(folder: Path, *, run: bool) -> str:
    """Read, map, plan (and run) every way on a folder of two images; give what came of it, for statistics."""
    outcome = "answered"
    graph = discover([folder])
    for image in graph:
        try:
            for _ in qemu_map([graph[i] for i in graph.chain(image)]):
                pass
        except ImageError as error:
            assert_one_line(error)
            outcome = "map refused"
    top, base = (next((i for i in graph if graph[i].path.name == n), None) for n in ("b.qcow2", "a.qcow2"))
    if top is None or base is None:
        return "not two images"
    for operation in (Pull(top, None), Commit(base, top)):
        try:
            plan = make_plan(discover([folder]), operation)
            assert all("\n" not in h.message for h in plan.hazards)
            if plan.stopping():
                outcome = "hazards"
            elif run:
                BuiltinEngine().run(plan, Job(plan))
        except BackchainError as error:
            assert_one_line(error)
            outcome = type(error).__name__
    return outcome


def assert_one_line(error: BackchainError) -> None:
    assert str(error).isprintable()


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("which", ["base", "overlay"])
@given(data=st.data())
def test_random_damage(
    folders: Folders, seeds: dict[str, tuple[bytes, bytes]], name: str, which: str, data: st.DataObject
) -> None:
    base, overlay = seeds[name]
    if which == "base":
        base = damage.damaged(base, data.draw(damage.damages(base)))
    else:
        overlay = damage.damaged(overlay, data.draw(damage.damages(overlay)))
    with folders.fresh() as folder:
        write_chain(folder, base, overlay)
        event(exercise(folder, run=True))


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_a_problem_of_one_line(
    folders: Folders, seeds: dict[str, tuple[bytes, bytes]], name: str
) -> None:
    base, overlay = seeds["version-3"]
    with folders.fresh() as folder:
        _, top = write_chain(folder, base, BAD_HEADERS[name](overlay))
        assert qemu.attempt("qemu-img", "map", "-f", "qcow2", top).returncode == 1, "QEMU opens it"
        info = read_image_info(top)
        assert info.state is ImageState.UNREADABLE
        assert info.problem
        assert info.problem.isprintable()
        graph = discover([folder])
        with pytest.raises(ImageError) as caught:
            list(qemu_map([graph[i] for i in graph.chain(id_of(graph, top))]))
        assert caught.value.exit_code == 4
        exercise(folder, run=True)
        assert top.read_bytes() == BAD_HEADERS[name](overlay), "the damaged image was written to"


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("which", ["base", "overlay"])
def test_bad_tables_are_refused(folders: Folders, seeds: dict[str, tuple[bytes, bytes]], name: str, which: str) -> None:
    """The map ends in an ImageError; an operation that needs the entry is not run, and nothing is written."""
    base, overlay = seeds["version-3"]
    if which == "base":
        base = UNREADABLE[name](base)
    else:
        overlay = UNREADABLE[name](overlay)
    with folders.fresh() as folder:
        paths = write_chain(folder, base, overlay)
        image = paths[0] if which == "base" else paths[1]
        with pytest.raises(ImageError) as caught:
            map_of(image)
        assert caught.value.exit_code == 4
        assert image.name in str(caught.value)
        graph = discover([folder])
        low, top = (id_of(graph, p) for p in paths)
        for operation in (Commit(low, top), Pull(top, None)):
            assert_refused(graph, operation)
        assert (paths[0].read_bytes(), paths[1].read_bytes()) == (base, overlay)


def assert_refused(graph: ChainGraph, operation: Operation) -> None:
    """Neither planned nor run; the error is one of backchain's."""
    try:
        plan = make_plan(graph, operation)
    except BackchainError:
        return
    with pytest.raises(BackchainError):
        BuiltinEngine().run(plan, Job(plan))


def map_of(path: Path) -> None:
    """Read the whole map of an image's chain."""
    graph = discover([path])
    for _ in qemu_map([graph[i] for i in graph.chain(id_of(graph, path))]):
        pass


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("which", ["base", "overlay"])
def test_tables_that_overlap_lose_nothing_more(
    folders: Folders, seeds: dict[str, tuple[bytes, bytes]], name: str, which: str
) -> None:
    """An operation into an image whose own tables overlap is refused; one that only reads it may go on."""
    base, overlay = seeds["version-3"]
    if which == "base":
        base = OVERLAPS[name](base)
    else:
        overlay = OVERLAPS[name](overlay)
    with folders.fresh() as folder:
        paths = write_chain(folder, base, overlay)
        graph = discover([folder])
        low, top = (id_of(graph, p) for p in paths)
        operation = Commit(low, top) if which == "base" else Pull(top, None)
        before = paths[0].read_bytes(), paths[1].read_bytes()
        assert_refused(graph, operation)
        assert (paths[0].read_bytes(), paths[1].read_bytes()) == before


def test_compressed_data_behind_the_end_is_damage_where_qemu_says_so(tmp_path: Path) -> None:
    """Its last sector may be cut off. Clusters behind the end are given out next, and would be freed with it."""
    base, top, words = tmp_path / "base.qcow2", tmp_path / "top.qcow2", tmp_path / "words"
    words.write_bytes(random.Random(0).randbytes(3000).ljust(4096, b"\0"))
    qemu.create(base, 256 * 1024, cluster_size=4096)
    for offset in ("0", "4k"):
        qemu.io(base, f"write -q -c -s {words} {offset} 4k")
    qemu.create(top, None, backing=base)
    qemu.io(top, "write -q -P 3 4k 4k")
    data = base.read_bytes()
    place = damage.l2_tables(data)[0] + 8
    (entry,) = struct.unpack_from(">Q", data, place)
    verdicts = set()
    for more in range(16 - (entry >> 58 & 15)):  # the number of further sectors is in bits 58 to 61
        base.write_bytes(damage.put64(data, place, entry + (more << 58)))
        verdicts.add((qemu.check(base).corruptions > 0, "corrupt" in planned.codes(planned.commit(base, top))))
    assert verdicts == {(False, False), (True, True)}


def test_a_file_that_was_cut_below_an_internal_snapshot_is_not_written(tmp_path: Path) -> None:
    """To fill the gap with zeros would make the loss of what the snapshot held look sound."""
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, 8 << 20)
    qemu.io(base, "write -q -P 1 0 64k")
    for snapshot in ("s0", "s00"):  # make room for a table before the data
        qemu.run("qemu-img", "snapshot", "-c", snapshot, base)
    qemu.io(base, "write -q -P 5 1M 512k")
    for action, snapshot in (("-d", "s0"), ("-d", "s00"), ("-c", "s1")):
        qemu.run("qemu-img", "snapshot", action, snapshot, base)
    qemu.io(base, "write -q -z -u 1M 512k")
    qemu.create(top, None, backing=base)
    with base.open("r+b") as file:
        file.truncate(base.stat().st_size - (256 << 10))
    assert qemu.check(base).corruptions
    assert "corrupt" in planned.codes(planned.commit(base, top))


def test_a_file_that_ends_amid_a_table_of_a_snapshot_is_damaged(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, 8 << 20)
    qemu.io(base, "write -q -P 1 0 64k")
    qemu.run("qemu-img", "snapshot", "-c", "s0", base)
    qemu.create(top, None, backing=base)
    data = base.read_bytes()
    data = data.ljust(-(-len(data) // 65536) * 65536, b"\0")
    (snapshots,) = struct.unpack_from(">Q", data, 64)
    (table,) = struct.unpack_from(">Q", data, snapshots)
    base.write_bytes(damage.put64(data, snapshots, len(data)) + data[table : table + 5])
    assert "corrupt" in planned.codes(planned.commit(base, top))


def test_memory_stays_bounded(folders: Folders, seeds: dict[str, tuple[bytes, bytes]]) -> None:
    """The largest tables that a header may claim, in a sparse file that is long enough for them."""
    base, overlay = seeds["version-3"]
    with folders.fresh() as folder:
        low, _ = write_chain(folder, base, overlay)
        with low.open("r+b") as file:
            file.truncate(1 << 40)
            file.seek(36)
            file.write(struct.pack(">IQ", 1 << 22, 1 << 30))
            file.seek(24)
            file.write(struct.pack(">Q", 1 << 42))
        tracemalloc.start()
        try:
            exercise(folder, run=False)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MEMORY_LIMIT + (64 << 20)
