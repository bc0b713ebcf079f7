"""``backchain recover``: what an interrupted job left, and the way on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backchain.errors import BackchainError, ImageError, JobCancelledError, UsageError
from backchain.filename import is_within
from backchain_tui.commands.changing import Request, changing_options, execute, print_json, require_terminal
from backchain_tui.commands.options import NamedPath, show_incomplete
from backchain_tui.stdio import complain, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.record import Record
    from backchain.recovery import Tidied

_MILDEST_FIRST = (0, 5, 2, 3, 4, 6, 1)
"""Exit statuses, from what passes by itself to what nobody expects: the worst of several jobs is the command's."""


@click.command(short_help="what an interrupted job left, and the way on")
@click.argument("folder", metavar="[FOLDER]", required=False, type=NamedPath(folder=True))
@click.option("--finish", is_flag=True, help="Do what is left of every interrupted job.")
@click.option("--undo", is_flag=True, help="Leave the chains as they are, give leaked clusters back.")
@changing_options
def recover(folder: Path | None, request: Request, *, finish: bool, undo: bool) -> int:
    """Tell of the jobs in FOLDER (default: this folder) and below that died amid their work; finish or undo them.

    Nothing is lost by an interrupted job: the chain reads the same at every moment. Without --finish or --undo this
    only tells; --finish -n shows the plan of what is left, too.
    """
    from backchain.discover import discover
    from backchain.errors import MissingImageError

    if finish and undo:
        raise UsageError("--finish and --undo exclude each other")
    place = (folder or Path()).absolute()
    if not place.is_dir():
        raise MissingImageError(f"{place} is not a folder")
    graph = discover([place], scan=request.scan)
    if not request.quiet:
        show_incomplete(graph)
    records = [r for r in graph.interrupted if _concerns(r, place)]
    recovery = _Recovery(place, request)
    if not request.dry_run and (finish or undo):
        way = (recovery.finish, "finished") if finish else (recovery.undo, "undone")
        status = recovery.each(records, *way)
        if not (records or request.as_json or request.quiet):
            say("No interrupted job was found.")
        return status
    status = recovery.each(records, recovery.preview if finish else recovery.tell, "interrupted")
    if not request.as_json:
        hint = "backchain recover --finish goes on with what is left, --undo leaves it."
        say(hint if records else "No interrupted job was found.")
    return status


def _concerns(record: Record, place: Path) -> bool:
    """Whether a job has to do with a folder; those of other folders are seen where its images hang on theirs."""
    intent = record.intent
    files = (record.path, intent.target, *(w.path for w in intent.written), *(k.image for k in intent.links))
    return any(is_within(path, (place,)) for path in files)


class _Recovery:
    """Deals with interrupted jobs, one after the other, and collects what is to be said of each as JSON."""

    def __init__(self, place: Path, request: Request) -> None:
        self._place = place
        self._request = request
        self._scan = (place, *request.scan)
        self._speaks = not (request.as_json or request.quiet)
        self._entries: list[dict[str, Any]] = []

    def each(self, records: Sequence[Record], deed: Callable[[Record], int], name: str) -> int:
        """Do a deed to each job; one that fails keeps none of the others from its turn, unless it was cancelled.

        Args:
            records: The journals.
            deed: Deals with one job, and gives an exit status.
            name: What the entries are called in the JSON document, which is printed in any case.

        Returns:
            The worst exit status.

        Raises:
            JobCancelledError: The user cancelled.
            click.Abort: The answer was no.
        """
        worst = 0
        try:
            for record in records:
                before = len(self._entries)
                try:
                    status = deed(record)
                except JobCancelledError:
                    raise
                except BackchainError as error:
                    complain(f"{self._headline(record)}: {error}")
                    self._note(record, error, before)
                    status = error.exit_code
                worst = max(worst, status, key=_MILDEST_FIRST.index)
        finally:
            if self._request.as_json:
                print_json({name: self._entries})
        return worst

    def tell(self, record: Record) -> int:
        """Tell of a job."""
        from backchain_tui.recovery_words import story

        left = self._left(record)
        self._entries.append(_to_json(record, left))
        if not self._request.as_json:
            say(self._headline(record))
            for line in story(record, left, self._place):
                say(f"  {line}")
        return 0

    def preview(self, record: Record) -> int:
        """Tell of a job, and show the plan of what is left of it; give the status of its hazards.

        Raises:
            BackchainError: It cannot be finished.
        """
        from backchain.recovery import graph_of, what_remains

        self.tell(record)
        graph, entry = graph_of(record, self._scan), self._entries[-1]
        rest = what_remains(record, graph)
        return execute(graph, rest, self._request, emit=lambda plan: entry.update(plan=plan)) if rest is not None else 0

    def finish(self, record: Record) -> int:
        """Run what remains, one operation after the other, each planned anew, and tidy up.

        Raises:
            BackchainError: One of them is blocked or fails; the journal stays.
        """
        from backchain import recovery

        done: list[Operation] = []

        def perform(graph: ChainGraph, rest: Operation) -> None:
            execute(graph, rest, self._request, emit=self._entries.append)
            done.append(rest)

        tidied = recovery.finish(record, perform, self._scan)
        if not done:
            self._entries.append(_tidied_json(record, tidied))
        return self._close(record, tidied, "finished" if done else "nothing was left to be done", "--finish")

    def undo(self, record: Record) -> int:
        """Ask, and tidy up.

        Raises:
            UsageError: There is nobody to ask.
            BackchainError: An image is in use, writing failed, or not all could be tidied up; the journal stays.
            click.Abort: The answer was no.
        """
        from backchain.recovery import tidy_up

        if not self._request.yes:
            require_terminal()
            click.confirm(f"{self._headline(record)}: leave it as it is, and tidy up?", abort=True, err=True)
        tidied = tidy_up(record)
        self._entries.append(_tidied_json(record, tidied))
        return self._close(record, tidied, "left as it is", "--undo")

    def _left(self, record: Record) -> Operation | BackchainError | None:
        """Give what is left of a job; the error that keeps it from being finished; or None."""
        from backchain.recovery import graph_of, what_remains

        try:
            return what_remains(record, graph_of(record, self._scan))
        except BackchainError as error:
            return error

    def _headline(self, record: Record) -> str:
        from backchain_tui.recovery_words import headline

        return headline(record, self._place)

    def _close(self, record: Record, tidied: Tidied, outcome: str, again: str) -> int:
        """Say what became of a job that is not interrupted any more.

        Raises:
            ImageError: The journal stays, as not all could be tidied up.
        """
        from backchain_tui.recovery_words import tidied_text

        if self._speaks:
            say(f"{self._headline(record)}: {outcome}; {tidied_text(tidied, self._place)}")
        if tidied.kept:
            raise ImageError(
                f"not tidied up: {'; '.join(tidied.problems)}",
                f"mend it (qemu-img check -r all) and run recover {again} again, the job is remembered until then",
            )
        return 0

    def _note(self, record: Record, error: BackchainError, before: int) -> None:
        """Put an error into the entry that a job has got since there were `before`, or into one of its own."""
        if len(self._entries) == before or self._entries[-1].get("status") == "done":
            self._entries.append(_named(record) | {"status": "failed"})
        self._entries[-1].setdefault("error", error.message)


def _named(record: Record) -> dict[str, Any]:
    return {"operation": record.intent.operation, "target": str(record.intent.target)}


def _to_json(record: Record, left: Operation | BackchainError | None) -> dict[str, Any]:
    known = {"journal": str(record.path)} | _named(record) | {"stage": str(record.stage), "started": record.started}
    if isinstance(left, BackchainError):
        return known | {"remaining": None, "error": left.message}
    return known | {"remaining": left.name if left is not None else None}


def _tidied_json(record: Record, tidied: Tidied) -> dict[str, Any]:
    return _named(record) | {
        "leaked_clusters": {str(p): n for p, n in tidied.leaks.items()},
        "removed": [str(p) for p in tidied.removed],
        "problems": list(tidied.problems),
        "kept": tidied.kept,
    }
