"""Cases of the screen: the real program on a pty, from its start to its first paint, and from key to paint in a job."""

from __future__ import annotations

import random
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.bench import images
from tests.bench.bare import WORDS
from tests.bench.case import Case, Group, fresh_copy
from tests.bench.measure import GIB, Figure, Goal, Result
from tests.bench.processes import BACKCHAIN, BenchError
from tests.bench.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.case import Setting
    from tests.bench.terminal import Frame

_STARTS = 2
"""Starts are made so many times as often as pairs of runs."""

_WATCHED = 4.0
"""Seconds for which frames are counted."""

_KEYS = 100
_KEY_SECONDS = 20.0
"""Fewer keys are pressed when they take longer than this."""

_PAUSES = (0.05, 0.15)
"""Seconds between a paint and the next key: at random, so that keys do not keep step with frames."""

_FOCUS_EVERY = 5
_CLUSTER = re.compile(r"clusters? ([\d,]+)(?: to [\d,]+)? · guest")
"""What the map says of the cell under its cursor."""

_BELOW = 3
"""Empty images below the chain; with one above they make it the longest in the folder, where the cursor starts."""

_SLOWER = "--"
"""Keys that make a quarter of the speed of the lab's jobs, which are over in twelve seconds."""


# --- from the start to the first paint --------------------------------------------------------------------------------


def first_paint(setting: Setting, folder: Path) -> Result:
    """Time the start of the program and of a bare application, in turns."""
    ours, bare, pictures = [], [], []

    def start_ours() -> None:
        with Terminal([BACKCHAIN, folder], 120, 40) as terminal:
            ours.append(terminal.wait_for_words("reading…") - terminal.started)
            pictures.append(terminal.wait_for_words("RootBase") - terminal.started)
            terminal.quit()

    def start_bare() -> None:
        with Terminal([sys.executable, "-m", "tests.bench.bare"], 120, 40) as terminal:
            bare.append(terminal.wait_for_words(WORDS) - terminal.started)
            terminal.quit()

    for number in range(setting.count * _STARTS):
        for start in (start_ours, start_bare) if number % 2 == 0 else (start_bare, start_ours):
            start()
    return Result(figures=[
        Figure.of("later than bare", "ms", [(a - b) * 1000 for a, b in zip(ours, bare, strict=True)]),
        Figure.of("first paint", "ms", [s * 1000 for s in ours]),
        Figure.of("bare application", "ms", [s * 1000 for s in bare]),
        Figure.of("forest is drawn", "ms", [s * 1000 for s in pictures]),
    ])  # fmt: skip


# --- while a job runs -------------------------------------------------------------------------------------------------


def job(columns: int, lines: int) -> Callable[[Setting, Path], Result]:
    """Count frames and time keys while a commit of the scattered chain runs."""

    def run(setting: Setting, folder: Path) -> Result:
        with ExitStack() as stack:
            copy = stack.enter_context(fresh_copy(setting, folder, ["base.qcow2"], ["mid.qcow2"]))
            _lengthen(copy)
            terminal = stack.enter_context(Terminal([BACKCHAIN, "demo", "--folder", copy], columns, lines))
            _start_job(terminal)
            frames = [f for f in terminal.frames(_WATCHED) if f.touches(3, lines // 2)]
            keys = _press_keys(terminal)
            terminal.send("x")
            terminal.wait_for(lambda f: "Cancelled after" in f.text)
            terminal.quit()
        return _figures(frames, keys)

    return run


def _lengthen(folder: Path) -> None:
    """Put empty images below the base and one above mid; the screen then offers to merge mid and base down."""
    below = None
    for number in range(_BELOW):
        below = images.create(folder / f"below-{number}.qcow2", 10 * GIB, below).name
    images.tool("qemu-img", "rebase", "-u", "-b", f"{below}", "-F", "qcow2", folder / "base.qcow2")
    images.create(folder / "over.qcow2", 10 * GIB, "mid.qcow2")


def _start_job(terminal: Terminal) -> None:
    """Run the commit that the screen offers, at a speed with which it lasts."""
    terminal.wait_for_words("Forest:")
    terminal.send("c")
    terminal.wait_for(lambda f: "enter Run" in f.text)
    terminal.send("\r")
    terminal.wait_for(lambda f: "copying" in f.text)
    terminal.send(_SLOWER)
    terminal.frames(0.5)


def _press_keys(terminal: Terminal) -> list[float]:
    """Move the cursor through the map, and every now and then the focus; give seconds from each key to its paint."""
    choose = random.Random(1)
    terminal.send("2")
    place = _place(terminal.wait_for(lambda f: "arrows move" in f.text and _place(f) is not None))
    taken: list[float] = []
    until = time.monotonic() + _KEY_SECONDS
    while len(taken) < _KEYS and time.monotonic() < until:
        terminal.frames(choose.uniform(*_PAUSES))
        if len(taken) % _FOCUS_EVERY == _FOCUS_EVERY - 2:
            taken.append(_until(terminal, "0", lambda f: "2 to explore" in f.text)[0])
            terminal.frames(choose.uniform(*_PAUSES))
            taken.append(_until(terminal, "2", lambda f: "arrows move" in f.text)[0])
            continue
        before = place
        seconds, frame = _until(terminal, "\x1b[C", lambda f: _place(f) not in {None, before})  # noqa: B023
        taken.append(seconds)
        place = _place(frame)
    return taken


def _place(frame: Frame) -> str | None:
    """Give the first cluster of the cell under the map's cursor, where a frame says it."""
    found = _CLUSTER.search(frame.text)
    return found[1] if found else None


def _until(terminal: Terminal, key: str, is_it: Callable[[Frame], bool]) -> tuple[float, Frame]:
    sent = terminal.send(key)
    frame = terminal.wait_for(is_it)
    return frame.at - sent, frame


def _figures(frames: list[Frame], keys: list[float]) -> Result:
    if len(frames) < 2:
        raise BenchError("the picture did not move")
    gaps = [(b.at - a.at) * 1000 for a, b in pairwise(frames)]
    rate = (len(frames) - 1) / (frames[-1].at - frames[0].at)
    milliseconds = [k * 1000 for k in keys]
    return Result(figures=[
        Figure.of("key to paint", "ms", milliseconds, "95 %"),
        Figure.of("key to paint, usually", "ms", milliseconds),
        Figure("frames", "/s", rate, rate, rate, 1, "median"),
        Figure.of("from frame to frame", "ms", gaps, "95 %"),
    ])  # fmt: skip


def _lab(folder: Path) -> None:
    images.tool(BACKCHAIN, "demo", "--no-ui", "--folder", folder)


START = Group("lab", _lab, [
    Case("first-paint", "on a pty of 120x40, from the start of backchain FOLDER until its first words have arrived, "
         "beside a Textual application with one Static", first_paint, {"later than bare": Goal(100)}),
])  # fmt: skip


def with_job(group: Group) -> Group:
    """Add the cases of a running job to the group of the scattered chain."""
    about = (
        "on a pty, during a commit of the scattered chain at a quarter of the lab's speed: frames that touch the "
        f"picture, then {_KEYS} keys (arrows in the cluster map, focus) until the frame with their effect has arrived"
    )
    goals = {"key to paint": Goal(50), "frames": Goal(14.5, at_least=True)}  # 15, to the whole frame
    cases = [Case(f"job-{c}x{n}", f"{about}; {c}x{n}", job(c, n), goals) for c, n in ((120, 40), (200, 60))]
    return replace(group, cases=[*group.cases, *cases])
