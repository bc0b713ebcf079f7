"""Work that may take long, in threads that nobody waits for: neither a screen that is left nor the program's end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from backchain.errors import BackchainError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.message_pump import MessagePump

_T = TypeVar("_T")


def in_background(
    pump: MessagePump, work: Callable[[], _T], done: Callable[[_T], object], failed: Callable[[BackchainError], object]
) -> None:  # fmt: skip
    """Do something in a thread of its own and bring what came of it to a screen; nothing happens once that is gone.

    Args:
        pump: The screen (or widget) in whose turn `done` and `failed` are called.
        work: What is to be done; it may only read, as it may be cut off when the program ends.
        done: Takes the result.
        failed: Takes the error; one that backchain does not raise on purpose comes as a plain BackchainError.
    """

    def run() -> None:
        try:
            result = work()
        except BackchainError as error:
            pump.call_later(failed, error)
        except Exception as error:  # noqa: BLE001 - a defect must not leave the screen waiting for ever
            pump.call_later(failed, BackchainError(f"{type(error).__name__}: {error}", "this is a defect of backchain"))
        else:
            pump.call_later(done, result)

    threading.Thread(target=run, name="backchain-background", daemon=True).start()
