"""What the screen and the command line say of interrupted operations, in plain words. No Textual here."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.journal import Record
    from backchain.operations import Operation
    from backchain.recovery import Tidied


def headline(record: Record) -> str:
    """Name an interrupted operation in one line."""
    intent = record.intent
    return f"{printable(intent.operation)} into {_name(intent.target)}, begun {_when(record.started)}"


def story(record: Record, rest: Operation | None) -> list[str]:
    """Say what an interrupted operation left, and what the two ways on would do.

    Args:
        record: Its journal.
        rest: What remains to be done, or None.
    """
    intent = record.intent
    lines = [f"It was interrupted while {record.stage if record.stage != 'abandoned' else 'at work'}."]
    if intent.operation == "commit":
        lines.append(f"The machine's own chain reads the same as before. {_caution(record)}.")
    elif intent.operation != "delete":
        lines.append("Every image reads the same as before.")
    lines.append("Finishing does what is left of it." if rest is not None else "Nothing is left to be done.")
    lines.append("Undoing leaves the chain as it is, gives leaked clusters back, and forgets the job.")
    return lines


def _caution(record: Record) -> str:
    """Say what an interrupted commit has made of its base."""
    name = _name(record.intent.target)
    return f"{name} may hold a part of the data already, so do not use it or the layers between by themselves"


def way_on(record: Record) -> str:
    """Say what an interrupted operation means for its images, and which command goes on, as the end of a line."""
    from backchain.journal import state_folder

    beside = record.path.parent
    folder = record.intent.target.parent if beside == state_folder() else beside
    command = f"backchain recover {printable(shlex.quote(str(folder)))} finishes the job or leaves it"
    return f"{_caution(record)}; {command}" if record.intent.operation == "commit" else command


def tidied_text(tidied: Tidied) -> str:
    """Say what was tidied up, in one line."""
    parts = [f"{fmt.counted(n, 'leaked cluster')} of {_name(path)} given back" for path, n in tidied.leaks.items()]
    parts += [f"{_name(path)} removed" for path in tidied.removed]
    parts += [f"not tidied up: {printable(line)}" for line in tidied.problems]
    if tidied.kept:
        parts.append("the job is remembered until that is mended and it is undone again")
    return "; ".join(parts) or "nothing had to be tidied up"


def sentence(text: str) -> str:
    """Make a sentence of words that stand in a line."""
    return f"{text[:1].upper()}{text[1:]}."


def _when(started: str) -> str:
    """Give a moment as a clock shows it; what is no moment stays as it is."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return printable(started)
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


def _name(path: Path) -> str:
    return printable(path.name)
