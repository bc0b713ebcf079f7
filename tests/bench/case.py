"""What a benchmark is made of: cases, in groups that share a set of images, and the setting that they run in."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench import images
from tests.bench.processes import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.bench.measure import Goal, Result
    from tests.bench.processes import Spawner


@dataclass(slots=True)
class Setting:
    """What a case works with.

    Attributes:
        folder: Scratch folder of the whole run.
        spawner: What starts and times processes.
        count: Pairs of runs.
        peak_disk: Most bytes that the scratch folder has taken so far.
    """

    folder: Path
    spawner: Spawner
    count: int
    peak_disk: int = 0

    def look_at_disk(self) -> None:
        """Take a reading of what the scratch folder takes; what is mounted in it counts as the file that holds it."""
        device = self.folder.stat().st_dev
        taken = 0
        for where, folders, files in os.walk(self.folder):
            folders[:] = [f for f in folders if os.lstat(f"{where}/{f}").st_dev == device]
            found = {s.st_ino: s.st_blocks * 512 for s in (os.lstat(f"{where}/{f}") for f in files)}
            taken += sum(found.values())
        self.peak_disk = max(self.peak_disk, taken)


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is timed.

    Attributes:
        name: What `--only` goes by.
        about: One line: what exactly is timed, beside what.
        run: Does it, given the setting and the folder of the group's images.
        goals: What the numbers should be, by their names (see `Result.value`).
        label: What readers of the plot and the table see; empty for what is not shown there.
        peer: The peer's name, for them.
    """

    name: str
    about: str
    run: Callable[[Setting, Path], Result]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    label: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases on the same images.

    Attributes:
        name: Name of the folder of the images.
        make: Makes them; None for none.
        cases: What is timed on them.
        reflink: Whether they lie on the file system that shares extents between files.
    """

    name: str
    make: Callable[[Path], None] | None
    cases: Sequence[Case]
    reflink: bool = False


@contextmanager
def fresh_copy(
    setting: Setting, source: Path, written: Sequence[str], read: Sequence[str]
) -> Iterator[Path]:  # fmt: skip
    """Give a folder with fresh copies, on disk, of the images that a run writes, and links to those it only reads.

    Raises:
        BenchError: An image that should only have been read was written.
    """
    folder = source.with_name(f"{source.name}-copy")
    folder.mkdir()
    try:
        for name in written:
            images.tool("cp", "--reflink=auto", "--sparse=auto", source / name, folder / name)
        for name in read:
            (folder / name).hardlink_to(source / name)
        images.settle(folder)
        before = {name: (source / name).stat().st_mtime_ns for name in read}
        yield folder
        setting.look_at_disk()
        for name, stamp in before.items():
            if (source / name).stat().st_mtime_ns != stamp:
                raise BenchError(f"{name} was written to, which makes every later run worthless")
    finally:
        shutil.rmtree(folder)


def once_checked(check: Callable[[Path], None]) -> Callable[[str, Path], None]:
    """Make of a check one that looks at the first run of each side only."""
    seen: set[str] = set()

    def look(side: str, folder: Path) -> None:
        if side not in seen:
            seen.add(side)
            check(folder)

    return look
