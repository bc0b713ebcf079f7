"""A job's cells laid over the guest's disk, against a loop over every cluster."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backchain.jobs import Cell
from backchain.plan import CopyList
from backchain_tui.jobgrid import JobGrid, Work

CLUSTER = 4096


def copy_list(runs: list[tuple[int, int]]) -> CopyList:
    """Make a copy list out of (gap before, length) pairs in clusters."""
    starts, position = [], 0
    for gap, length in runs:
        starts.append(position + gap)
        position += gap + length
    return CopyList(
        CLUSTER,
        np.array(starts, np.int64),
        np.array([n for _, n in runs], np.int64),
    )


def naive(plan: CopyList, cells: np.ndarray, first: int, cell: int, count: int) -> list[int]:
    by_cluster = {}
    index = 0
    for start, length in zip(plan.starts.tolist(), plan.counts.tolist(), strict=True):
        for cluster in range(start, start + length):
            by_cluster[cluster] = int(cells[index])
            index += 1
    work = []
    for number in range(count):
        low, high = first + number * cell, first + (number + 1) * cell
        states = [s for c, s in by_cluster.items() if c * CLUSTER < high and (c + 1) * CLUSTER > low]
        if not states:
            work.append(Work.NONE)
        elif Cell.COPYING in states:
            work.append(Work.COPYING)
        else:
            work.append(Work.DONE if all(s >= Cell.DONE for s in states) else Work.WAITING)
    return work


runs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=12)


@given(runs, st.sampled_from([1024, 4096, 8192, 20480]), st.integers(0, 3), st.integers(1, 30), st.data())
def test_cells_show_the_work(
    pairs: list[tuple[int, int]], cell: int, skip: int, count: int, data: st.DataObject
) -> None:
    plan = copy_list(pairs)
    values = data.draw(st.lists(st.sampled_from(list(Cell)), min_size=plan.clusters, max_size=plan.clusters))
    cells = np.array(values, np.uint8)
    grid = JobGrid(plan, cells)
    got = grid.cells(skip * cell, cell, count)
    assert got.work.tolist() == naive(plan, cells, skip * cell, cell, count)
    for number in range(30):
        assert grid.at(number * CLUSTER) == naive(plan, cells, number * CLUSTER, CLUSTER, 1)[0]


def test_share_grows_with_what_is_done() -> None:
    cells = np.zeros(8, np.uint8)
    grid = JobGrid(copy_list([(0, 8)]), cells)
    shares = []
    for number in range(9):
        cells[:number] = Cell.DONE
        shares.append(int(grid.cells(0, 8 * CLUSTER, 1).share[0]))
    assert shares == [0, 1, 1, 1, 2, 2, 3, 3, 4]


def test_changed_gives_the_touched_guest_range_once() -> None:
    cells = np.zeros(10, np.uint8)
    grid = JobGrid(copy_list([(2, 4), (10, 6)]), cells)
    assert grid.changed() is None
    cells[3:6] = Cell.COPYING
    assert grid.changed() == (5 * CLUSTER, 18 * CLUSTER)
    assert grid.changed() is None
    cells[3] = Cell.DONE
    assert grid.changed() == (5 * CLUSTER, 6 * CLUSTER)


def test_an_empty_copy_list_has_no_work() -> None:
    grid = JobGrid(copy_list([]), np.zeros(0, np.uint8))
    assert grid.changed() is None
    assert grid.cells(0, CLUSTER, 3).work.tolist() == [0, 0, 0]
    assert grid.at(0) is Work.NONE
