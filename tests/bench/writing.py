"""Cases that change images: commit, pull, rebase, each run on a fresh copy, the data on disk at the end.

What a run writes is copied first, what it only reads is linked; neither is timed. The first run of each side is
checked: the image that was written is clean and reads as the chain did before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import daemon, images
from tests.bench.case import Case, Group, fresh_copy, once_checked
from tests.bench.measure import Goal, Result, take_turns
from tests.bench.processes import BACKCHAIN
from tests.bench.reading import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.case import Setting
    from tests.bench.measure import Sample
    from tests.bench.processes import Spawner

    Side = Callable[[Spawner, Path, Path], Sample]

COMMIT_MEMORY = Goal(150)
"""MiB that a commit of any size may take at most."""


def changing(
    ours: Side, theirs: Side, *, written: Sequence[str], read: Sequence[str], result: str, like: str
) -> Callable[[Setting, Path], Result]:
    """Time two ways to change a chain.

    Args:
        ours: Does it, given the spawner, the folder of the copies and a scratch folder.
        theirs: The peer.
        written: Images that either of them writes.
        read: Images that are only read.
        result: The image that is checked afterwards ...
        like: ... and the one, of the chain as it was, that it must read as.
    """

    def run(setting: Setting, folder: Path) -> Result:
        warm(folder)
        check = once_checked(lambda copy: images.require_sound(copy / result, folder / like))

        def one(side: Side, name: str) -> Sample:
            with fresh_copy(setting, folder, written, read) as copy:
                sample = side(setting.spawner, copy, setting.folder)
                check(name, copy)
                return sample

        pairs = take_turns(lambda: one(ours, "ours"), lambda: one(theirs, "theirs"), setting.count)
        return Result(pairs)

    return run


def ours(*arguments: str, image: str, sync: Sequence[str]) -> Side:
    """Run a command of backchain's, which asks nothing and says nothing."""
    verb, *rest = arguments

    def run(spawner: Spawner, folder: Path, _scratch: Path) -> Sample:
        named = [folder / a if a.endswith(".qcow2") else a for a in rest]
        return spawner.run([BACKCHAIN, verb, "-y", "-q", *named, folder / image], sync=[folder / s for s in sync])

    return run


def qemu_img(*arguments: str, image: str, sync: Sequence[str]) -> Side:
    """Run a command of qemu-img's."""
    verb, *rest = arguments
    return lambda spawner, folder, _scratch: spawner.run(
        ["qemu-img", verb, "-q", "-f", "qcow2", *rest, folder / image], sync=[folder / s for s in sync]
    )


def stream(*chain: str, base: int) -> Side:
    """Run a block-stream job in the storage daemon."""
    return lambda spawner, folder, scratch: daemon.stream(spawner, [folder / c for c in chain], base, scratch)


def commit(top: str = "mid.qcow2") -> Callable[[Setting, Path], Result]:
    """Commit an active layer into the base and leave it as it is."""
    return changing(
        ours("commit", "-d", image=top, sync=["base.qcow2"]),
        qemu_img("commit", "-d", image=top, sync=["base.qcow2"]),
        written=["base.qcow2"], read=[top], result="base.qcow2", like=top,
    )  # fmt: skip


def pull() -> Callable[[Setting, Path], Result]:
    """Pull what lies between top and base up into top."""
    return changing(
        ours("pull", "-b", "base.qcow2", image="top.qcow2", sync=["top.qcow2"]),
        stream("base.qcow2", "mid.qcow2", "top.qcow2", base=0),
        written=["top.qcow2"], read=["base.qcow2", "mid.qcow2"], result="top.qcow2", like="top.qcow2",
    )  # fmt: skip


def rebase() -> Callable[[Setting, Path], Result]:
    """Give top a base that is none of its chain's."""
    arguments = ("rebase", "-b", "other.qcow2", "-F", "qcow2")
    return changing(
        _our_rebase, qemu_img(*arguments, image="top.qcow2", sync=["top.qcow2"]),
        written=["top.qcow2"], read=["base.qcow2", "mid.qcow2", "other.qcow2"], result="top.qcow2", like="top.qcow2",
    )  # fmt: skip


def _our_rebase(spawner: Spawner, folder: Path, _scratch: Path) -> Sample:
    top = folder / "top.qcow2"
    return spawner.run([BACKCHAIN, "rebase", "-y", "-q", "-b", "other.qcow2", "-F", "qcow2", top], sync=[top])


_MOVED = f"{images.SCATTERED:,} scattered clusters, {images.SCATTERED * images.CLUSTER / 1e6:.0f} MB"
_COMMIT = "commit -d of an active layer into its base, whole process and fsync of the base, beside qemu-img commit -d"
_PULL = "pull -b base, whole process and fsync of the image, beside block-stream in the storage daemon (its whole life)"
_REBASE = "safe rebase onto a base outside of the chain, whole process and fsync, beside qemu-img rebase"


def on_scattered(*, reflink: bool) -> Group:
    """Give the three operations on one file system."""
    limits = (0.15, 0.15, 0.15) if reflink else (0.8, 0.65, 0.35)
    suffix = "-reflink" if reflink else ""
    on = ", shared extents" if reflink else ""
    where = "XFS with reflink on a loop mount" if reflink else "the scratch folder's file system"
    return Group(f"scattered{suffix}", images.scattered_chain, [
        Case(f"commit{suffix}", f"{_MOVED}, {where}: {_COMMIT}", commit(),
             {"ratio": Goal(limits[0]), "memory": COMMIT_MEMORY},
             label=f"commit of 918 MB{on}", peer="qemu-img commit"),
        Case(f"pull{suffix}", f"{_MOVED}, {where}: {_PULL}", pull(), {"ratio": Goal(limits[1])},
             label=f"pull of 918 MB{on}", peer="storage daemon"),
        Case(f"rebase{suffix}", f"{_MOVED}, {where}: {_REBASE}", rebase(), {"ratio": Goal(limits[2])},
             label=f"rebase of 918 MB{on}", peer="qemu-img rebase"),
    ], reflink=reflink)  # fmt: skip


OTHER_GROUPS = (
    Group("zeros", images.zero_chain, [
        Case("commit-zeros", f"{images.ZEROS:,} zero clusters in runs of eight over a full base of 128 GiB: {_COMMIT}",
             commit("top.qcow2"), {"ratio": Goal(0.1), "memory": COMMIT_MEMORY},
             label="commit of a million zero clusters", peer="qemu-img commit"),
    ]),
    Group("compressed", images.compressed_chain, [
        Case("commit-compressed", f"{images.COMPRESSED:,} zlib clusters: {_COMMIT}", commit(),
             {"memory": COMMIT_MEMORY},
             label="commit of 6,500 zlib clusters", peer="qemu-img commit"),
        Case("pull-compressed", f"{images.COMPRESSED:,} zlib clusters: {_PULL}", pull(),
             label="pull of 6,500 zlib clusters", peer="storage daemon"),
    ]),
)  # fmt: skip
