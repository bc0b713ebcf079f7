"""Scenes whose run was killed, and the running of what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.jobs import Job
from backchain.operations import Commit
from backchain.planning import make_plan

from . import qemu
from .home import Home
from .images import chain_of
from .planned import node
from .recording import Flush, Sync, recorded
from .states import States
from .trial import FORCED

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.record import Record

    from .scenes import Scene


def interrupted(scene: Scene, pins: Path, image: str | None, flush: int = 0) -> Record:
    """Kill the scene's run right after a flush of an image, or as soon as the journal is there.

    Returns:
        The journal that is left.
    """
    home = Home(scene.folder, pins)
    assert scene.plan
    with recorded(scene.folder) as recording:
        scene.run()
    awaited = Sync() if image is None else Flush(recording.names[scene.paths[image].name])
    state = States(recording)
    number = [n for n, e in enumerate(recording.events) if e == awaited][flush]
    files = state.killed_before(number + 1).files
    home.put({name: state.contents[digest] for name, digest in files.items()})
    (record,) = discover([scene.folder]).interrupted
    return record


def perform(graph: ChainGraph, operation: Operation) -> None:
    """Plan an operation and run it, as the command line does."""
    plan = make_plan(graph, operation)
    assert not plan.stopping(FORCED), plan.stopping(FORCED)
    BuiltinEngine().run(plan, Job(plan), FORCED)


def committed(folder: Path) -> tuple[Path, ...]:
    """Commit two layers under another; they are invalid then."""
    folder.mkdir()
    base, one, two, over = chain_of(folder, "base", "one", "two", "over")
    qemu.io(one, "write -q -P 1 0 64k")
    qemu.io(two, "write -q -P 2 64k 64k")
    graph = discover([folder])
    perform(graph, Commit(node(graph, base), node(graph, two)))
    return base, one, two, over


def leak(path: Path) -> None:
    """Count a cluster of an image that nothing refers to (refcounts of 16 bits)."""
    with path.open("r+b") as file:
        file.seek(20)  # cluster_bits
        size = 1 << int.from_bytes(file.read(4), "big")
        end = -(-path.stat().st_size // size)
        file.truncate((end + 1) * size)
        file.seek(48)  # refcount_table_offset
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek(int.from_bytes(file.read(8), "big") + 2 * end)
        file.write((1).to_bytes(2, "big"))
    assert qemu.check(path).leaks == 1
