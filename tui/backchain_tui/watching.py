"""Whether images are still as they were read: a look at their files and folders that reads none of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backchain.image import Fingerprint
from backchain.locks import probe

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId

_SLACK_NS = 20_000_000
"""The clock that file systems stamp with lags by so much at most."""

_GONE, _UNSETTLED = 0, -1
"""Stand for the time of a folder that is not there, and of one that may have changed while it was read."""


class Sight:
    """What the files of a forest looked like when it was read."""

    def __init__(self, graph: ChainGraph, folders: Iterable[Path], begun: int, in_use: frozenset[ImageId]) -> None:
        """Take down what was seen.

        Args:
            graph: The forest.
            folders: Folders that were given, in which images may appear.
            begun: When reading began, in nanoseconds since the epoch.
            in_use: The images that another process held open then.
        """
        images = [graph[i] for i in graph if graph[i].remote is None]
        self._files = {info.path: info.fingerprint for info in images}
        self._lockable = {info.id: info.path for info in images if info.fingerprint is not None}
        self._in_use = in_use
        self._folders: dict[Path, int] = {}
        for folder in {*folders, *(path.parent for path in self._lockable.values())}:
            time = _changed_at(folder)
            self._folders[folder] = time if time < begun - _SLACK_NS else _UNSETTLED

    def holds(self) -> bool:
        """Whether all of it looks the same now."""
        return (
            all(_changed_at(folder) == time for folder, time in self._folders.items())
            and all(_fingerprint(path) == known for path, known in self._files.items())
            and self._in_use == frozenset(i for i, path in self._lockable.items() if probe(path, writing=True))
        )


def look_alike(one: ChainGraph, other: ChainGraph) -> bool:
    """Whether two readings of a forest show the same, though a machine may have written to its disk meanwhile."""
    return (
        list(one) == list(other)
        and one.incomplete == other.incomplete
        and one.interrupted == other.interrupted
        and all(
            one.backing_of(i) == other.backing_of(i)
            and replace(one[i], fingerprint=None) == replace(other[i], fingerprint=None)
            for i in one
        )
    )


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        return Fingerprint.of(path.stat())
    except (OSError, ValueError):
        return None


def _changed_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return _GONE
