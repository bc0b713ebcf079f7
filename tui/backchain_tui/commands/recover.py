"""``backchain recover``: what an interrupted job left, and the way on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backchain.errors import ImageError, UsageError
from backchain_tui.commands.changing import Emit, Request, changing_options, execute, print_json
from backchain_tui.streams import say

if TYPE_CHECKING:
    from backchain.journal import Record
    from backchain.operations import Operation
    from backchain.recovery import Tidied


@click.command(short_help="what an interrupted job left, and the way on")
@click.argument("folder", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--finish", is_flag=True, help="Do what is left of every interrupted job.")
@click.option("--undo", is_flag=True, help="Leave the chains as they are, give leaked clusters back, forget the jobs.")
@changing_options
def recover(folder: Path | None, request: Request, *, finish: bool, undo: bool) -> int:
    """Tell of the jobs in FOLDER (default: this folder) that died amid their work, and finish or undo them.

    Nothing is lost by an interrupted job: the chain reads the same at every moment. Without --finish or --undo this
    only tells.
    """
    from backchain.errors import MissingImageError
    from backchain.journal import read_journals

    if finish and undo:
        raise UsageError("--finish and --undo exclude each other")
    place = (folder or Path()).absolute()
    if not place.is_dir():
        raise MissingImageError(f"{place} is not a folder")
    records = [r for r in read_journals([place]) if r.interrupted]
    if not (finish or undo) or request.dry_run:
        return _tell(records, as_json=request.as_json)
    results: list[dict[str, Any]] = []
    tidied = [_finish(r, request, results.append) if finish else _undo(r, request, results.append) for r in records]
    if request.as_json:
        print_json({"finished" if finish else "undone": results})
    elif not records and not request.quiet:
        say("No interrupted job was found.")
    if kept := [t for t in tidied if t.kept]:
        raise ImageError(
            f"not tidied up: {'; '.join(line for t in kept for line in t.problems)}",
            "mend it (qemu-img check -r all) and run recover --undo again, the job is remembered until then",
        )
    return 0


def _tell(records: list[Record], *, as_json: bool) -> int:
    from backchain_tui.recovery_words import headline, story

    if as_json:
        print_json({"interrupted": [_to_json(r) for r in records]})
        return 0
    for record in records:
        say(headline(record))
        for line in story(record, _rest(record)):
            say(f"  {line}")
    if records:
        say("backchain recover --finish goes on with what is left, --undo leaves it.")
    else:
        say("No interrupted job was found.")
    return 0


def _rest(record: Record) -> Operation | None:
    from backchain.errors import BackchainError
    from backchain.recovery import graph_of, what_remains

    try:
        return what_remains(record, graph_of(record))
    except BackchainError:
        return None


def _to_json(record: Record) -> dict[str, Any]:
    rest = _rest(record)
    return {
        "journal": str(record.path),
        "operation": record.intent.operation,
        "target": str(record.intent.target),
        "stage": str(record.stage),
        "started": record.started,
        "remaining": rest.name if rest is not None else None,
    }


def _finish(record: Record, request: Request, emit: Emit) -> Tidied:
    """Run what remains, one operation after the other, each planned anew, and tidy up; `emit` takes their results.

    Raises:
        BackchainError: One of them is blocked or fails; the journal stays.
    """
    from backchain import recovery

    return recovery.finish(record, lambda graph, rest: execute(graph, rest, request, emit=emit))


def _undo(record: Record, request: Request, emit: Emit) -> Tidied:
    """Ask, and tidy up; `emit` takes what that came to.

    Raises:
        BackchainError: An image is in use, or writing failed; the journal stays.
        click.Abort: The answer was no.
    """
    from backchain.recovery import tidy_up
    from backchain_tui.recovery_words import headline, tidied_text

    if not request.yes:
        click.confirm(f"{headline(record)}: leave it as it is and forget it?", abort=True, err=True)
    tidied = tidy_up(record)
    if not request.quiet and not request.as_json:
        say(f"{headline(record)}: {tidied_text(tidied)}")
    emit({
        "operation": record.intent.operation,
        "target": str(record.intent.target),
        "leaked_clusters": {str(p): n for p, n in tidied.leaks.items()},
        "removed": [str(p) for p in tidied.removed],
        "problems": list(tidied.problems),
        "kept": tidied.kept,
    })  # fmt: skip
    return tidied
