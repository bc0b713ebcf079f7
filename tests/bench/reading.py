"""Cases that write nothing: the command line itself, maps, plans, and what the screen computes from them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tests.bench import images
from tests.bench.case import Case, Group
from tests.bench.measure import MIB, Figure, Goal, Result, take_turns
from tests.bench.processes import BACKCHAIN, Inside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.case import Setting

MAP_MEMORY = Goal(80)
"""MiB that a map or a plan of any image may take at most."""

_CHEAP = 3
"""Runs that take a moment are made so many times as often."""

_ENOUGH = 3
"""Runs of what takes long and has no peer."""

_HEAVY = ("numpy", "networkx", "textual")


def warm(folder: Path) -> None:
    """Read every byte that a file holds, so that it is in the page cache for both sides."""
    for path in sorted(folder.iterdir()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size, end = os.fstat(descriptor).st_size, 0
            while end < size:
                try:
                    start = os.lseek(descriptor, end, os.SEEK_DATA)
                except OSError:  # no data behind
                    break
                end = os.lseek(descriptor, start, os.SEEK_HOLE)
                for offset in range(start, end, MIB):
                    os.pread(descriptor, min(MIB, end - offset), offset)
        finally:
            os.close(descriptor)


def beside(
    ours: Callable[[Path], Sequence[str | Path]], theirs: Callable[[Path], Sequence[str | Path]], times: int = 1
) -> Callable[[Setting, Path], Result]:  # fmt: skip
    """Time two commands beside each other."""

    def run(setting: Setting, folder: Path) -> Result:
        warm(folder)
        spawner = setting.spawner
        one, other = ours(folder), theirs(folder)
        return Result(take_turns(lambda: spawner.run(one), lambda: spawner.run(other), setting.count * times))

    return run


def alone(command: Callable[[Path], Sequence[str | Path]]) -> Callable[[Setting, Path], Result]:
    """Time a command that has no peer: a few runs, as it is the memory that counts."""

    def run(setting: Setting, folder: Path) -> Result:
        samples = [setting.spawner.run(command(folder)) for _ in range(min(_ENOUGH, setting.count))]
        return Result(figures=[
            Figure.of("time", "s", [s.seconds for s in samples]),
            Figure.of("memory", "MiB", [s.memory / MIB for s in samples], "greatest"),
        ])  # fmt: skip

    return run


# --- the command line -------------------------------------------------------------------------------------------------


def command_line(*arguments: str) -> Callable[[Setting, Path], Result]:
    """Time what needs no image beside a Python that does nothing, and see what it imports."""

    def run(setting: Setting, folder: Path) -> Result:
        spawner = setting.spawner
        ours = [BACKCHAIN, *arguments]
        theirs = [sys.executable, "-I", "-c", "pass"]
        result = Result(take_turns(lambda: spawner.run(ours), lambda: spawner.run(theirs), setting.count * _CHEAP))
        loaded = _loaded(arguments)
        result.figures.append(Figure("heavy modules", "", len(loaded), len(loaded), len(loaded), 1, "median"))
        result.notes.append(f"loaded of {', '.join(_HEAVY)}: {', '.join(loaded) or 'none'}")
        return result

    return run


def _loaded(arguments: Sequence[str]) -> list[str]:
    """Give which of the heavy modules a command line loads."""
    program = (
        "import sys; from backchain_tui import cli; status = cli.run(sys.argv[2:]); "
        "print('\\n' + ' '.join(m for m in sys.argv[1].split(',') if m in sys.modules))"
    )
    return images.tool(sys.executable, "-c", program, ",".join(_HEAVY), *arguments).splitlines()[-1].split()


# --- maps and plans ---------------------------------------------------------------------------------------------------


def our_map(image: str) -> Callable[[Path], list[str | Path]]:
    """Give the command that maps an image with backchain."""
    return lambda folder: [BACKCHAIN, "map", "--output", "json", folder / image]


def their_map(image: str) -> Callable[[Path], list[str | Path]]:
    """Give the command that maps an image with qemu-img."""
    return lambda folder: ["qemu-img", "map", "--output=json", "-f", "qcow2", folder / image]


def our_plan(top: str) -> Callable[[Path], list[str | Path]]:
    """Give the command that plans a commit of everything down to l0."""
    return lambda folder: [BACKCHAIN, "commit", "-n", "--json", "-b", folder / "l0.qcow2", folder / top]


def measured(top: str) -> Callable[[Path], list[str | Path]]:
    """Give the command of qemu-img's that comes nearest to a plan."""
    return lambda folder: ["qemu-img", "measure", "-O", "qcow2", "-f", "qcow2", folder / top]


def map_inside(setting: Setting, folder: Path) -> Result:
    """Time a map in a Python that runs already beside the whole process of qemu-img."""
    warm(folder)
    command, top = their_map("l4.qcow2")(folder), folder / "l4.qcow2"
    with Inside() as inside:
        inside.command("map", "--output", "json", top)
        return Result(
            take_turns(
                lambda: inside.command("map", "--output", "json", top),
                lambda: setting.spawner.run(command),
                setting.count * _CHEAP,
            )
        )


def cluster_map(image: str) -> Callable[[Setting, Path], Result]:
    """Time what the screen computes to open and to zoom a cluster map."""

    def run(setting: Setting, folder: Path) -> Result:
        warm(folder)
        with Inside() as inside:
            count = min(_ENOUGH, setting.count)
            answers = [inside.ask("cluster_map", path=str(folder / image)) for _ in range(count)]
        zooms = [z * 1000 for a in answers for z in a["zooms"]]
        return Result(
            figures=[
                Figure.of("open", "s", [a["opened"] for a in answers]),
                Figure.of("zoom", "ms", zooms, "95 %"),
                Figure.of("any zoom", "ms", zooms, "greatest"),
            ],
            notes=[f"{answers[0]['clusters']:,} clusters"],
        )

    return run


def forest(setting: Setting, folder: Path) -> Result:
    """Time the layout and the first drawing of a forest."""
    with Inside() as inside:
        seconds = [inside.ask("lay_out_forest", images=3000)["seconds"] for _ in range(setting.count * _CHEAP)]
    return Result(figures=[Figure.of("lay out", "s", seconds)])


_MAP = "whole process, map --output json to /dev/null, beside qemu-img map --output=json"
_PLAN = "whole process, commit -n --json down to the base, beside qemu-img measure -O qcow2"

GROUPS = (
    Group("command-line", None, [
        Case("version", "whole process, backchain --version beside python -I -c pass", command_line("--version"),
             {"heavy modules": Goal(0)}),
        Case("help", "whole process, backchain --help beside python -I -c pass", command_line("--help"),
             {"heavy modules": Goal(0)}),
        Case("forest-3000", "in process, layout and first drawing of 3,000 images from their graph (118x20 cells)",
             forest, {"lay out": Goal(0.3)}),
    ]),
    Group("small", images.small_chain, [
        Case("map-10g-5-layers", f"10 GiB x 5 layers: {_MAP}",
             beside(our_map("l4.qcow2"), their_map("l4.qcow2"), _CHEAP),
             label="map of 10 GiB, 5 layers", peer="qemu-img map"),
        Case("map-10g-inside", "10 GiB x 5 layers: map --output json in a Python that has backchain imported, beside "
             "the whole process of qemu-img map", map_inside, {"ratio": Goal(0.2)},
             label="the same in the running program", peer="qemu-img map"),
        Case("plan-10g", f"10 GiB x 5 layers: {_PLAN}", beside(our_plan("l4.qcow2"), measured("l4.qcow2"), _CHEAP),
             {"memory": MAP_MEMORY},
             label="plan of a commit, 10 GiB, 5 layers", peer="qemu-img measure"),
    ]),
    Group("tall", images.tall_chain, [
        Case("map-1t-full-base", f"1 TiB, every L2 entry set: {_MAP}",
             beside(our_map("l0.qcow2"), their_map("l0.qcow2")), {"ratio": Goal(0.25), "memory": MAP_MEMORY},
             label="map of 1 TiB, all of it allocated", peer="qemu-img map"),
        Case("map-1t-4-layers", f"1 TiB x 4 layers, 16,384 scattered extents in each overlay: {_MAP}",
             beside(our_map("l3.qcow2"), their_map("l3.qcow2")), {"ratio": Goal(0.15), "memory": MAP_MEMORY},
             label="map of 1 TiB, 4 layers", peer="qemu-img map"),
        Case("plan-1t", f"1 TiB x 4 layers: {_PLAN}", beside(our_plan("l3.qcow2"), measured("l3.qcow2")),
             {"ratio": Goal(0.1), "memory": MAP_MEMORY},
             label="plan of a commit, 1 TiB, 4 layers", peer="qemu-img measure"),
        Case("cluster-map-1t", "in process, the screen's cluster map of the 1 TiB base: read, and every visible line "
             "computed; then every zoom at four places", cluster_map("l0.qcow2"),
             {"open": Goal(0.3), "any zoom": Goal(10)}),
        Case("cluster-map-1t-4-layers", "the same of the whole chain of 4 layers", cluster_map("l3.qcow2"),
             {"any zoom": Goal(10)}),
    ]),
    Group("snapshots", images.snapshot_chain, [
        Case("plan-1t-snapshots", f"1 TiB x 2 layers, three internal snapshots in the base: {_PLAN}",
             beside(our_plan("l1.qcow2"), measured("l1.qcow2")), {"memory": MAP_MEMORY}),
    ]),
    Group("subclusters", images.subcluster_chain, [
        Case("map-extended-l2", f"256 GiB x 3 layers, extended L2 entries, scattered subclusters: {_MAP}",
             beside(our_map("l2.qcow2"), their_map("l2.qcow2")), {"memory": MAP_MEMORY},
             label="map of 256 GiB, 3 layers, subclusters", peer="qemu-img map"),
    ]),
    Group("huge", images.huge_chain, [
        Case("map-8t", "8 TiB x 2 layers: whole process, map --output json to /dev/null, no peer",
             alone(our_map("l1.qcow2")), {"memory": MAP_MEMORY}),
        Case("plan-8t", "8 TiB x 2 layers: whole process, commit -n --json down to the base, no peer",
             alone(our_plan("l1.qcow2")), {"memory": MAP_MEMORY}),
    ]),
)  # fmt: skip
