"""The application: themes, the session, the first screen, the command palette, and the guard at the door.

Neither numpy nor networkx nor the dialogs are imported here: the first paint comes before them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType

from backchain.errors import JobCancelledError
from backchain_tui.actions import valid_actions
from backchain_tui.describe import Row, Tone
from backchain_tui.screens.browse import BrowseScreen
from backchain_tui.screens.picture import PictureScreen
from backchain_tui.session import Session
from backchain_tui.theme import BACKCHAIN_DARK, BACKCHAIN_LIGHT, THEMES, starting_theme

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from textual import events
    from textual.notifications import SeverityLevel
    from textual.screen import Screen

FRAMES = 15.0
"""Frames a second of the picture while data flows."""


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_ANSI_PAIR = ("ansi-dark", "ansi-light")
"""Textual's themes that leave the colours to the terminal."""


_LOOK = 0.5
"""Seconds between two looks whether the terminal is still there; what is drawn for none piles up soon."""

_NOTE_SECONDS, _FAILURE_SECONDS = 4.0, 10.0
"""How long a note in the corner hides what is below it."""

_TINY = 18
"""Rows below which a dialog has no room for frames within it."""


class BackchainApp(App[None]):
    """See backing chains, preview a commit or a pull, and watch it happen."""

    TITLE = "backchain"
    CSS_PATH = "styles/app.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        scan: Sequence[Path] = (),
        lab: bool = False,
        ascii_only: bool = False,
        frames: float = FRAMES,
    ) -> None:
        """Make the application.

        Args:
            paths: Images and folders to show.
            scan: More folders in which overlays may lie.
            lab: These are practice images: jobs run slowly enough to be watched, without asking first.
            ascii_only: Draw with ASCII characters alone.
            frames: Frames a second; 0 stops the clock, and `OperationScreen.tick` is called by hand (in tests).
        """
        super().__init__()
        self.session = Session(tuple(paths), tuple(scan), lab)
        self.ascii_only = ascii_only
        self.frames = frames
        for theme in THEMES:
            self.register_theme(theme)
        # Set before the style sheet is read for the first time: a theme that comes later has all of it read again.
        self.set_reactive(App.theme, BACKCHAIN_DARK.name)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_default_screen(self) -> Screen[bool]:
        """The forest is the screen at the bottom."""
        return BrowseScreen(self.session)

    def on_mount(self) -> None:
        """Take the theme that suits the terminal."""
        self.theme = starting_theme(self)
        self.set_class(self.ascii_only, "-ascii")
        if threading.current_thread() is threading.main_thread():  # no other may say what a signal does
            for number in _STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self._stop)
        if not self.is_headless and _has_terminal():
            self._look = self.set_interval(_LOOK, self._look_for_terminal)

    def _look_for_terminal(self) -> None:
        """Leave when the terminal is gone: SIGHUP may go to another process alone, such as make or a shell above."""
        if not _has_terminal():
            self._look.stop()
            self._stop()

    def on_resize(self, event: events.Resize) -> None:
        """Take the frames off what stands in dialogs where they would push the answers out of the window."""
        self.set_class(event.size.height < _TINY, "-tiny")

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = True,
    ) -> None:  # fmt: skip
        """Show a note for a short while, or a failure for a longer one, unless a time is given."""
        shown = timeout or (_FAILURE_SECONDS if severity == "error" else _NOTE_SECONDS)
        super().notify(message, title=title, severity=severity, timeout=shown, markup=markup)

    def clear_notes(self) -> None:
        """Take all notes off the screen but those that tell a failure."""
        for note in [n for n in self._notifications if n.severity != "error"]:
            self._unnotify(note, refresh=False)
        self._refresh_notifications()

    def switch_theme(self) -> None:
        """Switch between dark and light."""
        pair = _ANSI_PAIR if self.native_ansi_color else (BACKCHAIN_DARK.name, BACKCHAIN_LIGHT.name)
        self.theme = pair[1] if self.current_theme.dark else pair[0]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer in the command palette what is valid now, and nothing else."""
        if isinstance(screen, PictureScreen):
            actions = {(a.text, a.help): a for a in valid_actions(screen.where())}  # two keys may do the same
            for action in actions.values():
                yield SystemCommand(action.text, action.help, lambda name=action.name: screen.run_action_soon(name))
        yield SystemCommand("Themes", "Choose among all themes", self.search_themes)

    async def action_quit(self) -> None:
        """Leave; while a job runs ask first."""
        from backchain_tui.screens.question import Answer, Question

        if not any(s.cancellable for s in self._working()):
            self._leave()
        elif not isinstance(self.screen, Question):
            rows = [
                Row("", "A job is under way.", Tone.STRONG),
                Row(
                    "",
                    "Leaving cancels it. The machine then reads the same as before; of a commit the base, and the "
                    "layers between, may hold a part of the data, which is remembered.",
                ),
            ]
            answers = [Answer("leave", "Leave", "error"), Answer("stay", "Stay")]
            self.push_screen(Question("Leave?", rows, answers), lambda a: self._leave() if a == "leave" else None)

    def _working(self) -> list[PictureScreen]:
        """Give the screens on which a job is under way, or is tidied up after."""
        return [s for s in self.screen_stack if isinstance(s, PictureScreen) and s.running]

    def _leave(self, status: int = 0) -> None:
        """Cancel what runs, wait until it has stopped, and leave with an exit status."""
        for screen in self._working():
            screen.leave_job()
        self.exit(return_code=status)

    def _stop(self) -> None:
        """Leave because a signal says so, as the command line does: cancelled, and the terminal as it was."""
        self._leave(JobCancelledError.exit_code)


def _has_terminal() -> bool:
    """Say whether the keys still come from a terminal; one that was closed is none any more."""
    try:
        return sys.__stdin__ is not None and os.isatty(sys.__stdin__.fileno())
    except (OSError, ValueError):
        return False
