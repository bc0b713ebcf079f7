"""What the screen and the command line say of interrupted operations, in plain words. No Textual here."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from backchain.errors import BackchainError
from backchain.filename import printable
from backchain.pending import mixes
from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation
    from backchain.record import Record
    from backchain.recovery import Tidied


def headline(record: Record, place: Path | None = None) -> str:
    """Name an interrupted operation in one line; with a `place`, images that are elsewhere by their paths."""
    return f"{printable(record.intent.operation)} {whereabouts(record, place)}"


def whereabouts(record: Record, place: Path | None = None) -> str:
    """Say which image an interrupted operation was to change, and when it was begun."""
    word = "of" if record.intent.operation in {"rebase", "delete"} else "into"
    return f"{word} {_name(record.intent.target, place)}, begun {_when(record.started)}"


def story(record: Record, rest: Operation | BackchainError | None, place: Path | None = None) -> list[str]:
    """Say what an interrupted operation left, and what the two ways on would do.

    Args:
        record: Its journal.
        rest: What remains to be done; the error that keeps it from being done; or None.
        place: Images that are elsewhere are named by their paths.
    """
    intent = record.intent
    lines = [f"It was interrupted while {record.stage if record.stage != 'abandoned' else 'at work'}."]
    if intent.operation == "commit":
        lines.append(f"The machine's own chain reads the same as before. {_caution(record, place)}.")
    elif intent.operation != "delete" and not intent.arguments.get("unsafe"):
        lines.append("Every image reads the same as before.")
    if isinstance(rest, BackchainError):
        lines.append(f"It cannot be finished: {printable(rest.message)}.")
    else:
        lines.append("Finishing does what is left of it." if rest is not None else "Nothing is left to be done.")
    forgets = "forgets the job" if intent.operation != "commit" else "remembers what reads a mix until a commit is done"
    lines.append(f"Undoing leaves the chain as it is, gives leaked clusters back, and {forgets}.")
    return lines


def _caution(record: Record, place: Path | None = None) -> str:
    """Say what an interrupted commit has made of its base."""
    name = _name(record.intent.target, place)
    if record.linking:
        return f"{name} holds all of the data already, so do not use the layers between by themselves"
    return f"{name} may hold a part of the data already, so do not use it or the layers between by themselves"


def way_on(record: Record) -> str:
    """Say what an interrupted operation means for its images, and which command goes on, as the end of a line."""
    from backchain.journal import state_folder

    beside = record.path.parent
    folder = record.intent.target.parent if beside == state_folder() else beside
    command = f"backchain recover {printable(shlex.quote(str(folder)))} finishes the job or leaves it"
    return f"{_caution(record)}; {command}" if record.intent.operation == "commit" else command


def mix_text(graph: ChainGraph, image: ImageId) -> str:
    """Say of an image that a commit has changed in part, and what mends it; empty for any other."""
    mix = next((m for m in mixes(graph) if image in m.images), None)
    if mix is None:
        return ""
    if mix.top is None or mix.base is None:
        return "reads a mix of before and after a commit that did not come to its end, whose top is no longer here"
    way = f"commit {graph[mix.top].label} into {graph[mix.base].label} {'again' if mix.interrupted else 'after all'}"
    return f"reads a mix of before and after; {way}{', or recover --finish' if mix.interrupted else ''}"


def tidied_text(tidied: Tidied, place: Path | None = None) -> str:
    """Say what was tidied up, in one line; with a `place`, images that are elsewhere by their paths."""
    leaks = tidied.leaks.items()
    parts = [f"{fmt.counted(n, 'leaked cluster')} of {_name(path, place)} given back" for path, n in leaks]
    parts += [f"{_name(path, place)} removed" for path in tidied.removed]
    parts += [f"not tidied up: {printable(line)}" for line in tidied.problems]
    if tidied.kept:
        parts.append("the job is remembered until that is mended and it is undone again")
    if tidied.mixed:
        names = fmt.names([_name(path, place) for path in tidied.mixed])
        parts.append(f"{names} may read a mix of before and after until the same is committed again")
    return "; ".join(parts) or "nothing is left to be tidied up"


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


def _name(path: Path, place: Path | None) -> str:
    return printable(path.name if place in {None, path.parent} else str(path))
