"""Work that may take long, in threads that nobody waits for: neither a screen that is left nor the program's end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from backchain.errors import BackchainError, JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.message_pump import MessagePump

    from backchain.pausing import Pause

_T = TypeVar("_T")
_U = TypeVar("_U")


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


class Latest:
    """Work of which the latest alone is wanted: one piece at a time is done, and one more waits at most."""

    def __init__(self, pump: MessagePump) -> None:
        """Work for a screen (or widget), as `in_background` does; once that is gone, nothing more is begun."""
        self._pump = pump
        self._busy: _Wanted | None = None
        self._next: Callable[[], None] | None = None

    def ask(
        self, work: Callable[[Pause], _T], done: Callable[[_T], object], failed: Callable[[BackchainError], object]
    ) -> None:  # fmt: skip
        """Do something as soon as what is being done has ended, which is told to end; nobody hears of that any more.

        Args:
            work: What is to be done; it calls the pause that it is given again and again, to be ended early.
            done: Takes the result.
            failed: Takes the error.
        """

        def begin() -> None:
            wanted = self._busy = _Wanted()
            in_background(
                self._pump, lambda: work(wanted.check), lambda r: self._end(wanted, done, r),
                lambda e: self._end(wanted, failed, e),
            )  # fmt: skip

        self.forget()
        if self._busy is not None:
            self._next = begin
        else:
            begin()

    def forget(self) -> None:
        """Have what is being done end, and begin nothing of what waits."""
        self._next = None
        if self._busy is not None:
            self._busy.over = True

    def _end(self, wanted: _Wanted, tell: Callable[[_U], object], outcome: _U) -> None:
        self._busy = None
        begin, self._next = self._next, None
        if begin is not None:
            begin()
        elif not wanted.over:
            tell(outcome)


class _Wanted:
    """Whether anybody waits for a piece of work; written by the screen, read by the thread that works.

    Attributes:
        over: Nobody does any more.
    """

    def __init__(self) -> None:
        self.over = False

    def check(self) -> None:
        """End the work if it is over; a `Pause`.

        Raises:
            JobCancelledError: It is.
        """
        if self.over:
            raise JobCancelledError("it is no longer wanted")
