"""``backchain graph``: the forest as text, JSON or a drawing for Graphviz."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from backchain_tui.commands.options import NamedPath, scan_option, show_incomplete, show_interrupted
from backchain_tui.stdio import answer

if TYPE_CHECKING:
    from pathlib import Path

    from backchain.graph import ChainGraph


@click.command(short_help="the forest, as text")
@click.argument("paths", metavar="PATH ...", nargs=-1, required=True, type=NamedPath())
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--dot", "as_dot", is_flag=True, help="A graph for Graphviz: backchain graph --dot . | dot -Tsvg")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters alone.")
@scan_option
def graph(paths: tuple[Path, ...], scan: tuple[Path, ...], *, as_json: bool, as_dot: bool, ascii_only: bool) -> None:
    """Show what backs what: every chain that the images and folders hang in, siblings included.

    Each image stands above its overlays. One overlay follows straight below; several are drawn as branches.
    """
    from backchain.discover import discover

    if as_json and as_dot:
        raise click.UsageError("--json and --dot exclude each other")
    found = discover(paths, scan=scan)
    answer(_render(found, as_json=as_json, as_dot=as_dot, ascii_only=ascii_only))
    show_incomplete(found)
    show_interrupted(found)


def _render(found: ChainGraph, *, as_json: bool, as_dot: bool, ascii_only: bool) -> str:
    if as_json:
        return json.dumps(found.to_json(), indent=2) + "\n"
    if as_dot:
        from backchain_tui.dot import to_dot

        return to_dot(found)
    from backchain_tui.forest_text import ASCII, UNICODE, forest_text

    return forest_text(found, ASCII if ascii_only or not _can_draw() else UNICODE)


def _can_draw() -> bool:
    """Whether standard output's encoding has the lines of the tree."""
    from backchain_tui.forest_text import UNICODE

    try:
        UNICODE.characters().encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
