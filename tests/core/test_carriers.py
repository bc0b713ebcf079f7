"""Carriers: every way brings every load to its place; the way is chosen by what the file system can."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backchain.engines import copier
from backchain.engines.builtin import BuiltinEngine
from backchain.engines.carriers import MOST_BYTES, DirectCarrier, KernelCarrier, Load, carrier_to
from backchain.errors import ImageIOError
from backchain.hostfile import copy_range
from backchain.jobs import Job

from . import planned, qemu
from .mounting import mounted
from .strategies import WAYS
from .trial import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backchain.engines.carriers import Carrier

    from .folders import Folders
    from .trial import Way

SIZE = 6 * MOST_BYTES
"""Length of the target before."""


@dataclass
class Files:
    """A source and a target, and what the target must hold."""

    source: int
    target: int
    model: bytearray

    @property
    def content(self) -> bytes:
        """What the target holds."""
        return os.pread(self.target, 2 * SIZE, 0)

    def loaded_by_sharing(self) -> bool:
        """Bring a mebibyte from the source to where nothing was, and say whether that took no room."""
        os.fsync(self.source)
        os.ftruncate(self.target, 2 * SIZE)
        os.fsync(self.target)
        before = os.fstatvfs(self.target).f_bfree
        with closing(carrier_to(self.target, [self.source])) as carrier:
            carrier.carry(self.load(SIZE, 1 << 20, "file"))
            carrier.finish()
        os.fsync(self.target)
        taken = (before - os.fstatvfs(self.target).f_bfree) * os.fstatvfs(self.target).f_frsize
        return taken < 1 << 19

    def load(self, to: int, length: int, kind: str, offset: int = 0, cell: int = 0) -> Load:
        """Make a load, and do it to the model."""
        memory = bytes((cell * 31 + n) % 251 for n in range(min(length, 997))).ljust(length, b"m")
        source: int | memoryview | None = {"file": self.source, "memory": memoryview(memory), "zeros": None}[kind]
        data = bytes(length)
        if kind == "file":
            data = os.pread(self.source, length, offset).ljust(length, b"\0")
        elif kind == "memory":
            data = memory
        self.model.extend(bytes(max(to + length - len(self.model), 0)))
        self.model[to : to + length] = data
        return Load(to, length, source, offset, cell, 1, None)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with files_in(tmp_path) as found:
        yield found


@contextmanager
def files_in(folder: Path) -> Iterator[Files]:
    """Make the two files, full of bytes that differ."""
    (folder / "source").write_bytes(os.urandom(MOST_BYTES + 777))
    (folder / "target").write_bytes(os.urandom(4096) * (SIZE // 4096))
    with (folder / "source").open("rb") as source, (folder / "target").open("r+b") as target:
        yield Files(source.fileno(), target.fileno(), bytearray((folder / "target").read_bytes()))


def carrier_of(way: Way, files: Files) -> Carrier:
    """Make the carrier of one way."""
    with carried(way):
        return copier.carrier_to(files.target, [files.source])


def test_room_is_made_for_what_is_new_alone(files: Files) -> None:
    """The hole that the file ends in stays one, as its last unit is there in part."""
    os.ftruncate(files.target, SIZE + 5000)
    os.fsync(files.target)
    before = os.fstat(files.target).st_blocks * 512
    with closing(carrier_of("direct", files)) as carrier:
        carrier.expect(SIZE + (1 << 20), 65536)
        carrier.expect(SIZE, 65536)
    status = os.fstat(files.target)
    assert status.st_size == SIZE + (1 << 20)
    assert status.st_blocks * 512 - before == (1 << 20) - 65536
    assert os.pread(files.target, 1 << 20, SIZE) == bytes(1 << 20)


GRAIN = st.sampled_from((512, 4096, 65536, 77))
LOADS = st.lists(st.tuples(st.integers(1, 40), GRAIN, st.sampled_from(("file", "memory", "zeros")), st.integers(0, 40)))


@given(way=WAYS, rows=LOADS, shuffled=st.randoms(use_true_random=False), grain=GRAIN)
def test_every_load_comes_to_its_place(folders: Folders, way: Way, rows: Any, shuffled: Any, grain: int) -> None:
    with folders.fresh() as folder, files_in(folder) as files:
        loads, place = [], 0
        for number, (units, unit, kind, skipped) in enumerate(rows):
            length = min(units * unit, MOST_BYTES)
            place += skipped // 8 * grain  # mostly next to the one before
            loads.append(files.load(place, length, kind, skipped * grain, number))
            place += length
        shuffled.shuffle(loads)
        delivered: list[Load] = []
        with closing(carrier_of(way, files)) as carrier:
            for load in loads:
                delivered += carrier.carry(load)
            delivered += carrier.finish()
            assert not carrier.finish()
        assert delivered == loads
        assert files.content == files.model


@pytest.mark.parametrize("way", ["direct", "kernel"])
def test_what_was_delivered_is_written(files: Files, way: Way) -> None:
    """A load is not given back before its bytes are in the file."""
    before = files.content
    with closing(carrier_of(way, files)) as carrier:
        for number in range(64):
            load = files.load(number * 65536, 65536, "memory", cell=number)
            for delivered in carrier.carry(load):
                place = slice(delivered.to, delivered.to + delivered.length)
                assert files.content[place] == files.model[place] != before[place]


def test_what_was_not_delivered_is_not_written_after_the_end(files: Files) -> None:
    before = files.content
    carrier = carrier_of("direct", files)
    assert carrier.carry(files.load(0, 65536, "memory")) == []
    carrier.close()
    assert files.content == before


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_write_that_fails_is_raised(files: Files, number: int) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with closing(carrier_of("direct", files)) as carrier, mock.patch.object(os, "pwrite", fail):
        carrier.carry(files.load(0, 65536, "file"))
        with pytest.raises(OSError, match=os.strerror(number)):
            carrier.finish()


def answering(answer: Callable[[int, memoryview, int], int]) -> Any:
    """Have direct writes, known by their descriptor's flags, answered differently."""
    honest = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            return answer(descriptor, data, offset)
        return honest(descriptor, data, offset)

    return mock.patch.object(os, "pwrite", pwrite)


def test_a_disk_that_wants_another_alignment(files: Files) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with closing(carrier_of("direct", files)) as carrier, answering(refuse):
        carrier.carry(files.load(8192, 65536, "file"))
        carrier.finish()
    assert files.content == files.model


@pytest.mark.parametrize("share", [0, 512, 4096, 10_000])
def test_a_write_that_stops_early_goes_on(files: Files, share: int) -> None:
    honest = os.pwrite
    answers = answering(lambda descriptor, data, offset: honest(descriptor, data[: share // 512 * 512], offset))
    with closing(carrier_of("direct", files)) as carrier, answers:
        carrier.carry(files.load(8192, 65536, "file"))
        carrier.finish()
    assert files.content == files.model


# --- which way --------------------------------------------------------------------------------------------------------


def way_chosen(files: Files) -> type[Carrier]:
    """Choose, and tell what was chosen."""
    with closing(carrier_to(files.target, [files.source])) as carrier:
        return type(carrier)


def test_past_the_cache_on_a_disk(memory: Folders) -> None:
    with memory.fresh() as folder, mounted(folder, "ext4", 64 << 20) as place, files_in(place) as files:
        assert way_chosen(files) is DirectCarrier
        assert not files.loaded_by_sharing()


def test_by_the_kernel_where_there_is_no_disk(memory: Folders) -> None:
    with memory.fresh() as folder, mounted(folder, "tmpfs", 64 << 20) as place, files_in(place) as files:
        assert way_chosen(files) is KernelCarrier


def test_by_the_kernel_where_extents_are_shared(memory: Folders) -> None:
    """And they are: the file system has no less room than before."""
    with memory.fresh() as folder, mounted(folder, "xfs", 512 << 20) as place, files_in(place) as files:
        assert way_chosen(files) is KernelCarrier
        assert files.loaded_by_sharing()


def test_by_the_kernel_where_nothing_goes_past_the_cache(files: Files) -> None:
    honest = os.open

    def refuse(path: str, flags: int, *args: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return honest(path, flags, *args)

    with mock.patch.object(os, "open", refuse):
        assert way_chosen(files) is KernelCarrier


# --- what a file system may answer ------------------------------------------------------------------------------------


def _nothing(*_: object) -> int:
    return 0


def _failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("answer", [_nothing, *map(_failing, (errno.EXDEV, 524))], ids=["0", "EXDEV", "ENOTSUPP"])
def test_a_kernel_that_does_not_copy(tmp_path: Path, answer: Callable[..., int]) -> None:
    """Some file systems say that nothing is left, amid a file: what it holds is read, and never taken for zeros."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(content := bytes(range(1, 251)) * 10_000)
    other.touch()
    with one.open("rb") as source, other.open("r+b") as target, mock.patch("os.copy_file_range", answer):
        copy_range(source.fileno(), target.fileno(), 7, 5, len(content))
    assert other.read_bytes() == bytes(5) + content[7:] + bytes(7)


@pytest.mark.parametrize("way", ["direct", "kernel"])
def test_the_file_that_cannot_be_read_is_named(tmp_path: Path, way: Way) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, 1 << 20)
    qemu.create(top, 1 << 20, backing=base)
    qemu.io(top, "write -q -P 7 0 192k")
    plan = planned.commit(base, top)
    fail, real = _failing(errno.EIO), os.preadv

    def read(descriptor: int, *arguments: Any) -> int:
        amid = job.progress().phase == "copying" and Path(f"/proc/self/fd/{descriptor}").readlink() == top
        return fail() if amid else real(descriptor, *arguments)

    job = Job(plan)
    failing = mock.patch.multiple("os", copy_file_range=fail, preadv=read)
    with carried(way), failing, pytest.raises(ImageIOError) as caught:
        BuiltinEngine().run(plan, job)
    assert caught.value.message == f"{top}: Input/output error"
    assert qemu.view(top)[: 192 << 10] == b"\7" * (192 << 10)


def test_advice_that_is_not_taken_is_no_error(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu.create(base, 1 << 20)
    qemu.create(top, 1 << 20, backing=base)
    qemu.io(top, "write -q -P 7 0 192k")
    with carried("direct"), mock.patch("os.posix_fadvise", _failing(errno.EINVAL)):
        planned.run(planned.commit(base, top))
    assert qemu.view(base)[: 192 << 10] == b"\7" * (192 << 10)
