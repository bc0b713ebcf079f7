"""The C library's heap, told to keep what arrays have given back.

Maps and plans go through windows of arrays of half a megabyte and more. The GNU C library asks the kernel for memory of
that size anew every time and gives it back at once, and the kernel clears each page once more: a tenth of the time of a
map of 10 GiB. But it learns. After a block that came from the kernel has been freed, blocks up to its size are kept
(mallopt(3), M_MMAP_THRESHOLD, "dynamic"); one that is freed untouched is all that it needs. Other C libraries are not
impressed.

Only the program itself does this, as the heap belongs to the whole process.
"""

from __future__ import annotations

_LARGEST = 31 << 20
"""Bytes; the library learns from blocks below 32 MiB (DEFAULT_MMAP_THRESHOLD_MAX on 64 bits)."""


def keep() -> None:
    """Have freed memory kept for what comes."""
    bytes(_LARGEST)  # zeros that come from the kernel, and that nobody touches
