"""What an interrupted operation left, and the way on: finish it, or leave the chain as it is and tidy up.

At every moment of an operation the chain reads the same, so nothing has to be undone for a machine to run. Finishing
means to ask for what is still to be done, as an operation of its own that is planned and run like any other; tidying
up gives leaked clusters back and removes what was made only in part.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backchain import locks
from backchain.discover import discover
from backchain.errors import BackchainError, ImageIOError
from backchain.image import ImageState, image_id, read_image_info
from backchain.journal import PREFIX, SCRATCH_SUFFIX, Journal, Stage, read_journal
from backchain.operations import Commit, Delete, Operation, Pull, Rebase
from backchain.qcow2.writer import Qcow2Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.journal import Link, Record


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was tidied up after an operation.

    Attributes:
        leaks: Clusters given back, by image.
        removed: Files that were made only in part.
        problems: What could not be tidied up, one line each.
    """

    leaks: Mapping[Path, int]
    removed: tuple[Path, ...]
    problems: tuple[str, ...]


def graph_of(record: Record) -> ChainGraph:
    """Read the images that an interrupted operation concerns.

    Raises:
        MissingImageError: None of them is there any more.
    """
    named = [record.intent.target, *record.intent.written, *(k.backing for k in record.intent.links if k.backing)]
    named += [Path(v) for v in record.intent.arguments.values() if isinstance(v, str) and v.startswith("/")]
    paths = [p for p in dict.fromkeys(named) if p.is_file()]
    graph = discover(paths or [record.intent.target])
    if _links_are_changed(record, graph):  # then nothing that survives reads through what the commit invalidated
        spent = {p for p, _ in record.intent.invalidated}
        marked = [replace(i, state=ImageState.INVALID) for i in graph.images.values() if i.path in spent]
        graph = graph.with_changes(replace=marked)
    return graph


def what_remains(record: Record, graph: ChainGraph) -> Operation | None:
    """Give the next operation that is to be run to finish an interrupted one, or None when all of it is done.

    Args:
        record: The journal of the interrupted operation.
        graph: The images as `graph_of` finds them; to be read anew after each operation.
    """
    arguments, found = record.intent.arguments, _Finder(graph)
    if record.intent.operation == "delete":
        left = tuple(i for p in arguments["images"] if (i := found.image(p)) is not None)
        return Delete(left) if left else None
    pending = [k for k in record.intent.links if _is_pending(k, graph, found)]
    if record.intent.operation == "commit":
        return _rest_of_commit(record, graph, pending)
    image, base = found.image(arguments.get("image")), found.image(arguments.get("base") or arguments.get("backing"))
    if not pending or image is None:
        return None
    if record.intent.operation == "pull":
        return Pull(image, base)
    if record.intent.operation == "rebase":
        return Rebase(
            image, base, bool(arguments["unsafe"]), arguments["backing_name"], arguments["backing_format"]
        )  # fmt: skip
    return None


def _rest_of_commit(record: Record, graph: ChainGraph, pending: list[Link]) -> Operation | None:
    arguments, found = record.intent.arguments, _Finder(graph)
    base, top = found.image(arguments["base"]), found.image(arguments["top"])
    if base is None or top is None:
        return None
    if pending and len(pending) < len(record.intent.links):  # all data is in place, and some overlays use it already
        image = found.image(str(pending[0].image))
        return None if image is None else Rebase(image, base, True, pending[0].name, pending[0].format)
    active = graph.is_active(top) and not arguments["keep_top"]
    if pending or not record.intent.links or (active and not _is_empty(graph, top)):
        return Commit(base, top, bool(arguments["keep_top"]))
    return None


def _is_empty(graph: ChainGraph, image: ImageId) -> bool:
    header = graph[image].header
    if header is None:
        return False
    with graph[image].path.open("rb") as file:
        file.seek(header.l1_table_offset)
        return not any(file.read(header.l1_size * 8))


def _is_pending(link: Link, graph: ChainGraph, found: _Finder) -> bool:
    image = found.image(str(link.image))
    if image is None:
        return False
    return graph.backing_of(image) != (found.image(str(link.backing)) if link.backing is not None else None)


def _links_are_changed(record: Record, graph: ChainGraph) -> bool:
    found = _Finder(graph)
    links = record.intent.links
    return bool(links) and not any(_is_pending(k, graph, found) for k in links)


class _Finder:
    """Finds images of a graph by the path that a journal names."""

    def __init__(self, graph: ChainGraph) -> None:
        self._graph = graph

    def image(self, path: str | None) -> ImageId | None:
        if path is None:
            return None
        try:
            image = image_id(os.stat(path))
        except (OSError, ValueError):
            return None
        return image if image in self._graph else None


def tidy_up(record: Record) -> Tidied:
    """Give back what an interrupted operation leaked, remove what it made in part, and forget its journal.

    The links are left as they are: every surviving image reads the same through them.

    Raises:
        ImageInUseError: Another process uses one of the images; nothing was changed.
        ImageIOError: Writing failed.
    """
    leaks: dict[Path, int] = {}
    removed: list[Path] = []
    problems: list[str] = []
    for path in record.intent.written:
        try:
            if record.intent.operation == "snapshot":
                removed += [path] if _remove(path) else []
            elif record.intent.operation != "delete" and path.is_file():
                leaks[path] = _release_leaks(path)
        except OSError as error:
            raise ImageIOError(f"{path}: {os.strerror(error.errno or 0)}") from error
        except BackchainError as error:
            if error.exit_code in {5, 6}:
                raise
            problems.append(str(error))
    close(record)
    return Tidied({p: n for p, n in leaks.items() if n}, tuple(removed), tuple(problems))


def close(record: Record) -> None:
    """End a journal: keep it as the memory of what a finished commit has invalidated, or remove it."""
    try:
        graph = graph_of(record)
        spent = _links_are_changed(record, graph) and any(p.exists() for p, _ in record.intent.invalidated)
    except BackchainError:
        spent = False
    now = read_journal(record.path)
    if now is None or now.alive:
        return
    if spent:
        journal = Journal(os.open(record.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), record.path)
        journal.reach(Stage.LEFT)
        journal.close()
    else:
        record.path.unlink(missing_ok=True)


def _remove(path: Path) -> bool:
    """Remove a file that was made in part; a journal can name no other."""
    if not (path.name.startswith(PREFIX) and path.name.endswith(SCRATCH_SUFFIX)):
        return False
    with suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def _release_leaks(path: Path) -> int:
    info = read_image_info(path)
    if info.header is None:
        return 0
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        locks.take(descriptor, path, writing=True)
        try:
            return Qcow2Writer(descriptor, info.header).release_leaks()
        except BackchainError as error:
            raise type(error)(f"{info.display_path}: {error.message}", error.hint) from error
    finally:
        os.close(descriptor)
