"""Damaged images give an answer or one of backchain's own errors: no traceback, no hang, no runaway memory."""

from __future__ import annotations

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

from . import chains, damage, qemu
from .chains import Forest, Layer, Write
from .trial import id_of

if TYPE_CHECKING:
    from collections.abc import Callable
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


def _entry(index: int, value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    """Give a damage that overwrites entry `index` of the first L2 table."""

    def change(data: bytes) -> bytes:
        number = value(data) if callable(value) else value
        return damage.put64(data, damage.l2_tables(data)[0] + 8 * index, number)

    return change


def _l1(value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        number = value(data) if callable(value) else value
        return damage.put64(data, damage.get(data, "l1_table_offset"), number)

    return change


def _field(name: str, value: Callable[[bytes], int] | int) -> Callable[[bytes], bytes]:
    return lambda data: damage.put(data, name, value(data) if callable(value) else value)


COPIED = 1 << 63
UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "l2-table-past-the-end": _l1(lambda d: COPIED | (len(d) + (1 << 20)) & ~0xFFFF),
    "l2-table-at-2-to-the-55": _l1(COPIED | 1 << 55),
    "l2-table-unaligned": _l1(lambda d: COPIED | damage.l2_tables(d)[0] + 512),
    "cluster-past-the-end": _entry(0, COPIED | 1 << 40),
    "cluster-unaligned": _entry(0, lambda d: COPIED | damage.l2_tables(d)[0] + 512),
    "compressed-past-the-end": _entry(0, 1 << 62 | 1 << 40),
    "truncated-in-the-l2-table": lambda d: d[: damage.l2_tables(d)[0] + 100],
}
"""Damage to the tables of a 64 KiB-cluster image that must be refused wherever the entry is needed."""

BAD_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "version-1": _field("version", 1),
    "version-4": _field("version", 4),
    "cluster-bits-0": _field("cluster_bits", 0),
    "cluster-bits-8": _field("cluster_bits", 8),
    "cluster-bits-22": _field("cluster_bits", 22),
    "cluster-bits-huge": _field("cluster_bits", 0xFFFFFFFF),
    "size-huge": _field("size", (1 << 64) - 1),
    "size-beyond-l1": _field("size", 1 << 40),
    "l1-size-huge": _field("l1_size", 0xFFFFFFFF),
    "l1-size-4M": _field("l1_size", 1 << 22),
    "l1-size-0": _field("l1_size", 0),
    "l1-past-the-end": _field("l1_table_offset", 1 << 40),
    "l1-unaligned": _field("l1_table_offset", lambda d: damage.get(d, "l1_table_offset") + 512),
    "l1-offset-wraps": _field("l1_table_offset", (1 << 64) - 65536),
    "reftable-past-the-end": _field("refcount_table_offset", 1 << 40),
    "reftable-huge": _field("refcount_table_clusters", 0xFFFFFFFF),
    "reftable-unaligned": _field("refcount_table_offset", 65537),
    "snapshots-too-many": _field("nb_snapshots", 0xFFFFFFFF),
    "snapshots-past-the-end": lambda d: damage.put(damage.put(d, "nb_snapshots", 1), "snapshots_offset", 1 << 40),
    "incompatible-unknown": _field("incompatible_features", 1 << 40),
    "refcount-order-7": _field("refcount_order", 7),
    "refcount-order-huge": _field("refcount_order", 0xFFFFFFFF),
    "header-length-0": _field("header_length", 0),
    "header-length-huge": _field("header_length", 0xFFFFFFF8),
    "compression-type-9": lambda d: damage.put(damage.put(d, "compression_type", 9), "incompatible_features", 8),
    "backing-name-too-long": lambda d: damage.put(d, "backing_file_size", 1024),
    "backing-name-outside": lambda d: damage.put(d, "backing_file_offset", 1 << 40),
    "extension-runs-out": lambda d: d[:112] + struct.pack(">II", 0xE2792ACA, 0xFFFFFFFF) + d[120:],
    "ends-in-the-header": lambda d: d[:90],
    "only-the-magic": lambda d: d[:4],
}
"""Damage to the header of a version 3 overlay; QEMU refuses every one of them, too."""


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


SELF_REFERENCES: dict[str, Callable[[bytes], bytes]] = {
    "l1-entry-to-the-l1-table": _l1(lambda d: COPIED | damage.get(d, "l1_table_offset")),
    "l1-entry-to-the-header": _l1(COPIED | 65536),
    "l2-entry-to-its-own-table": _entry(0, lambda d: COPIED | damage.l2_tables(d)[0]),
    "l2-entry-to-the-refcount-table": _entry(0, lambda d: COPIED | damage.get(d, "refcount_table_offset")),
    "l2-entry-to-the-l1-table": _entry(0, lambda d: COPIED | damage.get(d, "l1_table_offset")),
    "two-entries-to-one-cluster": lambda d: damage.put64(
        d, damage.l2_tables(d)[0] + 8, struct.unpack_from(">Q", d, damage.l2_tables(d)[0])[0]
    ),
    "reftable-entry-to-itself": lambda d: damage.put64(
        d, damage.get(d, "refcount_table_offset"), damage.get(d, "refcount_table_offset")
    ),
    "l1-is-the-reftable": _field("l1_table_offset", lambda d: damage.get(d, "refcount_table_offset")),
    "refcounts-all-zero": lambda d: d[: damage.refcount_blocks(d)[0]] + bytes(65536)
    + d[damage.refcount_blocks(d)[0] + 65536 :],
}  # fmt: skip


@pytest.mark.parametrize("name", SELF_REFERENCES)
@pytest.mark.parametrize("which", ["base", "overlay"])
def test_tables_that_overlap_lose_nothing_more(
    folders: Folders, seeds: dict[str, tuple[bytes, bytes]], name: str, which: str
) -> None:
    """An operation into an image whose own tables overlap is refused; one that only reads it may go on."""
    base, overlay = seeds["version-3"]
    if which == "base":
        base = SELF_REFERENCES[name](base)
    else:
        overlay = SELF_REFERENCES[name](overlay)
    with folders.fresh() as folder:
        paths = write_chain(folder, base, overlay)
        graph = discover([folder])
        low, top = (id_of(graph, p) for p in paths)
        operation = Commit(low, top) if which == "base" else Pull(top, None)
        before = paths[0].read_bytes(), paths[1].read_bytes()
        assert_refused(graph, operation)
        assert (paths[0].read_bytes(), paths[1].read_bytes()) == before


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
