"""Standard input, output and error: what is missing is made up for, and a reader who left changes no outcome."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, TextIO

import click

from backchain.filename import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare() -> None:
    """Make the standard streams fit for any text; those that were closed before the program began lead nowhere.

    An image would else be opened under the number of a closed one, and what is meant for the screen written into it.
    """
    for number, (name, mode) in enumerate(_MODES.items()):
        if getattr(sys, name) is None:
            _lead_nowhere(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name out of a file may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")


def answer(text: str) -> None:
    """Print what was asked for, or a part of it; it ends as it is.

    Raises:
        BrokenPipeError: Nobody reads any more, so that no more need be found out.
        OSError: Standard output cannot be written; it is named as the file.
    """
    with _named():
        click.echo(text, nl=False, color=True)  # there is none; else click looks for it through all of the text


def flush() -> None:
    """Write what standard output still holds; see `answer`."""
    with _named():
        sys.stdout.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print what goes with a change of images: the change, and the exit status that tells of it, need no reader.

    Args:
        text: What to print.
        err: On standard error, where nothing that fails is told of.
        nl: End the line.

    Raises:
        OSError: Standard output cannot be written, though somebody reads it; it is named as the file.
    """
    try:
        with nullcontext() if err else _named():
            click.echo(text, err=err, nl=nl)
    except BrokenPipeError:
        let_go(sys.stderr if err else sys.stdout)
    except OSError:
        if not err:
            raise


def complain(message: str) -> None:
    """Say on standard error, in one line, what the user should know besides the answer, or why there is none."""
    line = " ".join(part.strip() for part in message.splitlines())
    say(f"backchain: {printable(line)}", err=True)


def let_go(stream: TextIO) -> None:
    """Point a stream nowhere that nobody reads any more, so that what it still holds can be flushed."""
    with suppress(OSError, ValueError):  # a stream without a descriptor holds nothing
        _lead_nowhere(stream.fileno())


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
