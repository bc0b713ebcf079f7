"""What an interrupted operation left, and the way on: finish it, or leave the chain as it is and tidy up.

At every moment of an operation the chain reads the same, so nothing has to be undone for a machine to run. Finishing
means to ask for what is still to be done, as an operation of its own that is planned and run like any other; tidying
up gives leaked clusters back and removes what was made only in part.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backchain import locks
from backchain.discover import discover
from backchain.errors import (
    BackchainError,
    ImageError,
    ImageInUseError,
    ImageIOError,
    MissingImageError,
    StalePlanError,
    UnsupportedImageError,
    io_error,
)
from backchain.filename import printable
from backchain.image import ImageState, naming, read_image_info, require_header, require_readable
from backchain.journal import PREFIX, SCRATCH_SUFFIX, erase, note, read_journal
from backchain.operations import Commit, Delete, Operation, Pull, Rebase, Snapshot
from backchain.pending import (
    find_path,
    is_overtaken,
    links_are_changed,
    mixed_images,
    pending_links,
    spent_images,
)
from backchain.qcow2.writer import Qcow2Writer, require_writable
from backchain.record import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backchain.graph import ChainGraph
    from backchain.image import Fingerprint, ImageId
    from backchain.record import Record, Written


class _LostError(ImageError):
    """What a file leaks cannot be given back here, now or later: trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was tidied up after an operation.

    Attributes:
        leaks: Clusters given back, by image.
        removed: Files that were made only in part.
        problems: What could not be tidied up, one line each.
        kept: Whether the journal stays, as that can be mended and then tidied up.
        mixed: Images that read a mix of before and after until the commit that was given up is done after all.
    """

    leaks: Mapping[Path, int]
    removed: tuple[Path, ...]
    problems: tuple[str, ...]
    kept: bool
    mixed: tuple[Path, ...] = ()


def graph_of(record: Record, scan: Sequence[Path] = ()) -> ChainGraph:
    """Read the images that an interrupted operation concerns, as far as they are still there.

    Args:
        record: Its journal.
        scan: Folders in which overlays may lie, besides those of the images.

    Raises:
        MissingImageError: One of these folders does not exist.
    """
    named = [record.intent.target, *(w.path for w in record.intent.written)]
    named += [k.backing for k in record.intent.links if k.backing]
    named += [Path(v) for v in record.intent.arguments.values() if isinstance(v, str) and v.startswith("/")]
    paths = [p for p in dict.fromkeys(named) if os.path.isfile(p)]  # noqa: PTH113 - it takes what may not be looked at
    return discover(paths, scan=scan)


def finish(record: Record, perform: Callable[[ChainGraph, Operation], object], scan: Sequence[Path] = ()) -> Tidied:
    """Do what is left of an interrupted operation, and tidy up after it.

    Args:
        record: Its journal.
        perform: Plans and runs an operation on a graph; an error that it raises ends this, and the journal stays.
        scan: Folders in which overlays may lie, besides those of the images.

    Raises:
        MissingImageError: An image that is needed for it is gone.
        ImageInUseError: Another process uses one of the images.
        ImageIOError: Writing failed.
    """
    done: Operation | None = None
    while (rest := what_remains(record, graph := graph_of(record, scan))) is not None:
        if rest == done:  # a copy that is done leaves no trace by which it could be told
            break
        perform(graph, rest)
        done = rest
    return tidy_up(record, finished=True)


def what_remains(record: Record, graph: ChainGraph) -> Operation | None:
    """Give the next operation that is to be run to finish an interrupted one, or None when all of it is done.

    Args:
        record: The journal of the interrupted operation.
        graph: The images as `graph_of` finds them; to be read anew after each operation.

    Raises:
        MissingImageError: An image that is needed for it is gone.
    """
    intent, arguments = record.intent, record.intent.arguments
    if intent.operation == "delete":
        left = tuple(graph[i].id for p, f in intent.invalidated if (i := _as_it_was(graph, p, f)) is not None)
        return Delete(left) if left else None
    if intent.operation == "snapshot":
        overlay = Path(arguments["overlay"])
        return None if os.path.lexists(overlay) else Snapshot(_needed(graph, arguments["image"]), overlay)
    if intent.operation == "commit":
        return _rest_of_commit(record, graph)
    image = _needed(graph, arguments["image"])
    if not pending_links(record, graph):
        return None
    below = arguments["base" if intent.operation == "pull" else "backing"]
    base = _needed(graph, below) if below is not None else None
    if intent.operation == "pull":
        return Pull(image, base)
    return Rebase(image, base, bool(arguments["unsafe"]), arguments["backing_name"], arguments["backing_format"])


def _rest_of_commit(record: Record, graph: ChainGraph) -> Operation | None:
    arguments, links = record.intent.arguments, record.intent.links
    pending = pending_links(record, graph)
    base = _needed(graph, arguments["base"])
    active = all(str(k.image) == arguments["top"] for k in links)
    if record.linking and not active:  # all data is in place, and overlays may use it already
        if not pending:
            for link in links:
                _needed(graph, str(link.image))  # one with another name by now may not be changed yet
            return None
        if len(pending) < len(links):
            return Rebase(_needed(graph, str(pending[0].image)), base, True, pending[0].name, pending[0].format)
    top = _needed(graph, arguments["top"])
    if is_overtaken(record, graph):  # the same was asked for again since, and is done
        return None
    if base not in graph.chain(top) or graph[top].state is ImageState.INVALID:
        raise StalePlanError(
            f"{graph[base].display_path} is not below {graph[top].display_path} any more, so that the interrupted "
            f"commit cannot be finished",
            "leave it (recover --undo)",
        )
    keep = bool(arguments["keep_top"])
    return Commit(base, top, keep) if pending or keep or not _is_empty(graph, top) else None


def _is_empty(graph: ChainGraph, image: ImageId) -> bool:
    header = graph[image].header
    if header is None:
        return False
    with graph[image].path.open("rb") as file:
        file.seek(header.l1_table_offset)
        return not any(file.read(header.l1_size * 8))


def _needed(graph: ChainGraph, path: str) -> ImageId:
    image = find_path(graph, path)
    if image is None:
        raise MissingImageError(
            f"{printable(path)} is gone, so that the interrupted operation cannot be finished",
            "bring it back, or leave the operation (recover --undo)",
        )
    return image


def _as_it_was(graph: ChainGraph, path: Path, fingerprint: Fingerprint) -> ImageId | None:
    """Give the image at a path if it is the very file that was meant, unchanged."""
    image = find_path(graph, str(path))
    now = graph[image].fingerprint if image is not None else None
    return image if now is not None and now.lasting == fingerprint.lasting else None


def tidy_up(record: Record, *, finished: bool = False) -> Tidied:
    """Give back what an interrupted operation leaked, remove what it made in part, and forget its journal.

    The links are left as they are: every surviving image reads the same through them. An image that is damaged or
    marked dirty keeps what it leaked until it has been checked, and the journal, which knows of it, stays as long. One
    that a commit has invalidated is not touched: it is known as such as long as it is as it was.

    Args:
        record: Its journal.
        finished: Whether all of it is done by now; else what a commit has changed in part stays known.

    Raises:
        ImageInUseError: Another process uses one of the images; nothing was changed.
        ImageIOError: Writing failed.
    """
    leaks: dict[Path, int] = {}
    removed: list[Path] = []
    problems: list[str] = []
    kept = False
    for file in _to_tidy_up(record):
        try:
            if record.intent.operation == "snapshot":
                removed += [file.path] if _remove(file.path) else []
            elif record.intent.operation != "delete" and file.format == "qcow2":
                leaks[file.path] = _release_leaks(file)
        except OSError as error:
            raise io_error(printable(str(file.path)), error) from error
        except (ImageInUseError, ImageIOError):
            raise
        except BackchainError as error:
            problems.append(str(error))
            kept |= not isinstance(error, _LostError)
    mixed = () if finished else _mixed(record)
    if not kept:
        _close(record, finished=finished)
    return Tidied({p: n for p, n in leaks.items() if n}, tuple(removed), tuple(problems), kept, mixed)


def _mixed(record: Record) -> tuple[Path, ...]:
    """Give the images that read a mix as long as a commit has not come to its end."""
    if record.intent.operation != "commit":
        return ()
    try:
        graph = graph_of(record)
    except BackchainError:
        return ()
    return tuple(graph[i].path for i in mixed_images(record, graph))


def _to_tidy_up(record: Record) -> list[Written]:
    """Give the files that an operation wrote, without images that are invalid."""
    try:
        graph = graph_of(record)
    except BackchainError:  # what is wrong with them is said when they are opened
        return [*record.intent.written]
    places = ((file, find_path(graph, str(file.path))) for file in record.intent.written)
    return [file for file, image in places if image is None or graph[image].state is not ImageState.INVALID]


def _close(record: Record, *, finished: bool) -> None:
    """End a journal: keep it as the memory of what a commit has invalidated or changed in part, or remove it."""
    now = read_journal(record.path)
    if now is None or now.alive:
        return
    memory = _memory(record, finished=finished)
    if memory is not None:
        note(record, memory)
    else:
        erase(record.path)


def _memory(record: Record, *, finished: bool) -> Stage | None:
    """Say as what a journal has to be kept, or None."""
    if record.intent.operation != "commit":
        return None
    try:
        graph = graph_of(record)
    except BackchainError:
        return None
    if _knows_invalid(record, graph):
        return Stage.LEFT
    return Stage.UNDONE if not finished and mixed_images(record, graph) else None


def _knows_invalid(record: Record, graph: ChainGraph) -> bool:
    """Whether a journal alone remembers images that a finished commit has invalidated."""
    others = [r for r in graph.surroundings.journals if r.path != record.path and r.stage is Stage.LEFT]
    known = spent_images(others, graph)
    return links_are_changed(record, graph) and not spent_images([record], graph) <= known


def _remove(path: Path) -> bool:
    """Remove a file that was made in part; a journal can name no other."""
    if not (path.name.startswith(PREFIX) and path.name.endswith(SCRATCH_SUFFIX)):
        return False
    with suppress(FileNotFoundError):
        path.unlink()
        return True
    return False


def _release_leaks(file: Written) -> int:
    """Give back what a qcow2 image counts in vain; its content is not asked for its format.

    A guest may have put a qcow2 header into its raw disk, and whoever believed it would cut that disk short.

    Raises:
        ImageInUseError: Another process uses the image.
        ImageError: It is not the one that was written, holds what is not known here, or cannot be written now.
        OSError: Reading or writing failed.
    """
    shown = printable(str(file.path))
    try:
        descriptor = os.open(file.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _LostError(f"{shown} is gone; what it may leak stays in it, wherever it is") from error
    try:
        if os.fstat(descriptor).st_ino != file.inode:
            raise _replaced(shown)
        locks.take(descriptor, file.path, writing=True)
        info = read_image_info(file.path, image_format=file.format)
        if info.fingerprint is None or info.fingerprint.inode != file.inode:
            raise _replaced(shown)
        require_readable(info)
        with naming(info):
            require_writable(require_header(info))
            try:
                return Qcow2Writer(descriptor, require_header(info)).release_leaks()
            except UnsupportedImageError as error:  # it stays what it is
                raise _LostError(error.message, "qemu-img check -r leaks gives back what it leaks") from error
    finally:
        os.close(descriptor)


def _replaced(shown: str) -> _LostError:
    return _LostError(f"{shown} is another file than the one that was written")
