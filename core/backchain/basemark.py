"""The mark of a base: what an overlay remembers of the content of the image that backs it.

A new overlay records the size and a digest of samples of its backing file's view in a header extension of its own type
(the qcow2 specification lets readers ignore types that they do not know, and QEMU keeps them). By it a base that was
changed since is noticed, and one that was moved or renamed is found again.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backchain.digests import BLOCK, view_digest
from backchain.qcow2 import format as fmt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain.digests import Range
    from backchain.image import ImageInfo

_SAMPLES = 32
_DIGEST_BYTES = 16
_VERSION = 1
_LAYOUT = struct.Struct(f">B7xQ{_DIGEST_BYTES}s")
"""version, virtual size in bytes, digest."""


@dataclass(frozen=True, slots=True)
class BaseMark:
    """What is remembered of a base.

    Attributes:
        size: Its virtual size in bytes.
        digest: Digest of samples of its view, 16 bytes.
    """

    size: int
    digest: bytes

    @classmethod
    def of(cls, chain: Sequence[ImageInfo]) -> BaseMark:
        """Take the mark of the first image of a chain (top first).

        Raises:
            ImageError: An image cannot be opened or is damaged.
            OSError: Reading failed.
        """
        size = chain[0].virtual_size or 0
        return cls(size, view_digest(chain, _samples(size), hashlib.blake2b(digest_size=_DIGEST_BYTES)))

    @classmethod
    def recorded_in(cls, overlay: ImageInfo) -> BaseMark | None:
        """Give the mark that an overlay records, or None."""
        data = overlay.header.extension(fmt.EXT_BASE_MARK) if overlay.header is not None else None
        if data is None or len(data) != _LAYOUT.size:
            return None
        version, size, digest = _LAYOUT.unpack(data)
        return cls(size, digest) if version == _VERSION else None

    def encode(self) -> bytes:
        """Give the data of the header extension."""
        return _LAYOUT.pack(_VERSION, self.size, self.digest)


def _samples(size: int) -> tuple[Range, ...]:
    last = max(size - 1, 0) // BLOCK
    blocks = sorted({last * n // (_SAMPLES - 1) for n in range(_SAMPLES)})
    return tuple((b * BLOCK, min(size, (b + 1) * BLOCK)) for b in blocks if b * BLOCK < size)
