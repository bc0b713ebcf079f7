"""What is to be done one step after the other: each step is planned on images that were read anew. No Textual here.

The methods that read block; they belong into a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.operations import Delete

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.record import Record
    from backchain.recovery import Tidied


class Agenda:
    """One operation and nothing after it; subclasses have more steps.

    Attributes:
        title: What all the steps are for; empty when there is one alone.
    """

    title = ""

    def __init__(self, read: Callable[[], ChainGraph]) -> None:
        """Take what reads the images."""
        self._read = read

    def read(self) -> ChainGraph:
        """Read the images anew.

        Raises:
            BackchainError: They cannot be read.
        """
        return self._read()

    @property
    def more(self) -> bool:
        """Whether something may follow once this step is done."""
        return False

    def following(self, done: Operation) -> tuple[ChainGraph, Operation] | None:
        """Give the next step, and the images as they are now; None when all is done.

        Args:
            done: The operation that has just ended well.

        Raises:
            BackchainError: The images cannot be read.
        """
        del done
        return None

    def settle(self, done: Operation) -> Tidied | None:
        """Tidy up if nothing follows a step, so that whoever leaves now leaves nothing behind.

        Args:
            done: The operation that has just ended well.

        Raises:
            BackchainError: As `following` and `close` do.
        """
        del done
        return None

    def close(self) -> Tidied | None:
        """Tidy up when all is done, which may write; give what that came to, None when there was nothing to tidy up.

        Raises:
            BackchainError: Another process uses one of the images, or it cannot be written.
        """
        return None


class Steps(Agenda):
    """Several operations that were thought of beforehand: the overlays of an image, one after the other."""

    def __init__(self, read: Callable[[], ChainGraph], title: str, steps: Sequence[Operation]) -> None:
        """Take the operations that follow the first one."""
        super().__init__(read)
        self._steps = list(steps)
        self.title = f"{title}, step 1 of {len(steps) + 1}" if steps else title
        self._words, self._count = title, len(steps) + 1

    @property
    def more(self) -> bool:
        """Whether steps are left."""
        return bool(self._steps)

    def following(self, done: Operation) -> tuple[ChainGraph, Operation] | None:
        """Give the next step whose images are still there."""
        del done
        graph = self.read()
        while self._steps:
            step = self._steps.pop(0)
            images = step.images if isinstance(step, Delete) else (step.subject, step.base)
            if all(i is None or i in graph for i in images):
                self.title = f"{self._words}, step {self._count - len(self._steps)} of {self._count}"
                return graph, step
        return None


class Recovery(Agenda):
    """What remains of an interrupted operation: found out anew after each step."""

    def __init__(self, record: Record, scan: Sequence[Path]) -> None:
        """Take the journal of the operation, and the folders in which overlays may lie."""
        from backchain.recovery import graph_of

        super().__init__(lambda: graph_of(record, scan))
        self._record = record
        self._done: Operation | None = None
        self._over = False
        self.title = f"finishing an interrupted {record.intent.operation}"

    @property
    def more(self) -> bool:
        """Whether it is not known that all is done."""
        return not self._over

    def first(self) -> tuple[ChainGraph, Operation] | None:
        """Give the first step, or None when nothing is left to be done.

        Raises:
            BackchainError: The images cannot be read.
        """
        from backchain.recovery import what_remains

        graph = self.read()
        rest = what_remains(self._record, graph)
        if rest is None or rest == self._done:  # a copy that is done leaves no trace by which it could be told
            return None
        return graph, rest

    def following(self, done: Operation) -> tuple[ChainGraph, Operation] | None:
        """Give what remains after a step."""
        self._done = done
        return self.first()

    def settle(self, done: Operation) -> Tidied | None:
        """Tidy up after the last step at once."""
        return self.close() if self.following(done) is None else None

    def close(self) -> Tidied:
        """Give back what the operation leaked, and forget its journal, as the steps that finished it leak nothing."""
        tidied = self._tidy_up(finished=True)
        self._over = True
        return tidied

    def undo(self) -> Tidied:
        """Leave the chain as it is and give back what the operation leaked.

        Raises:
            BackchainError: Another process uses one of the images, or it cannot be written.
        """
        return self._tidy_up(finished=False)

    def _tidy_up(self, *, finished: bool) -> Tidied:
        from backchain.recovery import tidy_up

        return tidy_up(self._record, finished=finished)
