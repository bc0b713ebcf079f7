"""Formats that backchain does not read, told by the magic that QEMU looks for in a file whose format nobody names.

Source: the probing functions of QEMU's ``block/*.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROBED_BYTES = 512
_FORMATS = (
    ("vmdk", 0, b"KDMV"), ("vmdk", 0, b"COWD"), ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    ("vhdx", 0, b"vhdxfile"), ("vpc", 0, b"conectix"), ("qed", 0, b"QED\0"), ("luks", 0, b"LUKS\xba\xbe"),
    ("parallels", 0, b"WithoutFreeSpace"), ("parallels", 0, b"WithouFreSpacExt"),
)  # fmt: skip
"""By QEMU's name of the format: where its magic is, and what."""


def other_format(path: Path) -> str | None:
    """Give QEMU's name of the format that it would find in a file, None where that is qcow2, raw or out of reach."""
    try:
        with path.open("rb") as file:
            start = file.read(_PROBED_BYTES)
    except OSError:
        return None
    return next((name for name, offset, magic in _FORMATS if start[offset:].startswith(magic)), None)
