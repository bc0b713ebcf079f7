"""One image as it was found on disk: an immutable record made by reading headers alone.

No numpy here: `backchain graph` reads thousands of headers and needs nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from backchain.errors import ImageError, MalformedImageError, MissingImageError, UnsupportedImageError
from backchain.filename import BackingLink, printable, resolve_backing
from backchain.qcow2 import format as fmt
from backchain.qcow2.header import Header, header_cluster_size, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_BYTES = (1 << 63) - (1 << 30)
"""Longest file that QEMU opens (``BDRV_MAX_LENGTH``); offsets into longer ones do not fit into 63 bits."""

ImageId = NewType("ImageId", str)
"""Identity of an image in a graph: device and inode of the file, or the resolved path of a missing one."""


class ImageState(StrEnum):
    """What is known of an image; the values appear in the graph's JSON."""

    OK = "ok"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    DIRTY = "dirty"
    CORRUPT = "corrupt"
    LOOP = "loop"
    INVALID = "invalid"
    UNNEEDED = "no-longer-needed"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must not change between a plan and its run: device, inode, length in bytes and mtime in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take the fingerprint out of a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    @property
    def lasting(self) -> tuple[int, int, int]:
        """Inode, length and mtime: what of it a restart of the machine leaves, which may number its devices anew."""
        return self.inode, self.size, self.mtime_ns


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image as found. Sizes are bytes; None means unknown (a missing or unreadable file).

    Attributes:
        id: Identity in the graph.
        path: Path as the user or an overlay named it, absolute, symlinks not followed.
        format: "qcow2", "raw", or "unknown" for what cannot be read.
        virtual_size: Size of the guest's disk.
        disk_size: Bytes allocated by the file system.
        file_size: Length of the file.
        cluster_size: Cluster size of a qcow2 image; None for raw.
        backing: The recorded link to the backing file, or None.
        header: The parsed qcow2 header, or None.
        state: Whether the image can be used.
        problem: One line on what is wrong; empty when the state is OK.
        fingerprint: Identity and change marker of the file, or None.
        remote: Name of a backing file that is no file of this machine (a protocol or ``json:``), as recorded.
        title: What tells it from images of the forest that would be called alike; empty where none is.
    """

    id: ImageId
    path: Path
    format: str
    virtual_size: int | None = None
    disk_size: int | None = None
    file_size: int | None = None
    cluster_size: int | None = None
    backing: BackingLink | None = None
    header: Header | None = field(default=None, repr=False)
    state: ImageState = ImageState.OK
    problem: str = ""
    fingerprint: Fingerprint | None = None
    remote: str | None = None
    title: str = ""

    @property
    def location(self) -> str:
        """Where the image is, for programs: its path, or the recorded name of what is no file of this machine."""
        return self.remote or str(self.path)

    @property
    def name(self) -> str:
        """File name, safe to print (control characters escaped)."""
        return printable(self.remote or self.path.name)

    @property
    def label(self) -> str:
        """Name for a box of the diagram: its title, or the file name without the usual suffixes."""
        if self.title:
            return self.title
        stem, dot, suffix = self.name.rpartition(".")
        return stem if dot and suffix.lower() in {"qcow2", "qcow", "raw", "img"} else self.name

    @property
    def display_path(self) -> str:
        """The whole path, safe to print."""
        return printable(self.location)

    @property
    def readable(self) -> bool:
        """Whether the image's tables may be read."""
        return self.format in {"qcow2", "raw"} and self.state not in {
            ImageState.MISSING,
            ImageState.UNREADABLE,
        }

    @property
    def features(self) -> tuple[str, ...]:
        """What is particular about the image, in the words of ``qemu-img info``."""
        if self.header is None:
            return ()
        header = self.header
        known = {
            "extended-l2": header.extended_l2,
            "zstd": header.compression_type == fmt.COMPRESSION_ZSTD,
            "lazy-refcounts": header.compatible_features & fmt.COMPAT_LAZY_REFCOUNTS,
            "data-file": header.incompatible_features & fmt.INCOMPAT_DATA_FILE,
            "encrypted": self.encrypted,
            "internal-snapshots": header.nb_snapshots,
            "bitmaps": self.has_bitmaps,
            f"refcount-bits={header.refcount_bits}": header.refcount_bits != 16,
        }
        return (f"v{header.version}", *(name for name, present in known.items() if present))

    @property
    def data_file(self) -> Path | None:
        """The external data file that holds the guest's data, or None when the image holds it itself."""
        name = self.header.extension(fmt.EXT_DATA_FILE) if self.header is not None else None
        return resolve_backing(self.path, os.fsdecode(name), None).path if name else None

    @property
    def encrypted(self) -> bool:
        """Whether the guest's data is stored encrypted."""
        return self.header is not None and self.header.crypt_method != 0

    @property
    def has_bitmaps(self) -> bool:
        """Whether the image holds persistent dirty bitmaps."""
        return self.header is not None and self.header.extension(fmt.EXT_BITMAPS) is not None


def missing_image(path: Path, problem: str) -> ImageInfo:
    """Make the node of a file that is not there."""
    return ImageInfo(ImageId(f"missing:{path}"), path, "unknown", state=ImageState.MISSING, problem=problem)


def read_image_info(path: Path, *, image_format: str | None = None) -> ImageInfo:
    """Read one image's header.

    Args:
        path: The file; made absolute without following symlinks.
        image_format: "qcow2" or "raw" when it is known; None detects qcow2 by its magic and takes the rest as raw.

    Returns:
        The record; a damaged or unsupported image comes back with state UNREADABLE and its problem.

    Raises:
        MissingImageError: The file does not exist or cannot be opened.
    """
    path = path if path.is_absolute() else Path.cwd() / path
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MissingImageError(f"{printable(str(path))}: {os.strerror(error.errno or 0)}") from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise MissingImageError(f"{printable(str(path))} is a folder", "name an image in it")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise MissingImageError(f"{printable(str(path))} is neither a file nor a block device")
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size > MAX_FILE_BYTES:
            return replace(_raw_info(path, status, size, image_format), format="unknown", virtual_size=None,
                           state=ImageState.UNREADABLE, problem=f"a file of {size} bytes is too long")  # fmt: skip
        start = os.pread(descriptor, fmt.HEADER_V2_LENGTH, 0)
        is_qcow2 = start[:4] == fmt.MAGIC.to_bytes(4, "big")
        if image_format == "qcow2" or (image_format is None and is_qcow2):
            return _qcow2_info(path, status, size, os.pread(descriptor, header_cluster_size(start), 0))
        return _raw_info(path, status, size, image_format)
    except OSError as error:
        raise MissingImageError(f"{printable(str(path))}: {os.strerror(error.errno or errno.EIO)}") from error
    finally:
        os.close(descriptor)


def image_id(status: os.stat_result) -> ImageId:
    """Give the identity of an existing file; a block device is the same by whichever of its nodes it is opened."""
    if stat.S_ISBLK(status.st_mode):
        return ImageId(f"block:{status.st_rdev:x}")
    return ImageId(f"{status.st_dev:x}:{status.st_ino:x}")


def guest_size(header: Header) -> int:
    """Give the length in bytes of the disk behind a qcow2 header: whole sectors, as QEMU rounds it down."""
    return header.size // fmt.SECTOR * fmt.SECTOR


def _raw_info(path: Path, status: os.stat_result, size: int, image_format: str | None) -> ImageInfo:
    known = image_format in {None, "raw"}
    return ImageInfo(
        image_id(status),
        path,
        "raw" if known else printable(image_format or "unknown"),
        virtual_size=-(-size // fmt.SECTOR) * fmt.SECTOR if known else None,
        disk_size=status.st_blocks * 512,
        file_size=size,
        state=ImageState.OK if known else ImageState.UNREADABLE,
        problem="" if known else f"format {printable(image_format or '')} is not supported",
        fingerprint=Fingerprint.of(status),
    )


def _qcow2_info(path: Path, status: os.stat_result, size: int, data: bytes) -> ImageInfo:
    base = ImageInfo(
        image_id(status), path, "qcow2", disk_size=status.st_blocks * 512, file_size=size,
        state=ImageState.UNREADABLE, fingerprint=Fingerprint.of(status),
    )  # fmt: skip
    try:
        header = parse_header(data, size)
    except ImageError as error:
        return replace(base, problem=error.message)
    backing = None
    if header.backing_name is not None:
        backing = resolve_backing(path, os.fsdecode(header.backing_name), header.backing_format)
    state, problem = ImageState.OK, ""
    if header.incompatible_features & fmt.INCOMPAT_CORRUPT:
        state, problem = ImageState.CORRUPT, "the image is marked corrupt"
    elif header.incompatible_features & fmt.INCOMPAT_DIRTY:
        state, problem = ImageState.DIRTY, "the image was not closed cleanly (its refcounts may be stale)"
    return replace(
        base, virtual_size=guest_size(header), cluster_size=header.cluster_size, backing=backing, header=header,
        state=state, problem=problem,
    )  # fmt: skip


@contextmanager
def naming(info: ImageInfo) -> Iterator[None]:
    """Put the image's name in front of what an `ImageError` of the block says, if no block inside has done so."""
    try:
        yield
    except ImageError as error:
        if error.image:
            raise
        raise _named(error, info.display_path) from error


def _named(error: ImageError, name: str) -> ImageError:
    """Make the error that `naming` raises; were it a local name there, it would keep all that its traceback holds."""
    named = type(error)(f"{name}: {error.message}", error.hint)
    named.image = name
    return named


def require_readable(info: ImageInfo) -> ImageInfo:
    """Give `info` back if the image's tables may be read.

    Raises:
        MalformedImageError: The header is damaged.
        UnsupportedImageError: The format is none that backchain reads, or there is no file to read.
    """
    if not info.readable:
        with naming(info):
            kind = MalformedImageError if info.format == "qcow2" else UnsupportedImageError
            raise kind(info.problem or "the image cannot be read")
    return info


def require_header(info: ImageInfo) -> Header:
    """Give the qcow2 header of `info`.

    Raises:
        MalformedImageError: The image has none, because it is not qcow2 or not readable.
    """
    if info.header is None:
        raise MalformedImageError(f"{info.display_path}: {info.problem or 'not a qcow2 image'}")
    return info.header
