"""What the changing commands have in common: options, the question before, the run, and what is said after."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backchain.errors import BackchainError, ImageIOError, UsageError
from backchain.filename import printable
from backchain.plan import HAZARD_CODES, UNKNOWN_OVERLAYS
from backchain_tui.commands.finding import find_image
from backchain_tui.commands.options import parse_size, scan_option, show_incomplete
from backchain_tui.stdio import complain, say

if TYPE_CHECKING:
    from threading import Event

    from backchain.engines.base import Engine
    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.plan import Plan

_Command = TypeVar("_Command", bound=Callable[..., Any])

Emit = Callable[[dict[str, Any]], None]
"""Takes the JSON document of a plan or a result."""

_OPTIONS = (
    click.option("-n", "--dry-run", is_flag=True, help="Show what would happen and change nothing."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document: the plan with -n, else the result."),
    click.option(
        "--progress", type=click.Choice(["auto", "plain", "json", "none"]), default="auto",
        help="On standard error; auto: a bar on a terminal, else nothing.",
    ),
    click.option("-p", "show_progress", is_flag=True, help="Show progress (a bar on a terminal, else plain lines)."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("--engine", type=click.Choice(["auto", "builtin"]), default="auto", help="What runs the operation."),
    click.option("-r", "--rate-limit", metavar="BYTES", type=parse_size, help="Bytes a second: 10M, 1G, 4096."),
    click.option(
        "--verify", type=click.Choice(["sampled", "whole", "no"]), default="sampled",
        help="How much of what the surviving images read is compared with what they read before.",
    ),
    click.option(
        "--force", metavar="CODE", multiple=True, type=click.Choice(HAZARD_CODES),
        help="Go on in spite of this hazard, if it is one that asks for confirmation (repeatable).",
    ),
    scan_option,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """The options that every changing command takes, as they were given."""

    dry_run: bool
    yes: bool
    as_json: bool
    progress: str
    show_progress: bool
    quiet: bool
    engine: str
    rate_limit: int | None
    verify: str
    force: tuple[str, ...]
    scan: tuple[Path, ...]

    @property
    def progress_style(self) -> str:
        """How to show progress: bar, plain, json or none."""
        if self.progress != "auto":
            return self.progress
        if self.quiet:
            return "none"
        if sys.stderr.isatty():
            return "bar"
        return "plain" if self.show_progress else "none"


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    say(json.dumps(document, indent=2))


def changing_options(command: _Command) -> _Command:
    """Add the options of a changing command; they arrive as one parameter, `request`."""

    @functools.wraps(command)
    def with_request(**given: Any) -> int:
        request = Request(**{name: given.pop(name) for name in Request.__dataclass_fields__})
        return int(command(request=request, **given))

    wrapped: Any = with_request
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def execute(
    graph: ChainGraph, operation: Operation, request: Request, *, remove_leftovers: bool = False,
    emit: Emit = print_json,
) -> int:  # fmt: skip
    """Plan the operation, ask, run it, and say what it did; give the exit status.

    Args:
        graph: The images as they were found.
        operation: What is asked for.
        request: The options that every changing command takes.
        remove_leftovers: Remove what the operation leaves behind, when the rest was verified as a whole.
        emit: Takes the JSON document of the result, or of the plan with -n, where one is asked for.

    Raises:
        BackchainError: The plan is blocked, the answer was no, or the run failed.
    """
    from backchain.planning import make_plan

    if not request.quiet:
        show_incomplete(graph)
    plan = make_plan(graph, operation, engine="builtin")
    refusal = plan.refusal(frozenset(request.force))
    if request.dry_run:
        _show_plan(plan, request, emit)
        return refusal.exit_code if refusal is not None else 0
    if refusal is not None:
        if request.as_json:
            _emit_refused(plan, refusal, emit)
        raise _advised(refusal, plan, request)
    if not request.yes:
        _ask(plan)
    elif not request.quiet:
        _warn(plan)
    return _run(plan, request, remove_leftovers=remove_leftovers, emit=emit)


def _emit_refused(plan: Plan, refusal: BackchainError, emit: Emit) -> None:
    from backchain.engines.base import Result  # a plan alone needs no engine
    from backchain.jobs import Job

    emit(Result.unfinished(Job(plan), refusal).to_json())


def _show_plan(plan: Plan, request: Request, emit: Emit) -> None:
    from backchain_tui.plan_text import plan_text

    if request.as_json:
        emit(plan.to_json())
    else:
        say(plan_text(plan), nl=False)


def _ask(plan: Plan) -> None:
    """Show the plan and ask; standard output stays free for the result's JSON.

    Raises:
        UsageError: There is nobody to ask.
        click.Abort: The answer was no.
    """
    from backchain_tui.plan_text import plan_text

    require_terminal()
    say(plan_text(plan), nl=False, err=True)
    click.confirm("Go on?", abort=True, err=True)


def require_terminal() -> None:
    """Make sure that there is somebody to ask.

    Raises:
        UsageError: There is not.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nothing was changed: there is no terminal to ask on", "give -y to go on, -n to see the plan")


def _warn(plan: Plan) -> None:
    """Say of what the plan warns, as it is run without being shown; what was not looked at has been said already."""
    for hazard in plan.warnings:
        if hazard.code != UNKNOWN_OVERLAYS:
            complain(f"warning: {hazard.code}: {hazard.message}")


def _run(plan: Plan, request: Request, *, remove_leftovers: bool, emit: Emit) -> int:
    from backchain.engines.base import Result
    from backchain.jobs import Job
    from backchain.verify import Extent
    from backchain_tui.running import run_job, stop_signals

    extent = Extent.WHOLE if remove_leftovers else Extent(request.verify)
    job = Job(plan, bytes_per_second=request.rate_limit)
    forced = frozenset(request.force)
    refused: BackchainError | None = None
    removed: tuple[str, ...] = ()
    try:
        with stop_signals() as stopped:
            result = run_job(_engine(), plan, job, stopped, style=request.progress_style, forced=forced, verify=extent)
            if remove_leftovers and plan.removable:
                removed, refused = _remove_leftovers(plan, request, stopped)
    except BackchainError as error:
        if request.as_json:
            emit(Result.unfinished(job, error).to_json())
        _add_way_on(error, plan)
        raise
    with _done_already():
        if request.as_json:
            emit(result.to_json() | ({"removed": list(removed)} if remove_leftovers else {}))
        elif not request.quiet:
            from backchain_tui.plan_words import closing

            also = f" Removed: {', '.join(Path(p).name for p in removed)}." if removed else ""
            say(printable(closing(plan, job.progress()) + also))
    if refused is not None:
        stays = "not all that it left behind is removed" if removed else "what it left behind stays"
        raise type(refused)(f"done, but {stays}: {refused.message}", refused.hint)
    return 0


@contextmanager
def _done_already() -> Iterator[None]:
    """Say, when the answer cannot be written, that what was asked for is done; there is nothing left to cancel."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise ImageIOError(f"standard output: {error.strerror}", "what was asked for is done") from error


def _add_way_on(error: BackchainError, plan: Plan) -> None:
    """Add to the error that ended a run the way on, where a journal remembers a job that is half done."""
    from backchain.journal import read_journals
    from backchain_tui.recovery_words import way_on

    target = plan.info(plan.target).path
    folders = {target.parent, *(plan.info(i).path.parent for i in plan.fingerprints)}
    for record in read_journals(folders):
        if record.interrupted and record.intent.target == target:
            error.hint = "; ".join(part for part in (error.hint, way_on(record)) if part)
            return


def _remove_leftovers(
    plan: Plan, request: Request, stopped: Event
) -> tuple[tuple[str, ...], BackchainError | None]:  # fmt: skip
    """Remove what a plan that was run has left behind; `stopped` cancels that, but not what is done already.

    Returns:
        The paths of what was removed, and why not all of it was.
    """
    paths = [plan.before[i].path for i in plan.removable]
    refused = None
    try:
        _remove_images(plan, paths, request, stopped)
    except BackchainError as error:
        refused = error
    return tuple(str(p) for p in paths if not os.path.lexists(p)), refused


def _remove_images(plan: Plan, paths: Sequence[Path], request: Request, stopped: Event) -> None:
    """Remove images as a deletion that is planned anew.

    Raises:
        BackchainError: Something needs one of the images, or it cannot be removed.
    """
    from backchain.discover import discover
    from backchain.jobs import Job
    from backchain.operations import Delete
    from backchain.planning import make_plan
    from backchain.verify import Extent
    from backchain_tui.running import run_job

    graph = discover(paths, scan=[*request.scan, *(r for r in plan.before.surroundings.roots if r.is_dir())])
    removal = make_plan(graph, Delete(tuple(find_image(graph, p) for p in paths)))
    forced = frozenset(request.force)
    if (refusal := removal.refusal(forced)) is not None:
        raise _advised(refusal, removal, request)
    run_job(_engine(), removal, Job(removal), stopped, style="none", forced=forced, verify=Extent.NO)


def _engine() -> Engine:
    from backchain.engines.builtin import BuiltinEngine

    return BuiltinEngine()


def _advised(refusal: BackchainError, plan: Plan, request: Request) -> BackchainError:
    """Add to the error of a plan that must not run what the user can do about it here."""
    from backchain.plan import Severity

    stopping = plan.stopping(frozenset(request.force))
    refusal.hint = "-n shows the whole plan"
    if all(h.severity is Severity.CONFIRM for h in stopping):
        codes = " ".join(f"--force {code}" for code in dict.fromkeys(h.code for h in stopping))
        refusal.hint = f"{codes} goes on in spite of it"
    return refusal
