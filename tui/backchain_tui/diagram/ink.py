"""Ids of the inks (semantic styles) that a canvas stores per cell; what an ink looks like is the palette's business.

An id is a small integer, so that a canvas can hold it in a uint16 array. Ids resolve late, in the palette, and thus a
change of theme needs no new layout. Three families share the numbers: single inks, flow inks (kind, state, step of
the moving colour table) and box inks (role, tone, part).
"""

from __future__ import annotations

from enum import IntEnum

FLOW_STEPS = 16
"""Steps of the colour table that moves along a flow of data."""
BORDER_STEPS = 6
"""Steps of the gradient along a box's border."""
SPARK_STEPS = 6
"""Shades of a sparkline's bars."""

_FLOWS = 64
_BOXES = 256


class Ink(IntEnum):
    """Single inks."""

    BLANK = 0
    LINK = 1
    LINK_FAINT = 2
    LINK_LIT = 3
    LINK_BLAST = 4
    LINK_LOOP = 5
    RELINK = 6
    RELINK_LABEL = 7
    STAY = 8
    STAGE = 9
    GHOST = 10
    NOTE = 11
    HEAD_COMMIT = 12
    HEAD_STREAM = 13
    LABEL_COMMIT = 14
    LABEL_STREAM = 15
    HEAD_DONE = 16
    LABEL_DONE = 17


class FlowKind(IntEnum):
    """Which way data flows."""

    COMMIT = 0
    STREAM = 1


class FlowState(IntEnum):
    """How a piece of a flow looks: to come, on its way, arrived; or nothing to copy."""

    FAINT = 0
    LIVE = 1
    SETTLED = 2
    EMPTY = 3


class Role(IntEnum):
    """What an image is in its chain, and thereby the hue of its box."""

    BASE = 0
    OVERLAY = 1
    ACTIVE = 2
    INVALID = 3
    UNNEEDED = 4
    BROKEN = 5


class Tone(IntEnum):
    """How much a box stands out."""

    PLAIN = 0
    LIT = 1
    CURSOR = 2
    BLAST = 3
    FADED = 4


class Part(IntEnum):
    """Parts of a box. BORDER and SPARK are the first of their steps."""

    BORDER = 0
    FILL = BORDER_STEPS
    NAME = BORDER_STEPS + 1
    BADGE = BORDER_STEPS + 2
    META = BORDER_STEPS + 3
    BAR = BORDER_STEPS + 4
    TRACK = BORDER_STEPS + 5
    CAP = BORDER_STEPS + 6
    PILL = BORDER_STEPS + 7
    BORDER_BADGE = BORDER_STEPS + 8
    BORDER_META = BORDER_STEPS + 9
    SPARK = BORDER_STEPS + 10


_PARTS = Part.SPARK + SPARK_STEPS
INK_COUNT = _BOXES + len(Role) * len(Tone) * _PARTS
"""Every ink id is below this number."""


def flow_ink(kind: FlowKind, state: FlowState, step: int = 0) -> int:
    """Give the id of a flow's ink; `step` counts from the tail (0) to the head (15) of a pulse."""
    return _FLOWS + (kind * len(FlowState) + state) * FLOW_STEPS + step


def box_ink(role: Role, tone: Tone, part: int) -> int:
    """Give the id of a box's ink; `part` is a `Part`, plus the step for BORDER and SPARK."""
    return _BOXES + (role * len(Tone) + tone) * _PARTS + part


def flow_of(ink: int) -> tuple[FlowKind, FlowState, int] | None:
    """Take a flow ink's id apart; None for other families."""
    if not _FLOWS <= ink < _FLOWS + len(FlowKind) * len(FlowState) * FLOW_STEPS:
        return None
    rest, step = divmod(ink - _FLOWS, FLOW_STEPS)
    kind, state = divmod(rest, len(FlowState))
    return FlowKind(kind), FlowState(state), step


def box_of(ink: int) -> tuple[Role, Tone, int] | None:
    """Take a box ink's id apart; None for other families."""
    if ink < _BOXES:
        return None
    rest, part = divmod(ink - _BOXES, _PARTS)
    role, tone = divmod(rest, len(Tone))
    return Role(role), Tone(tone), part
