"""Notes in the corner: short, soon gone, and of the screen that is shown alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.discover import discover
from backchain_tui import formatting as fmt
from backchain_tui.screens.browse import BrowseScreen
from tests.tui.driving import branches, figure, planned, running, until

if TYPE_CHECKING:
    from pathlib import Path

    from backchain_tui.app import BackchainApp


def notes(app: BackchainApp) -> list[str]:
    """Give the texts that are shown in the corner."""
    return [n.message for n in app._notifications]


async def test_notes_stay_on_their_screen_and_failures_go_along(tmp_path: Path) -> None:
    figure(tmp_path)
    async with running(tmp_path) as (app, pilot):
        app.notify("a note")
        app.notify("a failure", severity="error")
        await until(pilot, lambda: len(app._notifications) == 2)
        assert {n.message: n.timeout for n in app._notifications} == {"a note": 4, "a failure": 10}
        await pilot.press("c")
        await planned(app, pilot)
        await until(pilot, lambda: notes(app) == ["a failure"])
        await pilot.press("y")
        await until(pilot, lambda: notes(app) == ["a failure", "Sent to the clipboard; 3 shows them."])
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, BrowseScreen))
        assert notes(app) == ["a failure"]


async def test_what_was_not_searched_is_one_note(tmp_path: Path) -> None:
    branches(tmp_path)
    for name, folder in (("aside", "/usr"), ("beside", "/etc")):
        (tmp_path / name).symlink_to(folder, target_is_directory=True)
    lines = discover([tmp_path]).incomplete
    assert len(lines) == 2
    async with running(tmp_path, size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: notes(app) == [fmt.heading_of(lines)])
        assert notes(app)[0].endswith("(and 1 more)")


def test_the_first_of_some_lines_is_cut_at_its_begin() -> None:
    assert fmt.heading_of(["a: b"]) == "a: b"
    assert fmt.heading_of(["x" * 100 + "/file: cut", "other", "third"]) == "…" + "x" * 79 + "/file: cut (and 2 more)"
