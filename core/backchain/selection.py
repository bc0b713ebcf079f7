"""What is to move: which parts of a chain's view an operation brings into its target, window by window.

A selection answers that alone; how a part gets there (in place, filled, as a flag) is decided in
`backchain.transfer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backchain.clustermap import map_window
from backchain.runs import Runs, RunState, overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from backchain.clustermap import Layer


class Selection(Protocol):
    """What a transfer asks of its operation.

    Attributes:
        sources: Indices of the layers whose data moves, into the layers of the view.
        backing_after: Virtual size in bytes of what backs the target afterwards; 0 when nothing does.
    """

    sources: range
    backing_after: int

    def covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the guest range [start, end) bytes, and which of them are to move (bool, shape (runs,))."""
        ...


class Merged:
    """A commit or a pull: all that the sources provide moves, whatever it holds.

    Attributes:
        sources: Indices of the layers that are merged.
        backing_after: As `Selection` says.
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
        below = sources.stop
        self._below_size = layers[below].size if below < len(layers) else None
        after = target + 1 if target >= below else below
        self.backing_after = layers[after].size if after < len(layers) else 0

    def covered(self, start: int, end: int) -> tuple[Runs, NDArray[np.bool_]]:
        """Give the runs of the layers down to the sources' last, and which of them are to move."""
        runs = map_window(self._layers, start, end)
        if self._below_size is not None:
            runs = overlay(runs, _below(start, end, self._below_size, self.sources.stop))
        wanted = ~runs.unresolved() & (runs.state != RunState.ABSENT)
        if self.sources.start > 0:
            wanted &= (runs.layer >= self.sources.start) | (runs.state == RunState.PAST_END)
        return runs, wanted


def _below(start: int, end: int, size: int, stop: int) -> Runs:
    """Stand for the layer below the sources: it provides what is inside of it, and zeros past its end."""
    inside = Runs.one(start, min(end, size), RunState.UNALLOCATED, layer=stop)
    past = Runs.one(max(start, size), end, RunState.PAST_END, layer=stop - 1)
    if end <= size:
        return inside
    return past if start >= size else Runs.join((inside, past))
