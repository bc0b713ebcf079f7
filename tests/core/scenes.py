"""Small forests in many layouts, and one operation on each: what the states of a run are built from.

Every sector of every image holds one byte over and over, and the byte tells the layer and the place, so that a view can
be judged by patterns (see `judging`). The chain is base <- mid <- top <- over, with over2 and other beside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from unittest import mock

from backchain.discover import discover
from backchain.engines.builtin import BuiltinEngine
from backchain.jobs import Job
from backchain.operations import Commit, Delete, Operation, Pull, Rebase, Snapshot
from backchain.planning import make_plan

from . import qemu
from .judging import Expected
from .trial import FORCED, carried, windows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Plan

KIB = 1024


@dataclass(frozen=True)
class Layout:
    """How the images of a scene are laid out.

    Attributes:
        unit: Guest bytes that one command of a layer writes.
        units: Length of the disk in units.
        repeated: Every command is done again so many units further on, once for each number.
        shorter: Units by which the target's disk ends before the others'.
        raw: The base is a raw file.
        packed: Data is written compressed, where QEMU can.
        snapshot: The target has an internal snapshot, which shares its tables.
        filled: Length in bytes that the target's file gets by data of its own, so that its tables must grow.
        prefix: What stands before each backing file name.
        batches: A run takes as many batches as it can, so that clusters are given out, dropped and reused amid it.
        options: Options for ``qemu-img create``.
    """

    unit: int
    units: int = 12
    repeated: tuple[int, ...] = (0,)
    shorter: int = 0
    raw: bool = False
    packed: bool = False
    snapshot: bool = False
    filled: int = 0
    prefix: str = ""
    batches: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Length of the disk in bytes."""
        return self.unit * self.units


def _layout(cluster: int, unit: int | None = None, *, options: dict[str, Any] | None = None, **fields: Any) -> Layout:
    return Layout(unit or cluster, options={"cluster_size": cluster, **(options or {})}, **fields)


_TABLES = {"units": 40, "repeated": (0, 17)}
"""Disks over several L2 tables of 512-byte clusters."""

LAYOUTS: dict[str, Layout] = {
    "64k": _layout(64 * KIB),
    "4k": _layout(4 * KIB),
    "512": _layout(512, 2 * KIB, **_TABLES),
    "extended-l2": _layout(16 * KIB, 4 * KIB, units=16, options={"extended_l2": "on"}),
    "refcount-1": _layout(4 * KIB, options={"refcount_bits": 1}),
    "refcount-64": _layout(512, 2 * KIB, options={"refcount_bits": 64}, **_TABLES),
    "growing": _layout(
        512, 2 * KIB, units=1044, repeated=(0, 17), shorter=20, filled=2044 * KIB, options={"refcount_bits": 64}
    ),
    "v2": _layout(4 * KIB, options={"compat": "0.10"}),
    "raw-base": _layout(4 * KIB, raw=True),
    "shorter-base": _layout(4 * KIB, shorter=6),
    "shorter-raw-base": _layout(4 * KIB, shorter=6, raw=True),
    "shared-tables": _layout(512, 2 * KIB, snapshot=True, **_TABLES),
    "compressed": _layout(4 * KIB, packed=True),
    "long-names": _layout(4 * KIB, prefix="./" * 300),
    "batches": _layout(512, 2 * KIB, packed=True, batches=True, **_TABLES),
    "batches-shared": _layout(512, 2 * KIB, snapshot=True, batches=True, options={"refcount_bits": 64}, **_TABLES),
    "batches-growing": _layout(
        512, 2 * KIB, units=1044, repeated=(0, 17), shorter=20, filled=2044 * KIB, batches=True,
        options={"refcount_bits": 64},
    ),
}  # fmt: skip

_DATA = {
    "base": (0, 1, 2, 3, 8),
    "mid": (2, 3, 4),
    "top": (1, 4, 5, 6),
    "over": (0, 11),
    "over2": (7,),
    "other": (0, 1, 4, 7),
}
"""Units that each layer writes."""
_ZEROS = {"mid": (8,), "top": (9,)}
_BELOW = {"mid": "base", "top": "mid", "over": "top", "over2": "top"}


@dataclass(frozen=True)
class Deed:
    """An operation on a scene.

    Attributes:
        images: The images that it needs.
        target: Which of them receives data.
        ask: How to ask for it.
        direct: Data goes past the page cache, even in memory; else as the engine chooses.
    """

    images: tuple[str, ...]
    target: str
    ask: Callable[[Scene], Operation]
    direct: bool = False


DEEDS: dict[str, Deed] = {
    "commit": Deed(("base", "mid", "top", "over"), "base", lambda s: Commit(s.id("base"), s.id("top")), direct=True),
    "commit-under-two": Deed(
        ("base", "mid", "top", "over", "over2"), "base", lambda s: Commit(s.id("base"), s.id("top"))
    ),
    "commit-active": Deed(("base", "mid", "top"), "base", lambda s: Commit(s.id("base"), s.id("top"))),
    "commit-next": Deed(("base", "mid"), "base", lambda s: Commit(s.id("base"), s.id("mid")), direct=True),
    "commit-kept": Deed(("base", "mid", "top"), "base", lambda s: Commit(s.id("base"), s.id("top"), keep_top=True)),
    "pull": Deed(("base", "mid", "top", "over"), "over", lambda s: Pull(s.id("over"), s.id("base"))),
    "pull-everything": Deed(("base", "mid", "top"), "top", lambda s: Pull(s.id("top"), None), direct=True),
    "rebase": Deed(("base", "mid", "top", "over"), "over", lambda s: Rebase(s.id("over"), s.id("mid")), direct=True),
    "rebase-elsewhere": Deed(("base", "mid", "top", "other"), "top", lambda s: Rebase(s.id("top"), s.id("other"))),
    "rebase-onto-nothing": Deed(("base", "mid", "top"), "top", lambda s: Rebase(s.id("top"), None)),
    "rebase-link": Deed(
        ("base", "mid", "top"), "top",
        lambda s: Rebase(s.id("top"), s.id("mid"), unsafe=True, backing_name="././" + s.layout.prefix + "mid.qcow2"),
    ),
    "snapshot": Deed(("base", "mid"), "mid", lambda s: Snapshot(s.id("mid"), s.folder / "new.qcow2")),
    "delete": Deed(
        ("base", "mid", "top", "over", "over2"), "over",
        lambda s: Delete((s.id("top"), s.id("over"), s.id("over2"))),
    ),
}  # fmt: skip


class Scene:
    """A forest on disk, the plan of a deed on it, and what must hold whatever happens.

    Attributes:
        folder: Where the images are.
        paths: The images by name, without suffix.
        views: What each image read before, by file name.
    """

    def __init__(self, deed: str, layout: str, folder: Path) -> None:
        """Make the images; `folder` must not exist yet."""
        self.deed, self.layout, self.folder = DEEDS[deed], LAYOUTS[layout], folder
        folder.mkdir()
        self.paths: dict[str, Path] = {}
        for name in self.deed.images:
            self._make(name)
        self.digests = {p.name: qemu.digest(p) for p in self.paths.values()}
        self.views = {p.name: qemu.view(p) for p in self.paths.values()}
        for path in self.paths.values():
            assert qemu.check(path).clean, path.name
        self.operation = self.deed.ask(self)

    def run(self) -> None:
        """Run the plan with no hand on it."""
        with self._in_batches(), carried("direct" if self.deed.direct else "chosen"):
            BuiltinEngine().run(self.plan, Job(self.plan), FORCED)

    @contextmanager
    def _in_batches(self) -> Iterator[None]:
        """Cut the run into batches as small as they can be, where the layout wants it."""
        if not self.layout.batches:
            yield
            return
        with mock.patch("backchain.engines.rewriting._BATCH_BYTES", 1), windows_of(64):
            yield

    # --- the graph and the plan -----------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> ChainGraph:
        """The forest as backchain finds it."""
        return discover([self.folder])

    @cached_property
    def plan(self) -> Plan:
        """The plan of the deed."""
        return make_plan(self.graph, self.operation)

    def id(self, name: str) -> ImageId:
        """Give the node of an image."""
        return next(i for i in self.graph if self.graph[i].path == self.paths[name])

    def _names(self, images: Sequence[ImageId]) -> set[str]:
        return {self.plan.info(i).path.name for i in images}

    @property
    def written(self) -> set[str]:
        """The files that the plan says will be written, made or removed."""
        if isinstance(self.operation, Delete):
            return self._names(self.operation.images)
        plan = self.plan
        emptied = (plan.emptied,) if plan.emptied is not None else ()
        return self._names((plan.target, *(r.image for r in plan.relinked), *emptied))

    @property
    def surviving(self) -> set[str]:
        """The images that must read the same at every moment: the top of a commit, too."""
        names = {p.name for p in self.paths.values()}
        if isinstance(self.operation, Commit):
            names -= self._names((*self.plan.invalidated, self.plan.target))
            names |= self._names((self.operation.top,))
        elif isinstance(self.operation, Delete):
            names -= self.written
        return names

    def expected(self) -> Expected:
        """Give what must hold in every state of a run."""
        views = {name: self.views[name] for name in self.surviving}
        made: frozenset[str] = frozenset()
        if isinstance(self.operation, Snapshot):
            made = frozenset((self.operation.overlay.name,))
            views |= dict.fromkeys(made, self.views[self.paths["mid"].name])
        unchanged = {name: digest for name, digest in self.digests.items() if name not in self.written}
        return Expected(views, unchanged, self._snapshots(), made)

    def _snapshots(self) -> dict[str, dict[str, bytes]]:
        """Give what the target's internal snapshot holds; it reads through no backing file."""
        path = self.paths[self.deed.target]
        if not self.layout.snapshot or self.deed.target != "base":
            return {}
        return {path.name: {"kept": qemu.view_of_snapshot(path, "kept")}}

    # --- making ---------------------------------------------------------------------------------------------------

    def _make(self, name: str) -> None:
        layout, target = self.layout, name == self.deed.target
        below = self.paths.get(_BELOW.get(name, ""))
        raw = layout.raw and name in {"base", "other"}
        path = self.paths[name] = self.folder / f"{name}.{'raw' if raw else 'qcow2'}"
        units = layout.units - (layout.shorter if name in {"base", "other"} else 0)
        commands = self._commands(name, units, packed=layout.packed and not raw)
        if raw:
            path.write_bytes(bytes(units * layout.unit))
        else:
            backing = layout.prefix + below.name if below is not None else None
            kind = qemu.format_of(below) if below is not None else None
            qemu.create(path, units * layout.unit, backing=backing, backing_format=kind, **layout.options)
        if target and layout.snapshot:
            qemu.io(path, *commands[:-2])
            qemu.run("qemu-img", "snapshot", "-c", "kept", path)
            commands = commands[-2:]
        qemu.io(path, *commands)
        if target and layout.filled:
            self._fill(path, units)

    def _commands(self, name: str, units: int, *, packed: bool) -> list[str]:
        layer, layout = list(_DATA).index(name), self.layout
        commands = []
        for more in layout.repeated:
            for unit in _DATA[name]:
                value = 1 + (layer * 50 + (unit + more) * 7) % 250
                if name == "other" and unit < 2:  # the same data as the base's, elsewhere in its file
                    value = 1 + (unit + more) * 7 % 250
                commands.append((unit + more, f"write -q {'-c ' if packed else ''}-P {value}"))
            commands += [(unit + more, "write -q -z") for unit in _ZEROS.get(name, ())]
        return [f"{verb} {unit * layout.unit} {layout.unit}" for unit, verb in commands if unit < units]

    def _fill(self, path: Path, units: int) -> None:
        """Write data into the target until its file has the length that the layout asks for."""
        layout = self.layout
        unit = max(layout.repeated) + 12
        while (missing := layout.filled - path.stat().st_size) > 0:
            count = max(1, min(missing * 15 // 16 // layout.unit, units - unit))
            assert unit + count <= units, "the disk is too small"
            qemu.io(path, f"write -q -P 255 {unit * layout.unit} {count * layout.unit}")
            unit += count
