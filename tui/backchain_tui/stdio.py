"""Standard input, output and error: what is missing is made up for, and a reader who left changes no outcome."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

from backchain.filename import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ESCAPE = "backslashreplace"
"""What to do with the characters of a name out of a file that the terminal's encoding lacks."""

_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare() -> None:
    """Make the standard streams fit for any text; those that were closed before the program began lead nowhere.

    An image would else be opened under the number of a closed one, and what is meant for the screen written into it.
    """
    for number, (name, mode) in enumerate(_MODES.items()):
        if getattr(sys, name) is None:
            _lead_nowhere(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the program
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _named(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_ESCAPE)


class _Output(io.FileIO):
    """Standard output, which names itself as the file when it cannot be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error


def _named(stdout: TextIO) -> TextIO:
    stdout.flush()
    raw = _Output(stdout.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stdout.encoding, errors=_ESCAPE, line_buffering=stdout.isatty()
    )  # fmt: skip


def answer(text: str) -> None:
    """Print what was asked for, or a part of it; it ends as it is.

    Raises:
        BrokenPipeError: Nobody reads any more, so that no more need be found out.
        OSError: Standard output cannot be written; it is named as the file.
    """
    click.echo(text, nl=False, color=True)  # there is none; else click looks for it through all of the text


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
