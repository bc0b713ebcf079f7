"""References are counted the same in one pass as in many, and as QEMU counts them in a sound image."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backchain.errors import MalformedImageError
from backchain.image import read_image_info
from backchain.qcow2.allocator import Allocator
from backchain.qcow2.check import check_references, leaked
from backchain.qcow2.image import Qcow2File
from backchain.qcow2.refcounts import read_block
from backchain.qcow2.references import References
from backchain.qcow2.tally import MOST_BYTES, Tally, UsedTwiceError

from . import qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ENTRIES = 64
BLOCKS = 80

PLACES = st.lists(st.integers(0, ENTRIES - 1), min_size=1, max_size=8)
REFERENCES = st.lists(st.tuples(st.integers(0, BLOCKS - 1), PLACES, st.integers(1, 9)), max_size=60)


def flags(places: list[int]) -> NDArray[np.bool_]:
    """Give a flag for each cluster of a block."""
    return np.bincount(places, minlength=ENTRIES) > 0


def passes(count: Callable[[int], Tally], stop: int) -> Iterator[Tally]:
    """Count from the start, and from where that stopped, to the end."""
    start = 0
    while start < stop:
        tally = count(start)
        assert start < tally.stop <= stop
        assert all(start <= index < tally.stop for index in tally.portions())
        yield tally
        start = tally.stop


@given(own=REFERENCES, others=REFERENCES)
def test_numbers_are_the_same_in_one_pass_and_in_many(
    own: list[tuple[int, list[int], int]], others: list[tuple[int, list[int], int]]
) -> None:
    expected = np.zeros((BLOCKS, ENTRIES), np.int64)
    claimed = {index: places for index, places, _ in own}
    for index, places in claimed.items():
        expected[index] += flags(places)
    for index, places, weight in others:
        expected[index] += np.bincount(places, minlength=ENTRIES) * weight

    def count(start: int) -> Tally:
        tally = Tally(ENTRIES, start, BLOCKS, most_bytes=0)
        for index, places in claimed.items():
            tally.add_own(index, flags(places))
        for index, places, weight in others:
            tally.add_numbers(index, np.bincount(places, minlength=ENTRIES), weight)
        return tally

    for tally in passes(count, BLOCKS):
        for index in range(tally.start, tally.stop):
            assert (tally.of_portion(index) == expected[index]).all()


def test_two_claims_to_a_cluster_are_seen() -> None:
    tally = Tally(ENTRIES, 0, 1, MOST_BYTES)
    tally.add_own(0, flags([3, 4]))
    tally.add_own(0, flags([5]))
    with pytest.raises(UsedTwiceError):
        tally.add_own(0, flags([4]))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an image with three internal snapshots, a bitmap, data of all kinds, and 66 refcount blocks."""
    path = tmp_path_factory.mktemp("tally") / "disk.qcow2"
    qemu.create(path, 9 << 20, cluster_size=512)
    qemu.run("qemu-img", "bitmap", "--add", path, "dirty")
    qemu.io(path, "write -P 1 0 5M", "write -c -P 2 5M 512", *(f"write -c {n * 512} 512" for n in range(12000, 12100)))
    for n, command in enumerate(("write -P 3 1M 1M", "write -z 3M 64k", "write -P 4 2M 100k")):
        qemu.run("qemu-img", "snapshot", "-c", f"s{n}", path)
        qemu.io(path, command)
    assert qemu.check(path).clean
    return path


@pytest.mark.parametrize(("most_bytes", "once"), [(MOST_BYTES, True), (0, False)])
def test_a_sound_image_has_as_many_references_as_it_counts(image: Path, most_bytes: int, once: bool) -> None:
    header = read_image_info(image).header
    assert header is not None
    descriptor = os.open(image, os.O_RDONLY)
    try:
        size = image.stat().st_size
        file, allocator = Qcow2File(descriptor, header, size), Allocator(descriptor, header, size)
        stop = -(-allocator.end // header.refcount_block_entries)
        ends: list[int] = []
        for tally in passes(lambda n: References(file, allocator.table, allocator.end, n, most_bytes).tally, stop):
            ends.append(tally.stop)
            for index in range(tally.start, tally.stop):
                counts = read_block(descriptor, header, int(allocator.table[index]))
                assert (tally.of_portion(index) == counts).all()
        assert (len(ends) == 1) is once
    finally:
        os.close(descriptor)


def test_a_refcount_block_of_millions_of_entries_is_counted_in_portions(tmp_path: Path) -> None:
    """With clusters of 2 MiB and a bit for each, a block counts 16 million; leaks in it are found, and no more."""
    path = tmp_path / "disk.qcow2"
    qemu.create(path, 64 << 20, cluster_size="2M", refcount_bits=1)
    qemu.io(path, "write -P 1 0 8M")
    header = read_image_info(path).header
    assert header is not None
    assert header.refcount_block_entries == 1 << 24
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = path.stat().st_size
        file, allocator = Qcow2File(descriptor, header, size), Allocator(descriptor, header, size)
        tracemalloc.start()
        assert leaked(file, allocator.table, allocator.end).tolist() == []
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        allocator.release(np.array([1]))  # a cluster of metadata, which is counted no more
        allocator.allocate_adjacent(2)
        allocator.write_blocks()
        with pytest.raises(MalformedImageError):
            check_references(file, allocator.table, allocator.end)
    finally:
        tracemalloc.stop()
        os.close(descriptor)
