"""The qcow2 header and its extensions: parsed with every field checked, and encoded again.

Source: sections "Header" and "Header extensions" of QEMU's qcow2 specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backchain.errors import MalformedImageError, UnsupportedImageError
from backchain.qcow2 import format as fmt
from backchain.qcow2.bitmaps import directory_place

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEADER_BYTES = 16 * 1024
"""Most bytes of fixed fields and extensions that are read: all that QEMU writes takes less than 2 KiB, while a file
that is one large hole could claim a whole cluster of them, and thousands of such files are read in one go."""

_MAX_BACKING_FORMAT = 15
"""Longest name of a backing format in bytes that QEMU takes."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One header extension, `data` without its padding."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed qcow2 header. Sizes and offsets are bytes unless the name says otherwise.

    Attributes:
        size: Virtual size of the disk.
        refcount_order: log2 of the width of a refcount in bits.
        l1_size: Number of L1 entries.
        header_length: Length of the fixed fields.
        unknown_fields: Bytes of the fixed header after the fields known here, kept as they are.
        extensions: All extensions in their order, without the end marker.
        backing_name: Backing file name as recorded, decoded as a file name, or None.
    """

    version: int
    backing_file_offset: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int
    compatible_features: int
    autoclear_features: int
    refcount_order: int
    header_length: int
    unknown_fields: bytes
    extensions: tuple[Extension, ...]
    backing_name: bytes | None

    @property
    def cluster_size(self) -> int:
        """Cluster size in bytes."""
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        """Whether L2 entries are 16 bytes with a subcluster bitmap."""
        return bool(self.incompatible_features & fmt.INCOMPAT_EXTL2)

    @property
    def subcluster_size(self) -> int:
        """Unit of allocation in bytes: the cluster, or a 32nd of it with extended L2 entries."""
        return self.cluster_size // fmt.SUBCLUSTERS_PER_CLUSTER if self.extended_l2 else self.cluster_size

    @property
    def l2_entry_size(self) -> int:
        """Bytes of an L2 entry: 8 or 16."""
        return 16 if self.extended_l2 else 8

    @property
    def l2_entries(self) -> int:
        """Number of entries of an L2 table (which is one cluster)."""
        return self.cluster_size // self.l2_entry_size

    @property
    def refcount_bits(self) -> int:
        """Width of a refcount in bits."""
        return 1 << self.refcount_order

    @property
    def refcount_block_entries(self) -> int:
        """Number of clusters that one refcount block counts."""
        return self.cluster_size * 8 // self.refcount_bits

    @property
    def compression_type(self) -> int:
        """Compression of compressed clusters: 0 zlib (raw deflate), 1 zstd."""
        return self.unknown_fields[0] if self.unknown_fields else fmt.COMPRESSION_ZLIB

    @property
    def backing_format(self) -> str | None:
        """The recorded backing format, or None; it ends at a zero byte, as QEMU takes it for a string of C."""
        data = self.extension(fmt.EXT_BACKING_FORMAT) or b""
        return data.partition(b"\0")[0].decode("ascii", "backslashreplace") or None

    def extension(self, type_: int) -> bytes | None:
        """Give the data of the last extension of `type_` (the one that counts for QEMU), or None."""
        return next((e.data for e in reversed(self.extensions) if e.type == type_), None)

    def l1_entries_needed(self, size: int | None = None) -> int:
        """Number of L1 entries that a virtual size of `size` bytes needs (default: this image's)."""
        span = self.cluster_size * self.l2_entries
        return -(-(self.size if size is None else size) // span)

    def with_backing(self, name: bytes | None, backing_format: str | None) -> Header:
        """Give the header with another backing file; `name` None removes the link and the recorded format.

        The format extension comes first, so that it shares the header's first sector and changes with it at once. What
        was remembered of the old base (`backchain.basemark`) is forgotten.
        """
        rest = tuple(e for e in self.extensions if e.type not in {fmt.EXT_BACKING_FORMAT, fmt.EXT_BASE_MARK})
        if name is not None and backing_format is not None:
            rest = (Extension(fmt.EXT_BACKING_FORMAT, backing_format.encode("ascii")), *rest)
        return replace(self, backing_name=name, extensions=rest)

    def place_backing(self, name: bytes | None, backing_format: str | None) -> tuple[Header, bytes]:
        """Prepare a change of the backing file that takes effect with one write.

        The name goes where the header in force has nothing, so that it can be written and flushed first. Whatever
        shares the first sector with the link changes with it at once; behind that sector nothing may change. Extensions
        that would move across sectors make room by dropping the feature name table, which only serves messages.

        Args:
            name: Backing file name to record; None for none.
            backing_format: Its format to record.

        Returns:
            The header with the link and `backing_file_offset` (bytes) of the new name, and its encoded fixed fields
            and extensions, to be written at the start of the file. A name that starts right behind them and ends
            within the first sector belongs into the same write.

        Raises:
            UnsupportedImageError: The first cluster has no room for the name beside the one in force, or the header
                has so many extensions that the link cannot change at once.
        """
        changed = self.with_backing(name, backing_format)
        old, head = self.encode_head(), changed.encode_head()
        if not _changes_at_once(old, head) or len(head) > self.cluster_size:
            rest = tuple(e for e in changed.extensions if e.type != fmt.EXT_FEATURE_NAMES)
            changed = replace(changed, extensions=rest)
            head = changed.encode_head()
        if not _changes_at_once(old, head):
            raise UnsupportedImageError(
                "its header extensions fill more than a sector, so that its link cannot change at once",
                "copy the image with qemu-img convert, which leaves unknown extensions out",
            )
        offset = 0
        if name is not None:
            offset = self._place_for(len(old), len(head), len(name))
        changed = replace(changed, backing_file_offset=offset)
        return changed, changed.encode_head()

    def _place_for(self, old: int, head: int, length: int) -> int:
        """Give the offset in bytes for a new name of `length` bytes, clear of old and new head and the old name.

        Within the first sector nothing need be clear of the old: it is written as a whole.
        """
        if head + length <= fmt.SECTOR:
            return head
        old_start = self.backing_file_offset if self.backing_name is not None else 0
        old_end = old_start + len(self.backing_name or b"")
        for start in (max(head, old, old_end), max(head, old)):
            clear = start >= old_end or start + length <= old_start
            if clear and start + length <= self.cluster_size:
                return start
        raise UnsupportedImageError(
            "the backing file name does not fit into the image's first cluster", "use a shorter path"
        )

    def encode(self) -> bytes:
        """Encode a fresh header with its extensions and the backing name right behind them.

        Raises:
            UnsupportedImageError: They do not fit into the first cluster, even without the feature name table.
        """
        name = self.backing_name or b""
        header = self
        if len(self.encode_head()) + len(name) > self.cluster_size:
            header = replace(self, extensions=tuple(e for e in self.extensions if e.type != fmt.EXT_FEATURE_NAMES))
        end = len(header.encode_head())
        if end + len(name) > self.cluster_size:
            raise UnsupportedImageError(
                "the backing file name does not fit into the image's first cluster", "use a shorter path"
            )
        return replace(header, backing_file_offset=end if name else 0).encode_head() + name

    def encode_head(self) -> bytes:
        """Encode fixed fields and extensions as they stand at the start of the file, without the backing name."""
        body = b"".join(_encode_extension(e) for e in self.extensions)
        body += struct.pack(">II", fmt.EXT_END, 0)
        fixed = fmt.HEADER_V2.pack(
            fmt.MAGIC, self.version, self.backing_file_offset, len(self.backing_name or b""), self.cluster_bits,
            self.size, self.crypt_method, self.l1_size, self.l1_table_offset, self.refcount_table_offset,
            self.refcount_table_clusters, self.nb_snapshots, self.snapshots_offset,
        )  # fmt: skip
        if self.version >= 3:
            fixed += fmt.HEADER_V3.pack(
                self.incompatible_features, self.compatible_features, self.autoclear_features,
                self.refcount_order, self.header_length,
            )  # fmt: skip
            fixed += self.unknown_fields
        return fixed + body


def _changes_at_once(old: bytes, new: bytes) -> bool:
    """Whether one head takes the place of another when the first sector does."""
    return len(new) <= fmt.SECTOR or old[fmt.SECTOR :] == new[fmt.SECTOR :]


def _encode_extension(extension: Extension) -> bytes:
    padding = -len(extension.data) % 8
    return struct.pack(">II", extension.type, len(extension.data)) + extension.data + bytes(padding)


def header_cluster_size(start: bytes) -> int:
    """Give the bytes that have to be read to parse the header that begins with `start`: the file's first cluster."""
    bits = int.from_bytes(start[fmt.CLUSTER_BITS_OFFSET : fmt.CLUSTER_BITS_OFFSET + 4], "big")
    return 1 << bits if fmt.MIN_CLUSTER_BITS <= bits <= fmt.MAX_CLUSTER_BITS else fmt.HEADER_V3_LENGTH


def parse_header(data: bytes, file_size: int) -> Header:
    """Parse and check the header of a qcow2 file.

    Args:
        data: The file's first cluster (`header_cluster_size`), or all of a shorter file.
        file_size: Length of the file in bytes; every offset and length is checked against it.

    Raises:
        MalformedImageError: A field contradicts the specification or the file's length.
        UnsupportedImageError: A version or an incompatible feature that is not known.
    """
    if len(data) < fmt.HEADER_V2_LENGTH or int.from_bytes(data[:4], "big") != fmt.MAGIC:
        raise MalformedImageError("not a qcow2 header")
    (_, version, backing_offset, backing_size, cluster_bits, size, crypt, l1_size, l1_offset, reftable_offset,
     reftable_clusters, nb_snapshots, snapshots_offset) = fmt.HEADER_V2.unpack_from(data)  # fmt: skip
    if version not in (2, 3):
        raise UnsupportedImageError(f"qcow2 version {version} is not known (only 2 and 3 are)")
    if not fmt.MIN_CLUSTER_BITS <= cluster_bits <= fmt.MAX_CLUSTER_BITS:
        raise MalformedImageError(f"a cluster size of 2^{cluster_bits} bytes is not legal")
    incompatible, compatible, autoclear, order, length = 0, 0, 0, 4, fmt.HEADER_V2_LENGTH
    unknown = b""
    if version >= 3:
        if len(data) < fmt.HEADER_V3_LENGTH:
            raise MalformedImageError("the header is cut short")
        incompatible, compatible, autoclear, order, length = fmt.HEADER_V3.unpack_from(data, fmt.HEADER_V2_LENGTH)
        if length < fmt.HEADER_V3_LENGTH or length > min(len(data), 1 << cluster_bits):
            raise MalformedImageError(f"a header length of {length} bytes is not legal")
        if length > MAX_HEADER_BYTES:
            raise _too_long()
        unknown = bytes(data[fmt.HEADER_V3_LENGTH : length])
    name = _parse_backing_name(data, backing_offset, backing_size, 1 << cluster_bits)
    extensions = tuple(_parse_extensions(data[: 1 << cluster_bits], length, backing_offset))
    header = Header(
        version, backing_offset, cluster_bits, size, crypt, l1_size, l1_offset, reftable_offset, reftable_clusters,
        nb_snapshots, snapshots_offset, incompatible, compatible, autoclear, order, length, unknown, extensions, name,
    )  # fmt: skip
    _check(header, file_size)
    return header


def _parse_backing_name(data: bytes, offset: int, size: int, cluster_size: int) -> bytes | None:
    if offset == 0:
        return None
    if size > fmt.MAX_BACKING_FILE_SIZE or offset + size > min(cluster_size, len(data)):
        raise MalformedImageError("the backing file name lies outside of the header cluster")
    # QEMU takes it for a string of C: what follows a zero byte does not count.
    return bytes(data[offset : offset + size]).partition(b"\0")[0] or None


def _parse_extensions(data: bytes, offset: int, name_offset: int) -> Iterator[Extension]:
    end = min(name_offset or len(data), len(data))
    while offset + 8 <= end:
        type_, length = struct.unpack_from(">II", data, offset)
        if type_ == fmt.EXT_END:
            return
        offset += 8
        if length > end - offset:
            raise MalformedImageError(f"header extension {type_:#010x} runs past the header")
        if offset + length > MAX_HEADER_BYTES:
            raise _too_long()
        if type_ == fmt.EXT_BACKING_FORMAT and length > _MAX_BACKING_FORMAT:
            raise MalformedImageError(f"a backing format of {length} bytes is not legal")
        yield Extension(type_, bytes(data[offset : offset + length]))
        offset += -(-length // 8) * 8


def _too_long() -> UnsupportedImageError:
    return UnsupportedImageError(f"the header has more than {MAX_HEADER_BYTES} bytes of fields and extensions")


def _check(header: Header, file_size: int) -> None:
    """Check what the header says against itself, QEMU's limits and the length of the file."""
    _check_features(header)
    _check_tables(header, file_size)


def _check_features(header: Header) -> None:
    """Check feature bits, widths and the fields that they go with."""
    unknown = header.incompatible_features & ~fmt.INCOMPAT_KNOWN
    if unknown:
        raise UnsupportedImageError(f"unknown incompatible feature bits {unknown:#x}")
    if header.refcount_order > fmt.MAX_REFCOUNT_ORDER:
        raise MalformedImageError(f"a refcount width of 2^{header.refcount_order} bits is not legal")
    if header.extended_l2 and header.cluster_bits < fmt.MIN_EXTL2_CLUSTER_BITS:
        raise MalformedImageError("extended L2 entries need clusters of at least 16 KiB")
    if header.compression_type > fmt.COMPRESSION_ZSTD:
        raise UnsupportedImageError(f"compression type {header.compression_type} is not known")
    if bool(header.compression_type) != bool(header.incompatible_features & fmt.INCOMPAT_COMPRESSION):
        raise MalformedImageError("the compression type and its incompatible feature bit contradict each other")
    if header.autoclear_features & fmt.AUTOCLEAR_DATA_FILE_RAW and not (
        header.incompatible_features & fmt.INCOMPAT_DATA_FILE
    ):
        raise MalformedImageError("the image says that its external data file is raw, and has none")


def _check_tables(header: Header, file_size: int) -> None:
    """Check sizes and places of the tables."""
    if not header.refcount_table_clusters:
        raise MalformedImageError("the image has no refcount table")
    if header.size >= 1 << 62:
        raise MalformedImageError(f"a virtual size of {header.size} bytes is not legal")
    if header.l1_size * 8 > fmt.MAX_L1_BYTES or header.l1_entries_needed() > header.l1_size:
        raise MalformedImageError(f"an L1 table of {header.l1_size} entries does not fit a disk of {header.size} bytes")
    if header.refcount_table_clusters * header.cluster_size > fmt.MAX_REFCOUNT_TABLE_BYTES:
        raise MalformedImageError("the refcount table is too large")
    if header.nb_snapshots > fmt.MAX_SNAPSHOTS:
        raise MalformedImageError(f"{header.nb_snapshots} internal snapshots are too many")
    _check_range("L1 table", header.l1_table_offset, header.l1_size * 8, header, file_size)
    _check_range(
        "refcount table", header.refcount_table_offset, header.refcount_table_clusters * header.cluster_size,
        header, file_size,
    )  # fmt: skip
    if header.snapshots_offset % header.cluster_size:  # QEMU asks for it even where there are none
        raise MalformedImageError(f"the snapshot table at {header.snapshots_offset:#x} is not aligned to a cluster")
    if header.nb_snapshots:
        _check_range("snapshot table", header.snapshots_offset, 1, header, file_size)
    directory_place(header, file_size)


def _check_range(what: str, offset: int, length: int, header: Header, file_size: int) -> None:
    if length == 0:
        return
    if offset == 0 or offset % header.cluster_size or offset + length > -(-file_size // fmt.SECTOR) * fmt.SECTOR:
        raise MalformedImageError(f"the {what} at {offset:#x} lies outside of the file")
