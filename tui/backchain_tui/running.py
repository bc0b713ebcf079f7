"""Running a plan on the command line: the engine in a thread, the progress on standard error, Ctrl-C to cancel."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from backchain_tui import collector, formatting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backchain.engines.base import Engine, Result
    from backchain.jobs import Job, JobProgress
    from backchain.plan import Plan
    from backchain.verify import Extent

_POLL_SECONDS = 0.1
_BAR_WIDTH = 30


class ProgressView(Protocol):
    """A way to show how far a job is."""

    def show(self, progress: JobProgress) -> None:
        """Show one reading of a running job; called every tenth of a second."""

    def close(self, progress: JobProgress, /) -> None:
        """Show the last reading."""


class Bar:
    """A bar that is drawn over itself on one line of a terminal."""

    def show(self, progress: JobProgress) -> None:
        """Draw the bar anew."""
        full = int(progress.fraction * _BAR_WIDTH)
        text = f"[{'#' * full}{'-' * (_BAR_WIDTH - full)}] {progress_text(progress)}"
        _write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")

    def close(self, _progress: JobProgress, /) -> None:
        """Remove the bar: what was done is said in words."""
        _write("\r\x1b[K")


class Plain:
    """A line every two seconds, and one at the end."""

    def __init__(self, every: float = 2.0) -> None:
        self._every = every
        self._next = 0.0

    def show(self, progress: JobProgress) -> None:
        """Write a line when it is time."""
        if progress.seconds >= self._next:
            self._next = progress.seconds + self._every
            _write(f"{progress_text(progress)}\n")

    def close(self, progress: JobProgress) -> None:
        """Write the last line."""
        _write(f"{progress_text(progress)}\n")


class JsonLines:
    """A JSON object on a line every half second, and one at the end, with the fields of JobProgress."""

    def __init__(self, every: float = 0.5) -> None:
        self._every = every
        self._next = 0.0

    def show(self, progress: JobProgress) -> None:
        """Write a line when it is time."""
        if progress.seconds >= self._next:
            self._next = progress.seconds + self._every
            self.close(progress)

    def close(self, progress: JobProgress) -> None:
        """Write a line."""
        _write(json.dumps(asdict(progress)) + "\n")


def view_for(style: str) -> ProgressView | None:
    """Give the view for a style: bar, plain or json; none for any other."""
    views: dict[str, type[Bar | Plain | JsonLines]] = {"bar": Bar, "plain": Plain, "json": JsonLines}
    return views[style]() if style in views else None


def progress_text(progress: JobProgress) -> str:
    """Say how far a job is, in one line."""
    done = f"{formatting.number(progress.clusters)}/{formatting.counted(progress.total_clusters, 'cluster')}"
    rest = f", {formatting.eta(progress.eta)} to go" if progress.eta is not None else ""
    return f"{formatting.percent(progress.fraction)} {done}, {formatting.rate(progress.rate)}{rest} ({progress.phase})"


def run_job(
    engine: Engine, plan: Plan, job: Job, stopped: threading.Event, *, style: str, forced: frozenset[str],
    verify: Extent,
) -> Result:  # fmt: skip
    """Run a plan to its end, showing progress.

    Args:
        engine: Runs it.
        plan: The plan.
        job: A fresh job of that plan.
        stopped: Cancels the job when it is set, and lets it end well; see `stop_signals`.
        style: How to show progress; see `view_for`.
        forced: Codes of hazards that the user has accepted.
        verify: How much is verified.

    Raises:
        BackchainError: As the engine raised it.
    """
    collector.resume()  # the job may run for hours
    outcome = _Outcome()
    thread = threading.Thread(target=outcome.take, args=(engine, plan, job, forced, verify), name="engine")
    view = view_for(style)
    if stopped.is_set():
        job.cancel()
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        if stopped.is_set():
            job.cancel()
        if view is not None and thread.is_alive():
            view.show(job.progress())
    if view is not None:
        view.close(job.progress())
    return outcome.result()


class _Outcome:
    """What a thread's work came to: a result, or what it raised."""

    def __init__(self) -> None:
        self._result: Result | None = None
        self._error: BaseException | None = None

    def take(self, engine: Engine, plan: Plan, job: Job, forced: frozenset[str], verify: Extent) -> None:
        try:
            self._result = engine.run(plan, job, forced, verify=verify)
        except BaseException as error:  # noqa: BLE001 - raised again where it can be reported
            self._error = error

    def result(self) -> Result:
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT, SIGTERM and SIGHUP set, and nothing else, as long as the block runs.

    A signal that is ignored, as nohup and a shell's ``&`` have it, goes on being ignored.
    """
    stopped = threading.Event()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {n: signal.signal(n, lambda *_: stopped.set()) for n in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    """Write to standard error; that nobody reads it must not end a job half-way."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
