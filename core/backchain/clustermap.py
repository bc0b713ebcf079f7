"""Which layer of a chain provides each part of the guest's disk: streamed as windows of runs.

The walk goes window by window over the guest's disk and layer by layer down the chain, and stops in each window as
soon as the upper layers provide all of it. Memory is bounded by one window, however large the disk is.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from backchain.errors import ImageError, MissingImageError, UnsupportedImageError
from backchain.image import guest_size, naming, require_header, require_readable
from backchain.qcow2 import format as fmt
from backchain.qcow2.image import NOWHERE, Qcow2File
from backchain.qcow2.tables import Workspace
from backchain.raw import data_extents, raw_runs
from backchain.runs import Runs, RunState, overlay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backchain.image import ImageInfo

_RAW_WINDOW = 1 << 40


class Layer(Protocol):
    """An open image as the walk needs it."""

    info: ImageInfo
    descriptor: int

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        ...

    @property
    def window_bytes(self) -> int:
        """Guest bytes that are best read at once."""
        ...

    def runs(self, start: int, end: int) -> Runs:
        """Give the image's own runs over [start, end) bytes, `end` at most the virtual size."""
        ...

    def next_used(self, start: int) -> int:
        """Give the guest offset, `start` or above, from which on the image may hold anything, or `NOWHERE`."""
        ...


class RawLayer:
    """A raw image opened for reading."""

    def __init__(self, info: ImageInfo, descriptor: int) -> None:
        """Take over an open descriptor (which stays the caller's to close)."""
        self.info = info
        self.descriptor = descriptor
        self._file_size = os.lseek(descriptor, 0, os.SEEK_END)
        self.size = -(-self._file_size // fmt.SECTOR) * fmt.SECTOR
        self.window_bytes = _RAW_WINDOW

    def runs(self, start: int, end: int) -> Runs:
        """Give the data and the holes over [start, end) bytes."""
        return raw_runs(self.descriptor, start, end, self._file_size)

    def next_used(self, start: int) -> int:
        """Give the offset of the data that follows `start`, or `NOWHERE`."""
        return next((data for data, _ in data_extents(self.descriptor, start, self._file_size)), NOWHERE)


class Qcow2Layer:
    """A qcow2 image opened for reading."""

    def __init__(self, info: ImageInfo, descriptor: int, workspace: Workspace | None = None) -> None:
        """Take over an open descriptor (which stays the caller's to close) and read the L1 table.

        Args:
            info: The image.
            descriptor: Open for reading.
            workspace: Memory that is shared with layers which are read in turn with this one.
        """
        self.info = info
        self.descriptor = descriptor
        header = require_header(info)
        self.file = Qcow2File(descriptor, header, os.lseek(descriptor, 0, os.SEEK_END), workspace)
        self.size = guest_size(header)
        self.window_bytes = self.file.window_bytes

    def runs(self, start: int, end: int) -> Runs:
        """Give the image's own runs over [start, end) bytes."""
        with naming(self.info):
            return self.file.runs(start, end)

    def next_used(self, start: int) -> int:
        """Give the guest offset from which on an L2 table may hold anything, or `NOWHERE`."""
        return self.file.next_used(start)


@contextmanager
def open_layers(images: Sequence[ImageInfo], *, keyless: bool = False) -> Iterator[tuple[Layer, ...]]:
    """Open the images of a chain (top first) for reading; they are closed on leaving.

    Args:
        images: The images.
        keyless: Whether encrypted ones may be among them: their tables can be read without a key, their data cannot.

    Raises:
        MissingImageError: One cannot be opened.
        UnsupportedImageError: One is encrypted or has an external data file.
        MalformedImageError: One is damaged.
    """
    with ExitStack() as stack:
        workspace = Workspace()
        yield tuple(stack.enter_context(_open_layer(info, workspace, keyless=keyless)) for info in images)


@contextmanager
def _open_layer(info: ImageInfo, workspace: Workspace, *, keyless: bool) -> Iterator[Layer]:
    _check_supported(info, keyless=keyless)
    try:
        descriptor = os.open(info.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise MissingImageError(f"{info.display_path}: {os.strerror(error.errno or 0)}") from error
    try:
        yield make_layer(info, descriptor, workspace)
    finally:
        os.close(descriptor)


def make_layer(info: ImageInfo, descriptor: int, workspace: Workspace | None = None) -> Layer:
    """Make the layer of an image on a descriptor that is already open; see `Qcow2Layer` for the workspace.

    Raises:
        MalformedImageError: The L1 table lies outside of the file.
    """
    with naming(info):
        return Qcow2Layer(info, descriptor, workspace) if info.format == "qcow2" else RawLayer(info, descriptor)


def _check_supported(info: ImageInfo, *, keyless: bool) -> None:
    require_readable(info)
    if info.header is None:
        return
    if info.header.incompatible_features & fmt.INCOMPAT_DATA_FILE:
        raise UnsupportedImageError(f"{info.display_path}: images with an external data file are not supported")
    if info.encrypted and not keyless:
        raise UnsupportedImageError(f"{info.display_path}: encrypted images are not supported")


def chain_map(images: Sequence[ImageInfo], start: int = 0, end: int | None = None) -> Iterator[Runs]:
    """Map the guest's disk of a chain, or of one image alone.

    Args:
        images: The chain, top first. The last is taken as if nothing backed it when nothing does; when its header
            names a backing file that is not given, what it leaves unallocated stays `RunState.UNALLOCATED`.
        start: Guest offset in bytes at which to begin.
        end: Guest offset in bytes at which to end; None, or what lies past the end, means the virtual size.

    Yields:
        Windows of runs in ascending order, without gaps, over [start, end) of the first image.

    Raises:
        ImageError: An image cannot be opened or is damaged.
    """
    with open_layers(images) as layers:
        size = layers[0].size
        yield from map_layers(layers, start, size if end is None else min(end, size))


def map_layers(layers: Sequence[Layer], start: int = 0, end: int | None = None) -> Iterator[Runs]:
    """Map the guest range [start, end) bytes of open layers, top first; see `chain_map`.

    Where no layer holds anything one window goes on to where one does: the size of a disk costs no time. Of a damaged
    image all that precedes the damage is given before the error is raised.
    """
    end = layers[0].size if end is None else end
    window = min(layer.window_bytes for layer in layers)
    while start < end:
        used = min(layer.next_used(start) for layer in layers)
        stop = min(end, max(start // window + 1, used // window) * window)
        yield from _up_to_damage(layers, start, stop)
        start = stop


def _up_to_damage(layers: Sequence[Layer], start: int, end: int) -> Iterator[Runs]:
    """Map a window at once, or by halves when it is damaged, down to the parts of which one entry tells."""
    try:
        window = map_window(layers, start, end)
    except ImageError:
        unit = min(la.info.header.subcluster_size if la.info.header is not None else fmt.SECTOR for la in layers)
        middle = max((start + end) // 2 // unit, start // unit + 1) * unit
        if middle >= end:
            raise
        yield from _up_to_damage(layers, start, middle)
        yield from _up_to_damage(layers, middle, end)
    else:
        yield window


def map_window(layers: Sequence[Layer], start: int, end: int) -> Runs:
    """Map one window [start, end) bytes of open layers, top first."""
    return _walk(layers[0].runs(start, end), layers[1:], layers[-1])


def map_backing(layers: Sequence[Layer], start: int, end: int) -> Runs:
    """Map what an overlay that holds nothing would read through `layers` (its backing chain, top first).

    The window [start, end) bytes may reach past the end of every layer. Layer numbers count from 1; number 0 stands
    for the overlay, which provides the zeros where `layers` have ended or are none.
    """
    runs = Runs.one(start, end, RunState.UNALLOCATED)
    return _walk(runs, layers, layers[-1]) if layers else _absent(runs)


def _walk(runs: Runs, below: Sequence[Layer], last: Layer) -> Runs:
    """Put a top's `runs` over the layers `below` it, as far down as anything is left open."""
    for number, layer in enumerate(below, 1):
        if not runs.unresolved().any():
            return runs
        runs = overlay(runs, _layer_window(layer, number, int(runs.start[0]), runs.end))
    return runs if last.info.backing is not None else _absent(runs)


def _layer_window(layer: Layer, number: int, start: int, end: int) -> Runs:
    """Give a lower layer's runs; past its end the guest reads zeros, on account of the layer above."""
    past = Runs.one(max(start, layer.size), end, RunState.PAST_END, layer=number - 1) if end > layer.size else None
    if start >= layer.size and past is not None:
        return past
    runs = layer.runs(start, min(end, layer.size))
    runs.layer = np.full(len(runs), number, np.uint16)
    return runs if past is None else Runs.join((runs, past))


def _absent(runs: Runs) -> Runs:
    """Mark what no layer provides; reserved host clusters keep their offset."""
    state = np.where(runs.unresolved(), np.uint8(RunState.ABSENT), runs.state)
    return Runs(runs.start, state, runs.layer, runs.host, runs.end)
