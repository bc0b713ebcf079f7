"""The one table of what can be done from the keyboard: name, keys, where it is valid, and the words for it.

Bindings, footer, help and command palette are all made from `ACTIONS`; a screen says where it is now (a set of
`Where`) and runs the method ``action_<name>``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from collections.abc import Iterable


class Where(Enum):
    """What is the case on the screen; an action needs all of its own to hold."""

    BROWSE = auto()
    """The forest is shown."""
    OPERATION = auto()
    """An operation is chosen, runs or has ended."""
    IMAGE = auto()
    """The cursor is on an image that can be read."""
    SOUND = auto()
    """The cursor is on an image that can be read, and that no commit has made invalid."""
    OVERLAY = auto()
    """It is sound, and has a backing file that can be read."""
    QCOW2 = auto()
    """It is sound, and qcow2: it can have a backing file."""
    FILE = auto()
    """The cursor is on an image that is a file here."""
    FAULTY_LINK = auto()
    """The cursor is on a sound overlay whose link is lost, records no format or a wrong one, or is fragile."""
    INTERRUPTED = auto()
    """Operations were found that died amid their work."""
    CHOOSING = auto()
    """An operation is being chosen."""
    RANGE = auto()
    """The operation has a range: it is a commit or a pull."""
    REBASE = auto()
    """The operation is a rebase."""
    BASELESS = auto()
    """The operation can do without a base: it is a pull or a rebase."""
    SNAPSHOT = auto()
    """The operation makes a new overlay."""
    COMMANDS = auto()
    """There is a plan that other tools could run, too, without harm."""
    READY = auto()
    """Nothing blocks the plan."""
    BLOCKED = auto()
    """A hazard blocks the plan."""
    RUNNING = auto()
    """A job runs or is paused."""
    PAUSED = auto()
    """The job is paused."""
    MOVING = auto()
    """The job runs and is not paused."""
    ENDED = auto()
    """The job is over."""
    LEFTOVERS = auto()
    """The job ended well, and left images behind that nothing needs."""
    NEXT = auto()
    """The job ended well, and was one step of several."""
    LAST = auto()
    """The job is over, and no other step follows it."""
    IDLE = auto()
    """No job runs."""
    SPEED_KEYS = auto()
    """Plus and minus change the speed of the job."""
    ZOOM_KEYS = auto()
    """Plus and minus zoom: the diagram, or the map when that has the keyboard, be it that a job runs."""
    IN_DIAGRAM = auto()
    """No pane has the keyboard."""
    IN_PANE = auto()
    """The map or another pane has the keyboard."""
    MAPPED = auto()
    """There is a cluster map to look at."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done.

    Attributes:
        name: Name of the method on the screen, without ``action_``.
        keys: Keys, separated by commas; the first is the one that is shown.
        where: All of these must hold.
        text: Two words at most, for the footer.
        help: One sentence, for the help and the command palette.
        shown: What the footer calls the key, or "" for the key's own name.
        rank: Place in the footer when it is narrow: 1 stays longest; 0 is not in the footer.
    """

    name: str
    keys: str
    where: frozenset[Where]
    text: str
    help: str
    shown: str = ""
    rank: int = 6


def _action(
    name: str, keys: str, where: Iterable[Where], text: str, help_text: str, *, shown: str = "", rank: int = 6
) -> Action:
    return Action(name, keys, frozenset(where), text, help_text, shown, rank)


ACTIONS: tuple[Action, ...] = (
    _action(
        "commit", "c", (Where.BROWSE, Where.OVERLAY), "Commit",
        "Merge this image, and layers below it, down into one of the images that back it. On the active "
        "layer of a longer chain the range begins below it; tab and an arrow take it in, too.", rank=2,
    ),
    _action(
        "pull", "p", (Where.BROWSE, Where.OVERLAY), "Pull",
        "Copy what the layers below hold up into this image, which then needs fewer of them.", rank=2,
    ),
    _action(
        "rebase", "r", (Where.BROWSE, Where.QCOW2), "Rebase",
        "Give this image another backing file; what differs is copied into it first.", rank=2,
    ),
    _action(
        "snapshot", "s", (Where.BROWSE, Where.SOUND), "Snapshot",
        "Put a new, empty overlay on this image, so that it keeps its content from then on.", rank=3,
    ),
    _action(
        "delete", "d", (Where.BROWSE, Where.FILE), "Delete",
        "Remove this image; when something needs it, see the ways to get rid of it and what each costs.", rank=3,
    ),
    _action(
        "fix_link", "f", (Where.BROWSE, Where.FAULTY_LINK), "Fix link",
        "Find the lost backing file of this image, or record its name and format as they should be.", rank=2,
    ),
    _action(
        "unfinished", "exclamation_mark", (Where.BROWSE, Where.INTERRUPTED), "Unfinished",
        "See what an interrupted job has left, and finish or undo it.", shown="!", rank=2,
    ),
    _action(
        "next_step", "enter", (Where.OPERATION, Where.ENDED, Where.NEXT), "Next step",
        "Plan the next step of several; nothing is written yet.", shown="enter", rank=2,
    ),
    _action(
        "remove_leftovers", "D,d", (Where.OPERATION, Where.ENDED, Where.LEFTOVERS), "Remove leftovers",
        "Remove the images that the operation has left behind and that nothing needs; it asks first.", rank=2,
    ),
    _action(
        "run", "enter", (Where.OPERATION, Where.CHOOSING, Where.READY), "Run",
        "Run exactly this plan.", shown="enter", rank=2,
    ),
    _action(
        "explain", "enter", (Where.OPERATION, Where.CHOOSING, Where.BLOCKED), "Why not?",
        "Say what blocks this plan.", shown="enter", rank=2,
    ),
    _action(
        "finish", "enter", (Where.OPERATION, Where.ENDED, Where.LAST), "Back", "Back to the forest.", shown="enter",
        rank=0,
    ),
    _action(
        "move_end", "left,right", (Where.OPERATION, Where.CHOOSING, Where.RANGE), "Move end",
        "Move the end of the range that is being chosen, along the chain.", shown="←→", rank=3,
    ),
    _action(
        "move_base", "left,right", (Where.OPERATION, Where.CHOOSING, Where.REBASE), "Base",
        "Choose the new backing file among the images below.", shown="←→", rank=3,
    ),
    _action(
        "other_base", "o", (Where.OPERATION, Where.CHOOSING, Where.REBASE), "Other base",
        "Choose the new backing file from a list of all images that can be it.", rank=2,
    ),
    _action(
        "unsafe", "u", (Where.OPERATION, Where.CHOOSING, Where.REBASE), "Link only",
        "Change the link alone (rebase -u), which is refused unless the image then reads the same; again: copy first.",
        rank=3,
    ),
    _action(
        "other_name", "o", (Where.OPERATION, Where.CHOOSING, Where.SNAPSHOT), "Other name",
        "Call the new overlay otherwise.", rank=3,
    ),
    _action(
        "switch_end", "tab", (Where.OPERATION, Where.CHOOSING, Where.RANGE), "Other end",
        "Choose the other end of the range: base or top.", shown="tab", rank=3,
    ),
    _action(
        "choose_base", "b", (Where.OPERATION, Where.CHOOSING, Where.RANGE), "Base here",
        "The image under the cursor is the base.", rank=5,
    ),
    _action(
        "choose_top", "t", (Where.OPERATION, Where.CHOOSING, Where.RANGE), "Top here",
        "The image under the cursor is the top of the range (for a pull: the image that receives the data).", rank=5,
    ),
    _action(
        "no_base", "n", (Where.OPERATION, Where.CHOOSING, Where.BASELESS), "No base",
        "No backing file at all: the image then stands alone. Press it again to have one.", rank=3,
    ),
    _action(
        "pause", "space", (Where.RUNNING, Where.MOVING), "Pause",
        "Stop before the next cluster.", shown="space", rank=2,
    ),
    _action(
        "resume", "space", (Where.RUNNING, Where.PAUSED), "Resume", "Go on copying.", shown="space", rank=2,
    ),
    _action("step", "full_stop", (Where.RUNNING,), "Step", "Copy one cluster, then pause.", shown=".", rank=3),
    _action(
        "faster", "plus,equals_sign", (Where.RUNNING, Where.SPEED_KEYS), "Faster", "Raise the speed limit.", shown="+",
        rank=3,
    ),
    _action(
        "slower", "minus", (Where.RUNNING, Where.SPEED_KEYS), "Slower", "Lower the speed limit.", shown="-",
        rank=3,
    ),
    _action(
        "cancel", "x", (Where.RUNNING,), "Cancel", "Stop the job; the machine then reads the same as before.", rank=2,
    ),
    _action(
        "copy_commands", "y", (Where.OPERATION, Where.COMMANDS, Where.IDLE), "Copy commands",
        "Copy the equivalent qemu-img, virsh and QMP commands to the clipboard (by OSC 52).", rank=5,
    ),
    _action(
        "leave", "escape", (Where.OPERATION, Where.IDLE, Where.IN_DIAGRAM), "Back", "Back to the forest.", shown="esc",
        rank=2,
    ),
    _action(
        "leave_pane", "escape", (Where.IN_PANE,), "Diagram",
        "Give the keyboard back to the diagram, from the map or a text; esc there leaves an operation.", shown="esc",
        rank=1,
    ),
    _action(
        "blast", "i,B", (Where.BROWSE, Where.IMAGE), "What breaks",
        "Light every image that would break if this one changed.", rank=4,
    ),
    _action("find", "slash", (Where.BROWSE,), "Find", "Go to an image by a part of its name.", shown="/", rank=5),
    _action("map_mode", "m", (Where.MAPPED,), "Map mode", "Map of the whole chain, or of this image alone.", rank=4),
    _action("glyphs", "g", (Where.MAPPED,), "Glyphs", "Draw the map with a glyph per state, or in colour.", rank=8),
    _action("exact", "e", (Where.BROWSE, Where.IMAGE), "Exact bytes", "Show sizes to the byte.", rank=7),
    _action(
        "diagram_zoom", "z", (), "Zoom", "Next zoom of the diagram: card, box, pill.", rank=6,
    ),
    _action(
        "zoom_in", "plus,equals_sign", (Where.ZOOM_KEYS,), "Zoom in",
        "Draw the diagram larger (in the map: fewer clusters a cell).",
        shown="+", rank=7,
    ),
    _action(
        "zoom_out", "minus", (Where.ZOOM_KEYS,), "Zoom out",
        "Draw the diagram smaller (in the map: more clusters a cell).",
        shown="-", rank=7,
    ),
    _action("reload", "f5,ctrl+r", (Where.BROWSE,), "Reload", "Read the files anew.", rank=8),
    _action("focus_diagram", "0", (), "Diagram", "Put the keyboard into the diagram.", rank=0),
    _action("pane(1)", "1", (), "First pane", "Show the first pane: details, or the plan.", rank=0),
    _action("pane(2)", "2", (), "Second pane", "Show the second pane.", rank=0),
    _action("pane(3)", "3", (Where.OPERATION,), "Third pane", "Show the third pane.", rank=0),
    _action("theme", "T", (), "Theme", "Switch between dark and light.", rank=8),
    _action("help", "question_mark,f1", (), "Help", "Help on what is under the cursor.", shown="?", rank=1),
    _action("quit", "q,ctrl+q,ctrl+c", (), "Quit", "Leave backchain; while a job runs it asks first.", rank=1),
)  # fmt: skip
"""Every action, in the order of the footer."""


def find(name: str) -> Action | None:
    """Give the action of that name, or None for an action of Textual's own."""
    return next((a for a in ACTIONS if a.name == name), None)


def valid(name: str, now: frozenset[Where]) -> bool:
    """Say whether an action is valid now; actions that are not in the table always are."""
    action = find(name)
    return action is None or action.where <= now


def bindings(never: Where) -> list[Binding]:
    """Make Textual's bindings of the table for a screen; which of them hold is the screen's `check_action`.

    Args:
        never: What is never the case on that screen; its actions are left out, so that their keys stay free.
    """
    return [
        Binding(
            a.keys, a.name, a.text, key_display=a.shown or None, tooltip=a.help, show=a.rank > 0,
            id=a.name.replace("(", "-").rstrip(")"),
        )
        for a in ACTIONS
        if never not in a.where
    ]  # fmt: skip


def valid_actions(now: frozenset[Where]) -> list[Action]:
    """Give the actions that are valid now, in the table's order."""
    return [a for a in ACTIONS if a.where <= now]
