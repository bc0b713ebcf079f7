"""Long reads that can be ended: what reads much calls a `Pause` again and again, and who no longer wants it raises."""

from __future__ import annotations

from collections.abc import Callable

Pause = Callable[[], None]
"""Is called between reads, in the thread that reads; what it raises ends the work."""


def go_on() -> None:
    """Let the work go on to its end."""
