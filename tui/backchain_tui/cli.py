"""The command line: which commands there are, and how every one of them ends.

Nothing heavy is imported here: ``backchain --version`` must not wait for Textual, networkx or numpy. Every failure is
one line on standard error and an exit status; a traceback is shown only when BACKCHAIN_DEBUG is set.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import click

from backchain import __version__
from backchain.errors import BackchainError, JobCancelledError, MissingImageError
from backchain.filename import printable
from backchain_tui import descriptors, heap, stdio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_IO = 6

_DEFAULT_COMMAND = "browse"

_COMPLETE = "_BACKCHAIN_COMPLETE"
"""Environment variable by which a shell asks for completions, and before that for the script that does so (click)."""

_COMMANDS = ("browse", "demo", "graph", "map", "commit", "pull", "rebase", "snapshot", "delete", "recover")
"""Each is a function in the module of `backchain_tui.commands` that has its name; Python has a `map` of its own."""

HELP = """\
See the backing chains of QEMU disk images, know what a commit or a pull would do to them, and watch it happen.

\b
backchain [PATH ...]                        the terminal UI on images and folders (default: this folder)
backchain demo                              a lab of real qcow2 images in a scratch folder, opened in the UI
backchain graph PATH ... [--json|--dot]     the forest, as text
backchain map [--output human|json] IMAGE   the same answer as qemu-img map
backchain commit [-b BASE] [-d] TOP         merge TOP .. above BASE down into BASE
                                            (default: TOP's backing file)
backchain pull [-b BASE] IMAGE              copy what lies between BASE and IMAGE up into IMAGE
                                            (no -b: everything, IMAGE stands alone)
backchain rebase [-u] -b BACKING [-F FMT] IMAGE
                                            safe (copies what differs) or unsafe (-u); -b "" = no backing file
backchain snapshot IMAGE OVERLAY            a new overlay on IMAGE
backchain delete IMAGE ...                  only what nothing depends on
backchain recover [FOLDER]                  what an interrupted job left, and the way on

A path that has the name of a command is given as ./demo. The UI takes --scan FOLDER (where else overlays may lie) and
--ascii (draw without Unicode), too.
"""

EPILOG = """\
\b
Exit status: 0 done, 1 unexpected, 2 usage, 3 blocked by a hazard, 4 image unreadable, malformed or unsupported,
5 in use, 6 I/O error or no space (the chain still reads the same), 7 cancelled (likewise).

\b
Completion by tab, in bash: eval "$(_BACKCHAIN_COMPLETE=bash_source backchain)"; or zsh_source, fish_source.
"""


class BackchainGroup(click.Group):
    """A group whose first argument need not be a command: what is none is a path for the UI.

    A command is imported when it is asked for: those that are not cost a fifth of the time that the program takes to
    start.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Import a command; None if there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"backchain_tui.commands.{cmd_name}")
        command: click.Command = getattr(module, "map_" if cmd_name == "map" else cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the UI's command in front of arguments that name none; a shell may complete the first to either."""
        named = args[0] in {*_COMMANDS, "--help", "-h", "--version"} if args else ctx.resilient_parsing
        if not named:
            if args and not args[0].startswith("-") and not ctx.resilient_parsing:
                _require_path(args[0])  # else the first option of a mistyped command would be complained of
            args = [_DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, or a path for the UI; what the shell takes for paths has to come first."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write no list of commands: the help text is one."""


def _require_path(word: str) -> None:
    """Make sure that a word that names no command is a path; an empty one is refused where it is read.

    Raises:
        MissingImageError: It is none, so that it may be a command that was mistyped.
    """
    if not word or os.path.lexists(word):
        return
    from difflib import get_close_matches

    meant = get_close_matches(word, _COMMANDS[1:], n=1)
    hint = f"did you mean {meant[0]}?" if meant else "see backchain --help"
    raise MissingImageError(f"{printable(word)} is neither a file nor a folder, nor a command", hint)


@click.group(
    cls=BackchainGroup,
    help=HELP,
    epilog=EPILOG,
    subcommand_metavar="[COMMAND] ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="backchain", message="%(prog)s %(version)s")
def cli() -> None:
    """Take the options that come before any command."""


def main() -> None:
    """Run the program; never returns."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts a thread a core for matrices; there are none here
    heap.keep()
    descriptors.allow_many()
    stdio.prepare()
    status = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # too late to cancel anything
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if threading.active_count() == 1:  # to take the interpreter apart is a tenth of a short command's time
        os._exit(status)
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command and give its exit status; every failure becomes one line on standard error."""
    status = 0
    try:
        answer = _invoke(list(arguments))
        status = answer if isinstance(answer, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:  # whoever asked has read enough
        stdio.let_go(sys.stdout)
    except Exception as error:  # noqa: BLE001 - the last place that can still say it in one line
        return _report(error)
    except KeyboardInterrupt:
        return _say("cancelled", JobCancelledError.exit_code)
    return status


def _invoke(arguments: list[str]) -> object:
    if instruction := os.environ.get(_COMPLETE):
        from backchain_tui.completion import complete

        return complete(cli, _COMPLETE, instruction)
    with cli.make_context("backchain", arguments) as context:
        return cli.invoke(context)


def _report(error: Exception) -> int:
    """Say what went wrong, and give the exit status that belongs to it."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if os.environ.get("BACKCHAIN_DEBUG"):
        raise error
    if isinstance(error, BackchainError):
        return _say(str(error), error.exit_code)
    if isinstance(error, click.UsageError):
        name = error.ctx.command_path.removesuffix(f" {_DEFAULT_COMMAND}") if error.ctx else "backchain"
        return _say(f"{error.format_message().rstrip('.')}; see {name} --help", EXIT_USAGE)
    if isinstance(error, click.ClickException):
        return _say(error.format_message(), EXIT_UNEXPECTED)
    if isinstance(error, click.Abort):
        return _say("cancelled, nothing was changed", JobCancelledError.exit_code)
    if isinstance(error, MemoryError):
        return _say("not enough memory", EXIT_IO)
    if isinstance(error, OSError):
        what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _say(f"{what}{error.strerror or error}", EXIT_IO)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _say(f"unexpected {what}; set BACKCHAIN_DEBUG=1 to see where", EXIT_UNEXPECTED)


def _say(message: str, status: int) -> int:
    stdio.complain(message)
    return status
