"""The words on the boxes, each with what it means: boxes, pills and the help take them from here. No Textual here."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Word(StrEnum):
    """A word that a box can bear.

    Attributes:
        meaning: What it says of the image, in one sentence for the help.
    """

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        """Make a member of its word and what that means."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member


class Badge(_Word):
    """What an image is, in capitals."""

    BASE = "BASE", "Nothing backs it."
    ACTIVE = "ACTIVE", "It backs nothing: the machine writes here."
    IN_USE = "IN USE", "Another process has it open."
    OUTSIDE = "OUTSIDE", "A link leads to it, out of the folders given: it is not used without your word."
    INVALID = "INVALID", "A commit has changed what it relied on, or will."
    MIXED = "MIXED", "A commit that did not come to its end has changed a part of it: commit the same again."
    UNNEEDED = "UNNEEDED", "It reads as before, but nothing needs it any more."
    DELETED = "DELETED", "The operation removes it."
    BREAKS = "BREAKS", "It would no longer read as it does: i asks for it in the forest, a commit warns of it."
    MISSING = "MISSING", "It is not there: f on its overlay looks for it."
    UNREADABLE = "UNREADABLE", "Its header is damaged, or it is nothing that backchain can read."
    DIRTY = "DIRTY", "It was not closed cleanly; qemu-img check mends it."
    CORRUPT = "CORRUPT", "It is marked as damaged; qemu-img check tells what is wrong."
    LOOP = "LOOP", "It is backed by itself, in one step or in several, and cannot be read through."


class Mark(_Word):
    """What an image is chosen for, on the upper border."""

    BASE = "base", "The image below the range of a commit or a pull, or the new backing file."
    TOP = "top", "The uppermost image that a commit merges."
    IMAGE = "image", "The image that a pull fills, or that a rebase gives another backing file."


def meanings(signs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give every word that can be on a box, behind the sign that a pill bears in its place, with what it means.

    Args:
        signs: The signs, by badge; a mark's is its first letter.
    """
    words = [(word, signs.get(word, " ")) for word in Badge] + [(word, word[:1].upper()) for word in Mark]
    return [(f"{sign} {word}", word.meaning) for word, sign in words]
