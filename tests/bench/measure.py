"""Numbers and what is made of them: samples, pairs, medians with their spread, goals."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one side.

    Attributes:
        seconds: From the start to the end, the data on disk.
        cpu: Seconds of processor time, user and system.
        memory: Peak of the resident set in bytes.
    """

    seconds: float
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What a number should be: at most (or at least) `limit`, in the number's own unit."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Say whether a number is as it should be."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Spread:
    """Many readings of the same."""

    median: float
    low: float
    high: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum readings up; at least one."""
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(statistics.median(values), min(values), max(values), (lower, upper))


@dataclass(frozen=True, slots=True)
class Pairs:
    """The runs of two sides that took turns: run n of ours belongs to run n of the peer's."""

    ours: tuple[Sample, ...]
    theirs: tuple[Sample, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours / the peer's, per pair: below 1 ours is the faster one."""
        return [a.seconds / b.seconds for a, b in zip(self.ours, self.theirs, strict=True)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a case that is no ratio.

    Attributes:
        what: Name; a case's goals are found by it.
        unit: "s", "ms", "MiB" or "/s".
        value: What is compared with the goal.
        low, high: The least and the greatest reading.
        readings: How many there were.
        how: How `value` came of the readings: "median", "95 %" or "greatest".
    """

    what: str
    unit: str
    value: float
    low: float
    high: float
    readings: int
    how: str

    @classmethod
    def of(cls, what: str, unit: str, values: Sequence[float], how: str = "median") -> Figure:
        """Sum readings up."""
        picks: Mapping[str, Callable[[Sequence[float]], float]] = {
            "median": statistics.median, "95 %": percentile_95, "greatest": max,
        }  # fmt: skip
        return cls(what, unit, picks[how](values), min(values), max(values), len(values), how)


def percentile_95(values: Sequence[float]) -> float:
    """Give the reading that 95 of 100 do not exceed (nearest rank)."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


@dataclass(slots=True)
class Result:
    """What a case came to.

    Attributes:
        pairs: The runs beside a peer, where there is one.
        figures: Other numbers.
        notes: What else is to be said, a line each.
        left_out: Why there is nothing; empty when there is something.
    """

    pairs: Pairs | None = None
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: str = ""

    def value(self, what: str) -> float | None:
        """Give the number that a goal of that name is about: "ratio", "memory" (MiB, ours) or a figure's name."""
        found = next((f.value for f in self.figures if f.what == what), None)
        if found is not None or self.pairs is None:
            return found
        if what == "memory":
            return max(s.memory for s in self.pairs.ours) / MIB
        return statistics.median(self.pairs.ratios) if what == "ratio" else None


def take_turns(ours: Callable[[], Sample], theirs: Callable[[], Sample], count: int) -> Pairs:
    """Run both sides `count` times in turns; which one begins alternates, so that neither always follows the other."""
    taken: tuple[list[Sample], list[Sample]] = ([], [])
    for number in range(count):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            taken[side].append((ours, theirs)[side]())
    return Pairs(tuple(taken[0]), tuple(taken[1]))
