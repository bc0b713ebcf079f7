"""Raw images: the file is the disk. What is stored and what is a hole is asked of the file system.

Source: lseek(2), SEEK_DATA and SEEK_HOLE; QEMU's ``block/file-posix.c`` reports the same extents.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np

from backchain.runs import Runs, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator


def data_extents(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of every stretch of a file within [start, end) that holds data.

    A file system that knows no holes reports one stretch.
    """
    while start < end:
        try:
            data = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            yield start, end
            return
        if data >= end:
            return
        hole = os.lseek(descriptor, data, os.SEEK_HOLE)
        yield data, min(hole, end)
        start = hole


def is_hole(descriptor: int, start: int, end: int) -> bool:
    """Say whether a file holds no data within [start, end) bytes; False where the file system knows no holes."""
    return next(data_extents(descriptor, start, end), None) is None


def holds_less(descriptor: int, length: int) -> bool:
    """Say whether the file system has stored less than `length` bytes of a file, so that holes are worth looking for.

    What a file says of itself may be anything; what it takes on the disk is real.
    """
    return os.fstat(descriptor).st_blocks * 512 < length


def raw_runs(descriptor: int, start: int, end: int, file_size: int) -> Runs:
    """Give the runs of a raw file over the guest range [start, end) in bytes.

    What lies between `file_size` (the length of the file in bytes) and `end` is the rest of the last sector: zeros.
    """
    starts: list[int] = []
    states: list[int] = []
    position = start
    for data, data_end in data_extents(descriptor, start, min(end, file_size)):
        if data > position:
            starts.append(position)
            states.append(RunState.HOLE)
        starts.append(data)
        states.append(RunState.DATA)
        position = data_end
    if position < end:
        starts.append(position)
        states.append(RunState.HOLE)
    host = np.array(starts, np.int64)
    return Runs(host, np.array(states, np.uint8), np.zeros(len(host), np.uint16), host.copy(), end)
