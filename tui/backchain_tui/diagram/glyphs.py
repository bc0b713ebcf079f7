"""Glyph sets: every character of the diagram, in one place, for terminals with Unicode and without.

A set is a frozen value; the widget and the text renderer take one. Everything here is one cell wide.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backchain_tui.badges import Badge

NORTH, EAST, SOUTH, WEST = 1, 2, 4, 8
"""Directions of a line's arms in a cell, as bits; their sum indexes `GlyphSet.light` and `GlyphSet.heavy`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The border of a box: corners from the top left clockwise, then the horizontal and the vertical line."""

    top_left: str
    top_right: str
    bottom_right: str
    bottom_left: str
    horizontal: str
    vertical: str


@dataclass(frozen=True, slots=True)
class GlyphSet:
    """The characters of a diagram.

    Attributes:
        light: 16 line glyphs, indexed by the sum of the arms' bits.
        heavy: The same for lines that are lit.
        plain, cursor, dashed: Borders: usual, under the cursor, of invalid images.
        spark: From empty to full.
        bar: A size bar's filled cell, its half cell and its track.
        caps: What closes a pill at its left and right.
        heads: Arrow heads by where they point: left, up, down.
        bound: What stands before a size that is an upper bound.
        stay: The vertical line of an image that stays.
        ellipsis: What stands for what was left out.
        braille: Whether flows are drawn in braille dots, else in lines of ASCII.
        signs: The sign of a state in front of a pill's name, by badge.
    """

    light: str
    heavy: str
    plain: Frame
    cursor: Frame
    dashed: Frame
    spark: str
    bar: tuple[str, str, str]
    caps: tuple[str, str]
    heads: tuple[str, str, str]
    bound: str
    stay: str
    ellipsis: str
    braille: bool
    signs: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Give a name in the characters that this set may use."""
        return name if self.braille else name.encode("ascii", "replace").decode("ascii")

    def sign(self, badge: str) -> str:
        """Give the sign for a badge, a space for none."""
        return self.signs.get(badge, " ")


UNICODE = GlyphSet(
    light=" ╵╶╰╷│╭├╴╯─┴╮┤┬┼",
    heavy=" ╹╺┗╻┃┏┣╸┛━┻┓┫┳╋",
    plain=Frame("╭", "╮", "╯", "╰", "─", "│"),
    cursor=Frame("┏", "┓", "┛", "┗", "━", "┃"),
    dashed=Frame("╭", "╮", "╯", "╰", "╌", "╎"),
    spark="▁▂▃▄▅▆▇█",
    bar=("━", "╸", "─"),
    caps=("▐", "▌"),
    heads=("◀", "▲", "▼"),
    bound="≤",
    stay="┊",
    ellipsis="…",
    braille=True,
    signs={
        Badge.BASE: "◆", Badge.ACTIVE: "●", Badge.IN_USE: "◉", Badge.MISSING: "∅", Badge.UNREADABLE: "⊘",
        Badge.DIRTY: "!", Badge.CORRUPT: "!", Badge.LOOP: "↺", Badge.INVALID: "✗", Badge.UNNEEDED: "○",
        Badge.BREAKS: "!", Badge.DELETED: "−", Badge.OUTSIDE: "↗", Badge.MIXED: "◐",
    },
)  # fmt: skip

ASCII = GlyphSet(
    light=" |-'||.+-'-+.+++",
    heavy=" #=#####=#=#####",
    plain=Frame(".", ".", "'", "'", "-", "|"),
    cursor=Frame("#", "#", "#", "#", "=", "#"),
    dashed=Frame(".", ".", "'", "'", "~", ":"),
    spark=" .:-=+*#",
    bar=("=", "-", "."),
    caps=("[", "]"),
    heads=("<", "^", "v"),
    bound="<=",
    stay=":",
    ellipsis="..",
    braille=False,
    signs={
        Badge.BASE: "_", Badge.ACTIVE: "*", Badge.IN_USE: "@", Badge.MISSING: "/", Badge.UNREADABLE: "%",
        Badge.DIRTY: "!", Badge.CORRUPT: "!", Badge.LOOP: "&", Badge.INVALID: "x", Badge.UNNEEDED: "~",
        Badge.BREAKS: "!", Badge.DELETED: "-", Badge.OUTSIDE: "^", Badge.MIXED: "=",
    },
)  # fmt: skip


def glyph_set(*, ascii_only: bool) -> GlyphSet:
    """Give the set for a terminal."""
    return ASCII if ascii_only else UNICODE
