"""Work inside a Python that has backchain imported: ``python -m tests.bench.inside``, driven line by line.

A request is a line of JSON on standard input: the name of the work and its details. The answer is a line of JSON on
standard output. What the work itself prints is thrown away.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from backchain.chain import open_chain
from backchain_tui import cli, collector, heap
from backchain_tui.diagram.layout import Zoom
from backchain_tui.diagram.picture import Picture
from backchain_tui.mapview import MapView
from backchain_tui.session import read_map
from tests.tui.builders import forest

_WINDOW = (118, 20)
"""Columns and lines that the diagram or the map has on a terminal of 120x40."""


def command(arguments: list[str]) -> dict[str, Any]:
    """Run the command line."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    status = cli.run(arguments)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    if status:
        raise RuntimeError(f"exit status {status}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "memory": after.ru_maxrss * 1024}


def cluster_map(path: str) -> dict[str, Any]:
    """Open the cluster map of a chain as the screen does, then zoom in and out at several places of the disk."""
    started = time.perf_counter()
    disk = read_map(open_chain(Path(path)), own=False, size=None, started=lambda _: True)
    view = MapView(disk)
    view.resize(*_WINDOW, doubled=True)
    _look(view)
    opened = time.perf_counter() - started
    zooms = []
    for place in (0.0, 0.37, 0.71, 0.999):
        view.place_cursor(int(place * disk.clusters))
        for step in (1, -1):
            while True:
                started = time.perf_counter()
                if not view.zoom(step):
                    break
                _look(view)
                zooms.append(time.perf_counter() - started)
    return {"opened": opened, "zooms": zooms, "clusters": disk.clusters}


def _look(view: MapView) -> None:
    """Compute every line that is visible."""
    view.compute()
    for line in range(_WINDOW[1]):
        list(view.spans(line, cursor=True))


def lay_out_forest(images: int) -> dict[str, Any]:
    """Lay out and draw a forest of images, twenty bases under overlays that branch at random."""
    choose = random.Random(images)
    links: dict[str, str | None] = {f"base-{n:02}": None for n in range(20)}
    names = list(links)
    for n in range(images - len(links)):
        backing = names[-1] if choose.random() < 0.6 else choose.choice(names)
        links[f"image-{n:04}"] = backing
        names.append(f"image-{n:04}")
    graph = forest(links)
    picture = Picture()
    picture.graph = graph
    started = time.perf_counter()
    picture.lay_out(Zoom.AUTO, *_WINDOW)
    cursor = next(iter(graph))
    picture.draw(picture.view(cursor, blast=False, in_use=frozenset()), *_WINDOW, 0, 0)
    return {"seconds": time.perf_counter() - started}


WORK = {"command": command, "cluster_map": cluster_map, "lay_out_forest": lay_out_forest}


def main() -> None:
    """Answer requests until there are no more; heap and collector are set up as the program does it."""
    answers = sys.stdout
    heap.keep()
    collector.hold()
    lay_out_forest(30)
    collector.resume()
    for line in sys.stdin:
        request = json.loads(line)
        work = WORK[request.pop("work")]
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                answer = work(**request)
        except Exception as error:  # noqa: BLE001 - whoever asked reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
