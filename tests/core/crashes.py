"""Deaths of a process at a chosen point of a run, tried for real in a child process (see `states` for the others)."""

from __future__ import annotations

import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = ("write", "pwrite", "copy_file_range", "ftruncate", "unlink", "link", "rename", "fsync", "fdatasync")
"""Functions of `os` before each of which a process may die."""


def dies_at(call: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child process that is killed before its change or flush number `call` (from 0 on).

    Returns:
        Whether the child was killed; False when it came to its end before.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            _kill_at(call)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - the child's own words, as nobody else hears of it
            traceback.print_exc()
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    if os.WIFSIGNALED(wait_status):
        assert os.WTERMSIG(wait_status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(wait_status) == 0, "the run failed by itself"
    return False


def _kill_at(call: int) -> None:
    left = call

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return replacement

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
