"""What a benchmark came to for readers: a plot of the ratios (SVG), and a table for the README (Markdown).

Both are made of the document that `tests.bench` writes with --json; only cases with a peer of QEMU's are shown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from tests.bench.measure import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Document = Mapping[str, Any]

_WIDTH = 960
_ROW = 26
_TOP = 78
_FOOT = 44
_LEFT, _RIGHT = 280, 700
"""Where the axis begins and ends; the words are to its left, the seconds to its right."""
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_MARGIN = 1.2
"""The axis goes so many times farther than what it shows."""

_INK, _FAINT, _FASTER, _SLOWER, _GOAL = "#1f2430", "#c9ced6", "#1a7f5a", "#b4540a", "#7a6ff0"


def _shown(document: Document) -> list[Document]:
    return [case for case in document["cases"] if case.get("label") and "ratio" in case]


def machine_line(document: Document) -> str:
    """Say in one line on what the numbers were made."""
    machine = document["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / GIB:.0f} GiB, "
        f"Linux {machine['kernel'].split('-')[0]}, {machine['file_system']}, Python {machine['python']}, "
        f"{machine['qemu'].removeprefix('qemu-img version ').split(' ')[0].join(('QEMU ', ''))}"
    )


def table(document: Document) -> str:
    """Give the cases as a table in Markdown: medians, and the ratio with its least and greatest."""
    rows = ["| work | peer | backchain | peer | ratio | least to most |", "|---|---|--:|--:|--:|--:|"]
    for case in _shown(document):
        ratio = case["ratio"]
        rows.append(
            f"| {case['label']} | {case['peer']} | {_seconds(case['ours'])} | {_seconds(case['theirs'])} | "
            f"**{ratio['median']:.2f}** | {ratio['low']:.2f} to {ratio['high']:.2f} |"
        )
    return "\n".join((*rows, "", f"{machine_line(document)}; medians of {document['pairs']} pairs or more.", ""))


def svg(document: Document) -> str:
    """Draw the ratios: a dot per case on a logarithmic axis, left of 1 where backchain is the faster one."""
    cases = _shown(document)
    axis = _Axis(cases)
    height = _TOP + _ROW * len(cases) + _FOOT
    style = f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {style}>',
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        _text(20, 30, "Time of backchain as a part of its peer's", size=17, weight="bold"),
        _text(20, 50, "whole processes, data on disk at the end; the dot is the median, the line least to greatest"),
        *axis.lines(_TOP + _ROW * len(cases)),
    ]
    for number, case in enumerate(cases):
        parts += _row(axis, case, _TOP + _ROW * number + _ROW // 2)
    parts.append(_text(20, height - 14, machine_line(document), size=11))
    return "\n".join((*parts, "</svg>", ""))


class _Axis:
    """The ratios from left to right: logarithmic, so that half and double are as far from 1."""

    def __init__(self, cases: Sequence[Document]) -> None:
        """Reach as far as the cases do, and from 0.1 to 2 at least."""
        ends = [float(case["ratio"][end]) for case in cases for end in ("low", "high")]
        goals = [float(case["goals"]["ratio"]["limit"]) for case in cases if "ratio" in case["goals"]]
        self._least = min(0.1, *ends, *goals) / _MARGIN
        self._most = max(2.0, *ends, *goals) * _MARGIN

    def at(self, ratio: float) -> float:
        """Give the place of a ratio."""
        return _LEFT + (_RIGHT - _LEFT) * math.log(ratio / self._least) / math.log(self._most / self._least)

    def lines(self, bottom: int) -> Iterator[str]:
        """Draw a line down to `bottom` for each tick, and the key below."""
        for tick in _TICKS:
            if not self._least <= tick <= self._most:
                continue
            x = self.at(tick)
            color, width = (_INK, 1.5) if tick == 1 else (_FAINT, 1)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="{color}" stroke-width="{width}"/>'
            yield _text(x, _TOP - 6, f"{tick:g}", anchor="middle", size=11)
        yield _text(self.at(1) - 8, bottom + 16, "faster", anchor="end", size=11, color=_FASTER)
        yield _text(self.at(1) + 8, bottom + 16, "slower", size=11, color=_SLOWER)
        yield f'<path d="M {_LEFT} {bottom + 8} l 4 8 l -8 0 z" fill="{_GOAL}"/>'
        yield _text(_LEFT + 8, bottom + 16, "goal", size=11)


def _row(axis: _Axis, case: Document, y: int) -> Iterator[str]:
    ratio = case["ratio"]
    color = _FASTER if ratio["median"] <= 1 else _SLOWER
    dot, low, high = (axis.at(ratio[name]) for name in ("median", "low", "high"))
    yield _text(20, y + 4, case["label"])
    yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>'
    yield f'<circle cx="{dot:.1f}" cy="{y}" r="5" fill="{color}"/>'
    goal = case["goals"].get("ratio")
    if goal is not None:
        yield f'<path d="M {axis.at(goal["limit"]):.1f} {y + 3} l 4 8 l -8 0 z" fill="{_GOAL}"/>'
    yield _text(_RIGHT + 54, y + 4, f"{ratio['median']:.2f}", weight="bold", anchor="end")
    yield _text(_WIDTH - 20, y + 4, f"{_seconds(case['ours'])} : {_seconds(case['theirs'])}", anchor="end")


def _seconds(side: Document) -> str:
    median: float = side["seconds"]["median"]
    return f"{median * 1000:.0f} ms" if median < 1 else f"{median:.1f} s"


def _text(
    x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", weight: str = "normal", color: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{color}">{escape(words)}</text>'
    )
