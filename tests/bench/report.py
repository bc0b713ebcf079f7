"""The result of a benchmark as a table for people and as JSON for programs."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tests.bench.measure import GIB, MIB, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.case import Case
    from tests.bench.measure import Figure, Goal, Pairs, Result

HEADING = f"{'':<26}{'ours':>10}{'peer':>10}{'ratio':>8}  {'least-most':<12}{'CPU s':>13}{'peak MiB':>12}"

_IN_MEMORY = ("tmpfs", "ramfs")

_UNITS: Mapping[str, str] = {"ratio": "", "memory": " MiB"}


def opening(machine: Mapping[str, Any], count: int) -> str:
    """Say what the numbers depend on, and how to read the table."""
    gib = machine["memory_bytes"] / GIB
    busy = "\nThe machine is busy: the load is {:.1f}. Do not trust these numbers.".format(machine["load"])
    in_memory = "\nThe images lie in memory, where nothing is written to a disk: --folder names another place."
    return (
        f"{machine['processor']}, {machine['cores']} cores, {gib:.0f} GiB, Linux {machine['kernel']}, "
        f"{machine['file_system']} ({'files can share' if machine['shares_extents'] else 'no shared'} extents)\n"
        f"backchain {machine['backchain']} ({machine['commit']}), Python {machine['python']}, "
        f"numpy {machine['numpy']}, Textual {machine['textual']}, {machine['qemu']}\n"
        f"Medians of at least {count} pairs that took turns; page cache warm; spans end with the data on disk.\n"
        "--list says what each case times."
        f"{in_memory if machine['file_system'] in _IN_MEMORY else ''}"
        f"{busy if machine['load'] > 0.5 else ''}"
    )


def lines(case: Case, result: Result) -> list[str]:
    """Give a case's lines of the table."""
    if result.left_out:
        return [f"{case.name:<26}left out: {result.left_out}"]
    rows = [_pair_line(case.name, result.pairs)] if result.pairs is not None else []
    rows += [_figure_line(case.name if not rows else "", f, case.goals.get(f.what)) for f in result.figures[:1]]
    rows += [_figure_line("", f, case.goals.get(f.what)) for f in result.figures[1:]]
    shown = {f.what for f in result.figures}
    rows += [f"{'':<26}  {_verdict(what, goal, result.value(what))}"
             for what, goal in case.goals.items() if what not in shown]  # fmt: skip
    rows += [f"{'':<26}  {note}" for note in result.notes]
    return rows


def _pair_line(name: str, pairs: Pairs) -> str:
    ours, theirs = (statistics.median(s.seconds for s in side) for side in (pairs.ours, pairs.theirs))
    cpu = [statistics.median(s.cpu for s in side) for side in (pairs.ours, pairs.theirs)]
    memory = [max(s.memory for s in side) / MIB for side in (pairs.ours, pairs.theirs)]
    ratio = Spread.of(pairs.ratios)
    spread = f"{ratio.low:.2f}-{ratio.high:.2f}"
    return (
        f"{name:<26}{_seconds(ours):>10}{_seconds(theirs):>10}{ratio.median:>8.2f}  {spread:<12}"
        f"{f'{cpu[0]:.2f}/{cpu[1]:.2f}':>13}{f'{memory[0]:.0f}/{memory[1]:.0f}':>12}"
    )


def _figure_line(name: str, figure: Figure, goal: Goal | None) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    text = f"{figure.what}: {_number(figure.value)}{unit}"
    if figure.readings > 1:
        text += f" ({figure.how} of {figure.readings}, {_number(figure.low)}-{_number(figure.high)})"
    judged = "" if goal is None else f"   {_judge(goal, figure.value, unit)}"
    return f"{name:<26}  {text}{judged}"


def _verdict(what: str, goal: Goal, value: float | None) -> str:
    unit = _UNITS.get(what, "")
    return f"{what}: " + ("not measured" if value is None else f"{_number(value)}{unit}   {_judge(goal, value, unit)}")


def _judge(goal: Goal, value: float, unit: str) -> str:
    wanted = f"at {'least' if goal.at_least else 'most'} {goal.limit:g}{unit}"
    return f"goal {wanted}: {'met' if goal.met(value) else 'MISSED'}"


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _goal_document(goal: Goal, value: float | None) -> dict[str, Any]:
    return asdict(goal) | {"value": value, "met": None if value is None else goal.met(value)}


def document(case: Case, result: Result) -> dict[str, Any]:
    """Give a case's part of the JSON, every sample included."""
    goals = {what: _goal_document(goal, result.value(what)) for what, goal in case.goals.items()}
    found: dict[str, Any] = {
        "name": case.name, "label": case.label, "peer": case.peer, "about": case.about, "goals": goals,
        "notes": result.notes,
    }  # fmt: skip
    if result.left_out:
        return found | {"left_out": result.left_out}
    found["figures"] = [asdict(f) for f in result.figures]
    if result.pairs is not None:
        found["ratio"] = asdict(Spread.of(result.pairs.ratios))
        found["ratios"] = result.pairs.ratios
        for name, side in (("ours", result.pairs.ours), ("theirs", result.pairs.theirs)):
            readings: Mapping[str, Callable[[Any], float]] = {
                "seconds": lambda s: s.seconds, "cpu": lambda s: s.cpu, "memory": lambda s: s.memory,
            }  # fmt: skip
            found[name] = {
                "samples": [asdict(s) for s in side],
                **{what: asdict(Spread.of([read(s) for s in side])) for what, read in readings.items()},
            }
    return found
