"""Compressed clusters: raw deflate data or a zstd frame, one for each cluster.

QEMU writes deflate data with a window of 4 KiB, but reads any, as it decompresses a cluster in one go; so do we. ISA-L,
which there is for x86-64 and ARM64, takes a third of zlib's time: 6,500 clusters of words in 0.65 s instead of 2.0 s.
It may refuse what follows a whole cluster, at which neither zlib nor QEMU looks, so that zlib has the last word.

Source: section "Compressed Clusters Descriptor" of QEMU's qcow2 specification, and its block/qcow2-threads.c.
"""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress

from backchain.qcow2 import format as fmt

_WINDOW = -15
"""zlib's wbits: raw deflate data, the largest window."""


def decompress(packed: bytes, cluster_size: int, compression_type: int) -> bytes:
    """Decompress one cluster; bytes behind its data are padding.

    Args:
        packed: The sectors that hold it.
        cluster_size: Bytes that it has at most.
        compression_type: The image's (`backchain.qcow2.format`).

    Raises:
        ValueError: It does not decompress.
    """
    if compression_type == fmt.COMPRESSION_ZSTD:
        return _zstd(packed, cluster_size)
    return _deflate(packed, cluster_size)


def _deflate(packed: bytes, cluster_size: int) -> bytes:
    try:
        from isal import isal_zlib
    except ImportError:
        pass
    else:
        with suppress(isal_zlib.error):  # type: ignore[arg-type] # its stubs take the class for an instance
            return isal_zlib.decompressobj(_WINDOW).decompress(packed, cluster_size)
    try:
        return zlib.decompressobj(_WINDOW).decompress(packed, cluster_size)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _zstd(packed: bytes, cluster_size: int) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    try:
        return zstd.ZstdDecompressor().decompress(packed, cluster_size)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
