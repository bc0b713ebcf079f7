"""``backchain [PATH ...]``: the terminal UI. It has no name of its own on the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from backchain.errors import MissingImageError, UsageError
from backchain.filename import printable
from backchain_tui.commands.options import NamedPath, scan_option


@click.command(hidden=True, add_help_option=False)
@click.argument("paths", nargs=-1, type=NamedPath())
@click.option("--ascii", "ascii_only", is_flag=True)
@click.option("-h", "--help", "show_help", is_flag=True)
@scan_option
@click.pass_context
def browse(
    context: click.Context, paths: tuple[Path, ...], scan: tuple[Path, ...], *, ascii_only: bool, show_help: bool
) -> int:
    """Open images and folders in the terminal UI (default: this folder)."""
    if show_help and context.parent is not None:
        click.echo(context.parent.get_help())
        return 0
    for path in (*paths, *scan):
        if not os.path.lexists(path):
            raise MissingImageError(f"{printable(str(path))} is neither a file nor a folder")
    return open_app(paths or (Path(),), scan=scan, ascii_only=ascii_only)


def open_app(
    paths: tuple[Path, ...], *, scan: tuple[Path, ...] = (), lab: bool = False, ascii_only: bool = False
) -> int:
    """Run the terminal UI until it is left, and give its exit status.

    Raises:
        UsageError: There is no terminal to draw on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("the terminal UI needs a terminal", "backchain graph shows the forest as text")
    # Textual reads it once, when it is imported: more frames a second shorten the way from key to screen.
    os.environ.setdefault("TEXTUAL_FPS", "120")
    from backchain_tui.app import BackchainApp

    app = BackchainApp(list(paths), scan=list(scan), lab=lab, ascii_only=ascii_only)
    app.run()
    return app.return_code or 0
