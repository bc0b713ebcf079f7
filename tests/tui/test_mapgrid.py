"""The cluster map's aggregation against a computation that looks at every sector."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backchain.runs import Runs, RunState
from backchain_tui.mapgrid import Cells, DiskMap, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTOR = 512

EXPECTED_KIND = {
    RunState.UNALLOCATED: Kind.NOTHING,
    RunState.UNALLOCATED_RESERVED: Kind.NOTHING,
    RunState.PAST_END: Kind.NOTHING,
    RunState.ABSENT: Kind.NOTHING,
    RunState.ZERO: Kind.ZERO,
    RunState.ZERO_ALLOCATED: Kind.ZERO,
    RunState.HOLE: Kind.ZERO,
}


def kind_of(state: RunState, layer: int, *, own: bool) -> int:
    if state in EXPECTED_KIND:
        return EXPECTED_KIND[state]
    if own:
        return Kind.COMPRESSED if state is RunState.COMPRESSED else Kind.LAYER
    return Kind.LAYER + layer


def naive_weights(sectors: Sequence[int], first: int, cell: int, count: int, kinds: int) -> np.ndarray:
    result = np.zeros((count, kinds), np.int64)
    for number, kind in enumerate(sectors):
        index = (number * SECTOR - first) // cell
        if number * SECTOR >= first and index < count:
            result[index, kind] += SECTOR
    return result


@st.composite
def disks(draw: st.DrawFn) -> tuple[list[Runs], list[int], int, int, bool]:
    own = draw(st.booleans())
    layers = 1 if own else draw(st.integers(1, 4))
    cluster = draw(st.sampled_from([SECTOR, 1024, 4096]))
    runs = draw(
        st.lists(st.tuples(st.sampled_from(list(RunState)), st.integers(0, layers - 1), st.integers(1, 20)), min_size=1)
    )
    cuts = draw(st.lists(st.integers(1, max(1, len(runs) - 1)), max_size=3))
    windows, sectors, position = [], [], 0
    edges = sorted({0, len(runs), *(c for c in cuts if c < len(runs))})
    for low, high in pairwise(edges):
        starts = []
        for state, layer, length in runs[low:high]:
            starts.append(position)
            position += length * SECTOR
            sectors += [kind_of(state, layer, own=own)] * length
        part = runs[low:high]
        windows.append(
            Runs(
                np.array(starts, np.int64),
                np.array([r[0] for r in part], np.uint8),
                np.array([r[1] for r in part], np.uint16),
                np.array(starts, np.int64) + 7 * 65536,
                position,
            )
        )
    return windows, sectors, cluster, layers, own


@given(disks(), st.integers(1, 40), st.integers(1, 9))
def test_cells_weigh_what_is_in_them(disk: tuple[list[Runs], list[int], int, int, bool], cells: int, skip: int) -> None:
    windows, sectors, cluster, layers, own = disk
    size = len(sectors) * SECTOR
    grid = DiskMap(size, cluster, layers=layers, own=own)
    reached = list(grid.feed(windows))
    assert reached[-1] == size
    cell = grid.cell_size(cells)
    assert cell % cluster == 0
    assert cell * cells >= size
    for first in (0, skip * cell):
        np.testing.assert_array_equal(
            grid.weights(first, cell, cells), naive_weights(sectors, first, cell, cells, grid.kinds)
        )
    assert grid.totals().sum() == size


@given(disks())
def test_each_cluster_can_be_looked_up(disk: tuple[list[Runs], list[int], int, int, bool]) -> None:
    windows, sectors, cluster, layers, own = disk
    grid = DiskMap(len(sectors) * SECTOR, cluster, layers=layers, own=own)
    list(grid.feed(windows))
    joined = Runs.join(windows)
    for number in range(grid.clusters):
        place = grid.at(number)
        assert place is not None
        run = int(np.searchsorted(joined.start, place.start, "right")) - 1
        assert place.kind == sectors[place.start // SECTOR]
        assert place.state == joined.state[run]
        inside = 0 if place.state is RunState.COMPRESSED else place.start - int(joined.start[run])
        assert place.host == int(joined.host[run]) + inside
    assert grid.at(grid.clusters) is None


def noise(clusters: int, cluster: int) -> Runs:
    rng = np.random.default_rng(5)
    start = np.arange(clusters, dtype=np.int64) * cluster
    state = rng.choice([RunState.DATA, RunState.ZERO, RunState.ABSENT], clusters).astype(np.uint8)
    layer = rng.integers(0, 3, clusters).astype(np.uint16)
    return Runs(start, state, layer, start, clusters * cluster)


@pytest.mark.parametrize("divisor", [1, 3, 50, 4000])
def test_large_disk_zooms_agree_with_each_other(divisor: int) -> None:
    """Above the block the table answers, below it the runs: both must give the sums of the finest cells."""
    clusters, cluster = 1_000_000, 65536
    grid = DiskMap(clusters * cluster, cluster, layers=3)
    list(grid.feed([noise(clusters, cluster)]))
    assert grid.block > cluster
    cell = grid.fit(grid.block * 7 // divisor)
    count = 20
    fine = grid.weights(cell * 3, cluster, count * cell // cluster)
    coarse = grid.weights(cell * 3, cell, count)
    np.testing.assert_array_equal(coarse, fine.reshape(count, -1, grid.kinds).sum(axis=1))


def test_share_tells_a_sparse_cell_from_a_full_one() -> None:
    grid = DiskMap(8 * 1024, 1024)
    windows = [
        Runs.one(0, 1024, RunState.DATA),
        Runs.one(1024, 4096, RunState.ABSENT),
        Runs.one(4096, 8192, RunState.DATA),
    ]
    list(grid.feed(windows))
    cells = grid.cells(0, 4096, 3)
    assert isinstance(cells, Cells)
    assert cells.kind.tolist() == [Kind.LAYER, Kind.LAYER, Kind.NOTHING]
    assert cells.share.tolist() == [1, 4, 0]


def test_a_short_last_cell_counts_as_full() -> None:
    grid = DiskMap(5 * 1024, 1024)
    list(grid.feed([Runs.one(0, 5 * 1024, RunState.DATA)]))
    assert grid.cells(0, 4096, 2).share.tolist() == [4, 4]


@pytest.mark.parametrize("ends", [(100_003, 400_000, 400_001, 1_000_000), (65_536, 524_288, 1_000_000)])
def test_what_is_read_so_far_is_shown_and_the_rest_is_nothing(ends: tuple[int, ...]) -> None:
    """Windows that end within blocks and at their ends come to the same as one window."""
    clusters, cluster = 1_000_000, 65536
    runs = noise(clusters, cluster)
    whole = DiskMap(clusters * cluster, cluster, layers=3)
    list(whole.feed([runs]))
    grid = DiskMap(clusters * cluster, cluster, layers=3)
    cell, count = grid.block, clusters * cluster // grid.block + 1
    expected = whole.weights(0, cell, count)
    windows = [runs.clip(start * cluster, end * cluster) for start, end in pairwise((0, *ends))]
    reached = 0
    for reached in grid.feed(windows):
        assert reached == grid.reached
        known = reached // cell if reached < clusters * cluster else count
        shown = grid.weights(0, cell, count)
        np.testing.assert_array_equal(shown[:known], expected[:known])
        assert not shown[known:].any()
        assert grid.totals().sum() == reached
        assert grid.complete == (reached == clusters * cluster)
    assert reached == clusters * cluster
