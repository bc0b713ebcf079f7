"""``backchain demo``: a small forest of real images to play with."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backchain.filename import printable
from backchain_tui.commands.options import NamedPath
from backchain_tui.stdio import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(short_help="a lab of real qcow2 images, opened in the UI")
@click.option("--folder", metavar="DIR", type=NamedPath(folder=True), help="Write the lab here and keep it.")
@click.option("--keep", is_flag=True, help="Keep the scratch folder when the UI is left.")
@click.option("--no-ui", is_flag=True, help="Write the lab, say where it is, and leave it there.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters alone.")
def demo(folder: Path | None, *, keep: bool, no_ui: bool, ascii_only: bool) -> int:
    """Write a lab of real qcow2 images into a scratch folder and open it in the UI.

    Needs no QEMU. The scratch folder is removed when the UI is left, unless it is to be kept.
    """
    from backchain.lab import make_lab
    from backchain_tui.commands.browse import open_app

    with _lab_folder(folder, keep=keep or no_ui) as place:
        make_lab(place)
        goes = "" if folder is not None or keep or no_ui else "; it is removed when the UI is left (--keep keeps it)"
        say(f"The lab is in {printable(str(place))}{goes}", err=not no_ui)
        return 0 if no_ui else open_app((place,), lab=True, ascii_only=ascii_only)


@contextmanager
def _lab_folder(folder: Path | None, *, keep: bool) -> Iterator[Path]:
    """Give the folder for the lab: `folder`, or a scratch folder that goes away again unless it is to be kept."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    scratch = Path(tempfile.mkdtemp(prefix="backchain-demo-"))
    try:
        yield scratch
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
