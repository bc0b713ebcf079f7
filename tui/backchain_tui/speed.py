"""The speed of a job that a person watches: levels from slow to as fast as the disk goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from backchain.plan import Plan

WATCH_SECONDS = 12.0
"""How long a job of the lab takes, so that it can be watched."""

_SLOWEST = 16 * 1024.0
_FASTEST = 2 * 1024**3
"""Above this many bytes a second a limit makes no difference to the eye."""


class Speed:
    """A rate limit in bytes per second that goes up and down by factors of two; None is unlimited."""

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit

    @classmethod
    def to_watch(cls, plan: Plan) -> Speed:
        """Give the limit with which the whole job takes about `WATCH_SECONDS`."""
        work = max(plan.bytes, plan.clusters * plan.copy_list.cluster_size)
        return cls(max(_SLOWEST, work / WATCH_SECONDS))

    def faster(self) -> None:
        """Double the limit, up to none."""
        if self.limit is not None:
            self.limit = self.limit * 2 if self.limit * 2 <= _FASTEST else None

    def slower(self, rate: float) -> None:
        """Halve the limit.

        Args:
            rate: The rate now, where an unlimited job starts from.
        """
        current = self.limit if self.limit is not None else min(rate or _FASTEST, _FASTEST)
        self.limit = max(_SLOWEST, current / 2)

    @property
    def text(self) -> str:
        """The limit in words."""
        return "full speed" if self.limit is None else f"limit {fmt.rate(self.limit)}"
