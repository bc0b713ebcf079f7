"""The least that Textual can show: what the first paint is measured against. ``python -m tests.bench.bare``."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Static

WORDS = "a bare application"


class BareApp(App[None]):
    """One line of text."""

    def compose(self) -> ComposeResult:
        """One widget."""
        yield Static(WORDS)


if __name__ == "__main__":
    BareApp().run()
