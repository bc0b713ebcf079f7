"""Repair of links: a base that was moved or renamed, a format that is not recorded or wrong, a fragile name.

Each suggestion is an unsafe rebase, which changes the link alone and is planned, shown and refused like any other. It
is certain only where something proves it: the mark of the base that the overlay records, or the very same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.basemark import BaseMark
from backchain.discover import discover
from backchain.errors import BackchainError
from backchain.filename import backing_name_for
from backchain.hazards.facts import LOST
from backchain.hazards.formats import probed
from backchain.hazards.links import trapped_name
from backchain.operations import Rebase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo

_MOST_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One way to repair a link.

    Attributes:
        operation: The rebase that does it.
        graph: The graph in which it is to be planned.
        reason: What speaks for it, in one line.
        certain: Whether that proves it.
        likely: Whether it tells the file from others; size and format alone do not.
    """

    operation: Rebase
    graph: ChainGraph
    reason: str
    certain: bool
    likely: bool = True


def suggestions(graph: ChainGraph, image: ImageId, folders: Sequence[Path] = ()) -> tuple[Suggestion, ...]:
    """Find what may repair the link of an image, the best first.

    Args:
        graph: The images as they were found.
        image: The overlay.
        folders: Where a lost base may lie, besides the folders that the graph was read from.
    """
    info, backing = graph[image], graph.backing_of(image)
    if info.backing is None or info.header is None:
        return ()
    if backing is None or graph[backing].state in LOST:
        return tuple(_lost_base(graph, info, folders))[:_MOST_CANDIDATES]
    return tuple(_recorded(graph, info, graph[backing]))


def _recorded(graph: ChainGraph, info: ImageInfo, backing: ImageInfo) -> Iterator[Suggestion]:
    """Suggest a better record of the link to the same file."""
    assert info.backing is not None
    name, recorded = info.backing.name, info.backing.format
    if recorded is None:
        certain = not probed(graph, backing.id)
        reason = f"{backing.name} is {backing.format}" + ("" if certain else " by its content alone")
        yield Suggestion(Rebase(info.id, backing.id, True, name, backing.format), graph, reason, certain)
    elif recorded != backing.format:
        reason = f"{backing.name} is {backing.format}, though {recorded} is recorded"
        yield Suggestion(Rebase(info.id, backing.id, True, name, backing.format), graph, reason, certain=False)
    if any(trapped_name(graph, info.id)):
        better = backing_name_for(info.path, backing.path, relative=True)
        if better != name:
            rename = Rebase(info.id, backing.id, True, better, recorded or backing.format)
            yield Suggestion(rename, graph, f"records {better} in place of the fragile name", certain=True)


def _lost_base(graph: ChainGraph, info: ImageInfo, folders: Sequence[Path]) -> Iterator[Suggestion]:
    """Suggest images that may be the lost base: first what the mark proves, then by name, then by size and format.

    What hangs on the lost file itself would not be read any better than `info` is.
    """
    assert info.backing is not None
    roots = [f for f in dict.fromkeys((*graph.surroundings.roots, info.path.parent, *folders)) if f.is_dir()]
    everything = discover([*roots, info.path])
    mark = BaseMark.recorded_in(info)
    lost_name = info.backing.path.name if info.backing.path is not None else ""
    kind = info.backing.format
    lost = everything.backing_of(info.id) or info.id
    forbidden = {lost, info.id, *everything.dependents(lost), *everything.dependents(info.id)}
    ranked: list[tuple[int, Suggestion]] = []
    for candidate in everything:
        other = everything[candidate]
        if candidate in forbidden or not other.readable or (kind is not None and other.format != kind):
            continue
        proven = mark is not None and _has_mark(everything, candidate, mark)
        reasons = _reasons(other, info, mark, lost_name, proven=proven)
        if reasons:
            operation = Rebase(info.id, candidate, True, None, kind or other.format)
            named = other.path.name == lost_name
            likely = proven or (named and mark is None)
            rank = 0 if proven else 1 if named else 2
            ranked.append((rank, Suggestion(operation, everything, "; ".join(reasons), proven, likely)))
    yield from (s for _, s in sorted(ranked, key=lambda pair: pair[0]))


def _reasons(
    other: ImageInfo, info: ImageInfo, mark: BaseMark | None, lost_name: str, *, proven: bool
) -> list[str]:  # fmt: skip
    """Say what speaks for a candidate; nothing when its content is known to be another."""
    if proven:
        return [f"{other.name} holds what {info.name} remembers of its base"]
    if mark is not None and other.virtual_size == mark.size and other.path.name != lost_name:
        return []
    named = other.path.name == lost_name
    reasons = [f"it is called {other.name}, as the lost base was"] if named else []
    if other.virtual_size == info.virtual_size:
        reasons.append("it has the same format and virtual size" + ("" if named else ", which says little"))
    if named and mark is not None:
        reasons.append(f"but it does not hold what {info.name} remembers of it")
    return reasons


def _has_mark(graph: ChainGraph, image: ImageId, mark: BaseMark) -> bool:
    if graph[image].virtual_size != mark.size:
        return False
    try:
        return BaseMark.of([graph[i] for i in graph.chain(image)]) == mark
    except (BackchainError, OSError):
        return False
