"""The name of a new overlay: a proposal, and what is wrong with one that was typed. No Textual here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from backchain.filename import printable

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERED = re.compile(r"^(.*[-_.])(\d{1,3})$")
"""A name that ends in a number; more than three digits are rather a date."""
_LONGEST = 255
"""Bytes of a file's name, on all file systems in use."""


def proposal(image: Path) -> str:
    """Propose a name beside an image that is still free: disk-1.qcow2 for disk.qcow2, Snap-5.qcow2 for Snap-4.qcow2."""
    own = "".join(c if c.isprintable() else "_" for c in image.stem)
    found = _NUMBERED.match(own)
    stem, number, width = (found[1], int(found[2]), len(found[2])) if found else (f"{own}-", 0, 1)
    while True:
        number += 1
        name = f"{stem}{number:0{width}}.qcow2"
        if not os.path.lexists(image.parent / name):
            return name


def path_of(image: Path, typed: str) -> Path:
    """Give the path that a typed name means: a bare name lies beside the image."""
    return image.parent / os.path.expanduser(typed.strip())  # noqa: PTH111 - it takes names that begin like a user's


def problem_of(image: Path, typed: str) -> str:
    """Say what is wrong with a typed name, in one line; empty when it can be used."""
    text = typed.strip()
    if not text or text.endswith("/"):
        return "Give the new overlay a name."
    if not text.isprintable():
        return "The name holds control characters."
    path = path_of(image, text)
    if len(os.fsencode(path.name)) > _LONGEST:
        return f"The name is longer than {_LONGEST} bytes."
    if os.path.lexists(path):
        return f"{printable(path.name)} exists already."
    if not path.parent.is_dir():
        return f"{printable(str(path.parent))} is not a folder."
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"{printable(str(path.parent))} cannot be written by you."
    return ""
