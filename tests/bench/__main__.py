"""Runs the benchmarks: ``python -m tests.bench``; a table on standard output, and JSON with --json FILE.

Every case is timed beside its peer in the same run, the two taking turns. Images are made by QEMU's tools, group by
group, and removed before the next group. The exit status says nothing about goals: a benchmark is no test.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench import images, machine, plot, reading, report, screen_cases, writing
from tests.bench.case import Group, Setting
from tests.bench.measure import GIB, Result
from tests.bench.processes import BACKCHAIN, BenchError, Spawner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.case import Case

GROUPS: Sequence[Group] = (
    *reading.GROUPS,
    screen_cases.START,
    screen_cases.with_job(writing.on_scattered(reflink=False)),
    writing.on_scattered(reflink=True),
    *writing.OTHER_GROUPS,
)

_TROUBLE = (BenchError, OSError, subprocess.SubprocessError)
"""What leaves a case out and lets the others go on."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="backchain beside QEMU's tools; takes up to 4 GiB of disk"
    )
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="pairs of runs per case (default: 5)")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to put the images (default: $TMPDIR, else /var/tmp)"
    )
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="cases whose name has this in it (* and ? as in a shell)"
    )
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as SVG in this file")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the ratios as a Markdown table to this file")
    given = parser.parse_args()
    if given.pairs < 1:
        parser.error("--pairs takes 1 or more")
    return given


def chosen(patterns: Sequence[str] | None) -> Iterator[tuple[Group, list[Case]]]:
    """Give the groups with those of their cases that were asked for."""
    wanted = [f"*{pattern}*" for pattern in patterns or [""]]
    for group in GROUPS:
        cases = [c for c in group.cases if any(fnmatch.fnmatch(c.name, pattern) for pattern in wanted)]
        if cases:
            yield group, cases


def show(groups: Sequence[tuple[Group, list[Case]]]) -> None:
    """Say what there is."""
    for _, cases in groups:
        for case in cases:
            goals = ", ".join(
                f"{what} at {'least' if g.at_least else 'most'} {g.limit:g}" for what, g in case.goals.items()
            )
            print(f"{case.name}: {case.about}" + (f" [{goals}]" if goals else ""))


def run_group(setting: Setting, group: Group, cases: Sequence[Case]) -> Iterator[tuple[Case, Result]]:
    """Make a group's images, run its cases, and remove the images."""
    with ExitStack() as stack:
        try:
            place = stack.enter_context(machine.mounted_xfs(setting.folder)) if group.reflink else setting.folder
            folder = place / group.name
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            images.make(folder, group.make or (lambda _: None))
            setting.look_at_disk()
        except _TROUBLE as error:
            yield from ((case, Result(left_out=str(error))) for case in cases)
            return
        for case in cases:
            try:
                yield case, case.run(setting, folder)
            except _TROUBLE as error:
                yield case, Result(left_out=f"it failed: {error}")
            setting.look_at_disk()


def run(given: argparse.Namespace, groups: Sequence[tuple[Group, list[Case]]], folder: Path) -> dict[str, Any]:
    """Run everything, print the table as it grows, and give the document."""
    found = machine.describe(folder)
    print(report.opening(found, given.pairs), "", report.HEADING, sep="\n", flush=True)
    started = time.monotonic()
    documents = []
    with Spawner(folder) as spawner:
        setting = Setting(folder, spawner, given.pairs)
        spawner.run([BACKCHAIN, "--version"])
        for group, cases in groups:
            for case, result in run_group(setting, group, cases):
                print(*report.lines(case, result), sep="\n", flush=True)
                documents.append(report.document(case, result))
    seconds = time.monotonic() - started
    print(f"\n{seconds:.0f} s in all; at most {setting.peak_disk / GIB:.1f} GiB of disk at a time.")
    found["load_after"] = os.getloadavg()[0]
    facts = {"pairs": given.pairs, "seconds": seconds, "peak_disk": setting.peak_disk}
    return {"machine": found, **facts, "cases": documents}


def main() -> int:
    """Run the benchmarks; a polite end (SIGTERM) cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    given = options()
    groups = list(chosen(given.only))
    if given.list:
        show(groups)
        return 0
    if not groups:
        print(f"no case has {' or '.join(given.only)} in its name; --list shows them", file=sys.stderr)
        return 2
    parent = given.folder or Path(os.environ.get("TMPDIR", "/var/tmp"))
    with tempfile.TemporaryDirectory(prefix="backchain-bench-", dir=parent) as folder:
        document = run(given, groups, Path(folder))
    for path, text in (
        (given.json, lambda: json.dumps(document, indent=1) + "\n"),
        (given.plot, lambda: plot.svg(document)),
        (given.table, lambda: plot.table(document)),
    ):  # fmt: skip
        if path is not None:
            path.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
