"""The states in which a death can leave files, built from the recording of a run.

A process that is killed leaves every event before some moment, the last write perhaps in part. A machine that loses
power leaves what was flushed, and of what was not an arbitrary part in an arbitrary order; a sector of 512 bytes is
written as a whole or not at all. Events of one file that overlap keep their order, as a file system sees to, so that
every state is a subset of the events, applied in their order.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .recording import Content, Flush, Names, Sync, Write, rename

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .recording import Event, Recording

_TORN = 4
"""Cuts of one write that are tried at most, besides the first and the last."""
_RANDOM = 6
"""Random subsets that are tried at each flush, of whole events and of single sectors."""
_SHARES = (0.3, 0.5, 0.8)
"""Of what is loose, the part that survives in a random subset."""


@dataclass(frozen=True)
class State:
    """What a death leaves: the digest of each file by name, and which events made it, for a message."""

    story: str
    files: Mapping[str, str]

    @property
    def key(self) -> frozenset[tuple[str, str]]:
        """What tells two states apart."""
        return frozenset(self.files.items())


class States:
    """All states of one recording.

    Attributes:
        contents: The bytes of every file of every state, by digest.
    """

    def __init__(self, recording: Recording, seed: int = 0) -> None:
        self.contents: dict[str, bytes] = {}
        self._recording = recording
        self._events = recording.events
        self._choice = random.Random(seed)
        self._digests: dict[tuple[object, ...], str] = {}

    def every(self) -> Iterator[State]:
        """Give each state once, whatever the ways that lead to it."""
        seen: set[frozenset[tuple[str, str]]] = set()
        for state in (*self.killed(), *self.power_lost()):
            if state.key not in seen:
                seen.add(state.key)
                yield state

    def some(self, count: int) -> list[State]:
        """Give up to `count` states of one power cut at a random moment, and of a kill at another."""
        moments = list(self._moments())
        moment = self._choice.randint(0, len(self._events))
        found = [self.killed_before(moment)]
        if moments:
            story, moment, loose = self._choice.choice(moments)
            found.append(self._state(f"{story}: {_text(loose)} lost", moment, ()))
            found += [self._shredded(story, moment, loose) for _ in range(count - 2)]
        return list({state.key: state for state in found}.values())

    # --- a process is killed --------------------------------------------------------------------------------------

    def killed_before(self, number: int) -> State:
        """Give the state before an event."""
        return self._state(f"killed before event {number}", number, range(number))

    def killed(self) -> Iterator[State]:
        """Give the state before each event and after the last; and those amid a write that is longer than a sector."""
        for number in range(len(self._events) + 1):
            done = range(number)
            yield self.killed_before(number)
            event = self._events[number] if number < len(self._events) else None
            if isinstance(event, Write):
                for parts in self._cuts(event, done, number, heads_only=True):
                    yield self._state(f"killed amid event {number}", number, done, {number: parts})

    # --- power is lost --------------------------------------------------------------------------------------------

    def all_lost(self) -> Iterator[State]:
        """Give what is left for sure before each flush: nothing of what is not flushed yet."""
        for story, moment, loose in self._moments():
            yield self._state(f"{story}: {_text(loose)} lost", moment, ())

    def power_lost(self) -> Iterator[State]:
        """Give what may be left before each flush: all, one or any part of what is not flushed yet is lost."""
        yield from self.all_lost()
        for story, moment, loose in self._moments():
            for one in loose:
                yield self._state(f"{story}: {one} lost", moment, [n for n in loose if n != one])
                yield self._state(f"{story}: all but {one} lost", moment, [one])
            for _ in range(_RANDOM):
                share = self._choice.choice(_SHARES)
                kept = [n for n in loose if self._choice.random() < share]
                yield self._state(f"{story}: {_text(kept)} kept", moment, kept)
                yield self._shredded(story, moment, loose)
            yield from self._torn(story, moment, loose)

    def _moments(self) -> Iterator[tuple[str, int, list[int]]]:
        """Give each flush, and the end, before which something is loose: a story, its number, and what is loose."""
        for moment in range(len(self._events) + 1):
            if moment == len(self._events) or isinstance(self._events[moment], Flush | Sync):
                loose = self._loose(moment)
                if loose:
                    yield f"power lost before event {moment}", moment, loose

    def _torn(self, story: str, moment: int, loose: Sequence[int]) -> Iterator[State]:
        """One write is torn; the others are all there, or all lost."""
        for number in loose:
            event = self._events[number]
            if isinstance(event, Write):
                others = [n for n in loose if n != number]
                for kept in (others, []):
                    for parts in self._cuts(event, kept, moment):
                        yield self._state(f"{story}: {number} torn, {_text(kept)} kept", moment, kept, {number: parts})

    def _shredded(self, story: str, moment: int, loose: Sequence[int]) -> State:
        """Every sector of every write survives or not by chance."""
        share = self._choice.choice(_SHARES)
        kept, torn = [], {}
        for number in loose:
            event = self._events[number]
            if isinstance(event, Write):
                torn[number] = [s for s in event.sectors(b"") if self._choice.random() < share]
            elif self._choice.random() < share:
                kept.append(number)
        return self._state(f"{story}: sectors of {_text(loose)} lost by chance", moment, kept, torn)

    def _cuts(
        self, event: Write, kept: Iterable[int], moment: int, *, heads_only: bool = False
    ) -> Iterator[list[Write]]:
        """Cut a write at the sectors that it changes: its head, and single sectors of it."""
        sectors = event.sectors(self._content(event.file, moment, frozenset(kept)))
        inner = range(1, len(sectors))
        places = set(inner) if len(inner) <= _TORN else {1, len(sectors) - 1, *self._choice.sample(inner, _TORN - 2)}
        for place in sorted(places):
            yield sectors[:place]
            if not heads_only:
                yield sectors[place:]
                yield sectors[place : place + 1]

    # --- building -------------------------------------------------------------------------------------------------

    def _loose(self, moment: int) -> list[int]:
        """Give the numbers of the events before a moment that were not flushed until then."""
        synced = max((n for n, e in enumerate(self._events[:moment]) if isinstance(e, Sync)), default=-1)
        return [
            number
            for number, event in enumerate(self._events[:moment])
            if (isinstance(event, Names) and number > synced)
            or (isinstance(event, Content) and number > self._flushed(event.file, moment))
        ]

    def _flushed(self, file: int, moment: int) -> int:
        """Give the number of a file's last flush before a moment."""
        flushes = (n for n in range(moment - 1, -1, -1) if self._events[n] == Flush(file))
        return next(flushes, -1)

    def _state(
        self, story: str, moment: int, kept: Iterable[int], torn: Mapping[int, Sequence[Write]] | None = None
    ) -> State:
        """Build the state in which, of the events that were not flushed before `moment`, those in `kept` survive.

        Args:
            story: What happened, for a message.
            moment: Number of the event before which it happens.
            kept: Numbers of events that survive; what was flushed does in any case.
            torn: What survives of other writes, by the event's number.
        """
        torn, kept = torn or {}, frozenset(kept)
        loose = frozenset(self._loose(moment))
        names = dict(self._recording.names)
        for number, event in enumerate(self._events[:moment]):
            if isinstance(event, Names) and (number not in loose or number in kept):
                rename(names, event)
        files = {}
        for name, file in names.items():
            mine = {n: parts for n, parts in torn.items() if self._file(n) == file}
            files[name] = self._digest(file, moment, frozenset(n for n in kept if self._file(n) == file), mine)
        return State(story, files)

    def _file(self, number: int) -> int | None:
        event: Event = self._events[number]
        return event.file if isinstance(event, Content) else None

    def _digest(self, file: int, moment: int, kept: frozenset[int], torn: Mapping[int, Sequence[Write]]) -> str:
        flushed = self._flushed(file, moment)
        loose = tuple(sorted(n for n in kept if flushed < n < moment))
        parts = tuple((n, tuple((p.offset, len(p.data)) for p in torn[n])) for n in sorted(torn))
        key = (file, flushed, loose, parts)
        if key not in self._digests:
            content = self._content(file, moment, kept, torn)
            digest = hashlib.sha256(content).hexdigest()
            self.contents.setdefault(digest, content)
            self._digests[key] = digest
        return self._digests[key]

    def _content(
        self, file: int, moment: int, kept: frozenset[int], torn: Mapping[int, Sequence[Write]] | None = None
    ) -> bytes:
        torn, flushed = torn or {}, self._flushed(file, moment)
        content = bytearray(self._recording.contents.get(file, b""))
        for number, event in enumerate(self._events):
            if number > moment or not isinstance(event, Content) or event.file != file:
                continue
            if number in torn:
                for part in torn[number]:
                    part.apply(content)
            elif number < flushed or (number in kept and number < moment):
                event.apply(content)
        return bytes(content)


def _text(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "nothing"
