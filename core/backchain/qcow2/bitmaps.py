"""Persistent dirty bitmaps: where their directory lies, and marking them as no longer true.

Source: sections "Bitmaps extension" and "Bitmaps" of QEMU's qcow2 specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.errors import MalformedImageError
from backchain.qcow2 import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backchain.qcow2.header import Header


def directory_place(header: Header, file_size: int) -> tuple[int, int] | None:
    """Give (offset, length) in bytes of the bitmap directory, or None where none counts.

    Args:
        header: The image's header.
        file_size: Length of the file in bytes.

    Raises:
        MalformedImageError: The extension is none that QEMU takes, or the directory lies outside of the file.
    """
    extension = header.extension(fmt.EXT_BITMAPS)
    if extension is None:
        return None
    if len(extension) != fmt.BITMAPS_EXTENSION.size:
        raise MalformedImageError(f"a bitmaps extension of {len(extension)} bytes is not legal")
    if not header.autoclear_features & fmt.AUTOCLEAR_BITMAPS:
        return None
    count, reserved, size, offset = fmt.BITMAPS_EXTENSION.unpack(extension)
    if not 0 < count <= fmt.MAX_BITMAPS or reserved:
        raise MalformedImageError(f"a bitmaps extension of {count} bitmaps is not legal")
    outside = offset == 0 or offset % header.cluster_size or offset + size > -(-file_size // fmt.SECTOR) * fmt.SECTOR
    if not 0 < size <= fmt.MAX_BITMAP_DIRECTORY_SIZE or outside:
        raise MalformedImageError("the bitmap directory lies outside of the file")
    return offset, size


def marked_in_use(directory: bytes, count: int) -> bytes:
    """Give a bitmap directory of `count` entries with every bitmap marked as inconsistent.

    Raises:
        MalformedImageError: The directory is cut short.
    """
    marked = bytearray(directory)
    position = 0
    for _ in range(count):
        if position + fmt.BITMAP_DIRECTORY_ENTRY.size > len(marked):
            raise MalformedImageError("the bitmap directory is cut short")
        table, length, flags, kind, bits, name, extra = fmt.BITMAP_DIRECTORY_ENTRY.unpack_from(marked, position)
        fmt.BITMAP_DIRECTORY_ENTRY.pack_into(
            marked, position, table, length, flags | fmt.BITMAP_IN_USE, kind, bits, name, extra
        )
        position += -(-(fmt.BITMAP_DIRECTORY_ENTRY.size + name + extra) // 8) * 8
    return bytes(marked)


def bitmap_tables(directory: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Yield (host offset in bytes, number of entries) of the table of each of `count` bitmaps.

    Raises:
        MalformedImageError: The directory is cut short.
    """
    position = 0
    for _ in range(count):
        if position + fmt.BITMAP_DIRECTORY_ENTRY.size > len(directory):
            raise MalformedImageError("the bitmap directory is cut short")
        table, entries, _, _, _, name, extra = fmt.BITMAP_DIRECTORY_ENTRY.unpack_from(directory, position)
        yield table, entries
        position += -(-(fmt.BITMAP_DIRECTORY_ENTRY.size + name + extra) // 8) * 8
