"""What is to move: which parts of a chain's view an operation brings into its target, window by window.

A selection answers that alone; how a part gets there (in place, filled, as a flag) is decided in
`backchain.transfer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from backchain.clustermap import Qcow2Layer, map_backing, map_window
from backchain.contents import Comparison
from backchain.pausing import go_on
from backchain.runs import Runs, RunState, overlay, split_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backchain.clustermap import Layer
    from backchain.pausing import Pause
    from backchain.plan import CopyList


class Selection(Protocol):
    """What a transfer asks of its operation.

    Attributes:
        sources: Indices of the layers whose data moves, into the layers of the view.
        backing_after: Virtual size in bytes of what backs the target afterwards; 0 when nothing does.
        looked_at: The layers that decide what moves: where none of them holds anything, nothing does.
    """

    sources: range
    backing_after: int
    looked_at: tuple[Layer, ...]

    def covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the guest range [start, end) bytes, and which of them are to move (bool, shape (runs,))."""
        ...


class Merged:
    """A commit or a pull: all that the sources provide moves, whatever it holds.

    Attributes:
        sources: Indices of the layers that are merged.
        backing_after: As `Selection` says.
        looked_at: Likewise.
    """

    def __init__(self, layers: Sequence[Layer], target: int, sources: range) -> None:
        """Select what `sources` provide.

        Args:
            layers: The view, top first, down to its root.
            target: Index of the layer that receives data: below the sources (commit), or above them (pull).
            sources: The layers that are merged.
        """
        self.sources = sources
        self._layers = layers[: sources.stop]
        self.looked_at = tuple(layers)
        below = sources.stop
        self._below_size = layers[below].size if below < len(layers) else None
        after = target + 1 if target >= below else below
        self.backing_after = layers[after].size if after < len(layers) else 0

    def covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the layers down to the sources' last, and which of them are to move."""
        runs = map_window(self._layers, start, end)
        if self._below_size is not None and end > self._below_size:
            runs = overlay(runs, _below(start, end, self._below_size, self.sources.stop))
        wanted = ~runs.unresolved() & (runs.state != RunState.ABSENT)
        if self.sources.start > 0:
            wanted &= (runs.layer >= self.sources.start) | (runs.state == RunState.PAST_END)
        return runs, wanted


class Differing:
    """A safe rebase: what the image does not hold moves where its old and its new backing file differ.

    The unit is the image's own: a cluster, or a subcluster with extended L2 entries. Content that is equal stays where
    it is, however it is stored on the two sides.

    Attributes:
        sources: Indices of the old backing chain; the image itself when it has none (its zeros may have to be kept).
        backing_after: As `Selection` says.
        looked_at: Likewise.
    """

    def __init__(
        self, layers: Sequence[Layer], below: Sequence[Layer], sources: range, known: CopyList | None = None,
        pause: Pause = go_on,
    ) -> None:  # fmt: skip
        """Select what differs.

        Args:
            layers: The image and its old backing chain, top first.
            below: The new backing chain, top first; empty for none.
            sources: Indices of the layers that the moved data is counted for.
            known: What a plan has found to differ; nothing else is compared again then.
            pause: Called between reads.
        """
        image = layers[0]
        assert isinstance(image, Qcow2Layer)
        self.sources = sources
        self.backing_after = below[0].size if below else 0
        self._layers, self._below = layers, below
        self.looked_at = (*layers, *below)
        self._comparison = Comparison(layers, (image, *below), pause=pause)
        self._unit = image.file.header.subcluster_size
        self._cell = image.file.header.cluster_size
        self._known = known

    def covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the old view, and which of them are to move: whole units.

        Raises:
            ImageError: Data cannot be decompressed.
            OSError: Data cannot be read.
        """
        edges = np.arange(start, end, self._unit, dtype=np.int64)
        old = split_at(map_window(self._layers, start, end), edges[1:])
        unit = (old.start - start) // self._unit
        held = (old.layer == 0) & ~np.isin(old.state, (RunState.PAST_END, RunState.ABSENT))
        candidates = np.zeros(len(edges), bool)
        candidates[unit[~held]] = True
        if self._known is not None:
            candidates &= self._planned(edges // self._cell, self._known)
            if self._unit == self._cell:  # then a plan's clusters are the units that differ
                return old, candidates[unit] & ~held
        if not candidates.any():
            return old, np.zeros(len(old), bool)
        differ = self._comparison.units(old, map_backing(self._below, start, end), self._unit, candidates)
        return old, differ[unit] & ~held

    @staticmethod
    def _planned(cells: NDArray[np.int64], known: CopyList) -> NDArray[np.bool_]:
        """Say which of some guest clusters a plan names; bool of the same shape."""
        if not len(known.starts):
            return np.zeros(len(cells), bool)
        index = np.searchsorted(known.starts, cells, "right") - 1
        return (index >= 0) & (cells < (known.starts + known.counts)[index])


def _below(start: int, end: int, size: int, stop: int) -> Runs:
    """Stand for the layer below the sources: it provides what is inside of it, and zeros past its end."""
    inside = Runs.one(start, min(end, size), RunState.UNALLOCATED, layer=stop)
    past = Runs.one(max(start, size), end, RunState.PAST_END, layer=stop - 1)
    if end <= size:
        return inside
    return past if start >= size else Runs.join((inside, past))
