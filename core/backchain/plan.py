"""A Plan: exactly what an operation would do, as a value. Made without writing, shown, printed, run, compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from backchain.errors import BlockedError, ImageInUseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from backchain.errors import BackchainError
    from backchain.graph import ChainGraph
    from backchain.image import Fingerprint, ImageId, ImageInfo
    from backchain.operations import Operation


IN_USE: Final = "in-use"
"""Code of the hazard that passes by itself: another process holds an image open."""

UNKNOWN_OVERLAYS: Final = "unknown-overlays"
"""Code of the hazard that something was not looked at, and may hold overlays."""

HAZARD_CODES: Final = (
    "sibling-corruption", "needed-file", UNKNOWN_OVERLAYS, "unsafe-rebase", "loop", "format-mismatch", "format-absent",
    "untrusted-link", IN_USE, "no-space", "base-grows", "shorter-middle", "internal-snapshots", "bitmaps", "encryption",
    "blow-up", "dirty", "corrupt", "base-changed", "path-trap", "permission", "missing-backing",
)  # fmt: skip
"""Every code that a hazard may have; they are a part of the contract (DESIGN.md)."""


class Severity(StrEnum):
    """What a hazard does: stop the run, ask for a deliberate yes, or be shown."""

    BLOCK = "block"
    CONFIRM = "confirm"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One way in which the operation could lose data or fail.

    Attributes:
        code: One of `HAZARD_CODES`.
        images: The images concerned.
        message: One line that names the images and says what to do.
        ranges: Damaged guest ranges (start, length) in bytes, where they are known.
    """

    code: str
    severity: Severity
    images: tuple[ImageId, ...]
    message: str
    ranges: tuple[tuple[int, int], ...] = ()


def gravest_first(hazards: Iterable[Hazard]) -> tuple[Hazard, ...]:
    """Sort hazards: what stops the run comes first; else they keep their order."""
    return tuple(sorted(hazards, key=lambda h: list(Severity).index(h.severity)))


@dataclass(frozen=True, slots=True)
class SourceCopy:
    """What one image contributes.

    Attributes:
        source: The image whose data is copied.
        clusters: Clusters of the target that take their data from it (zero clusters count).
        bytes: Guest data bytes that are written (zero clusters write none).
    """

    source: ImageId
    clusters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Relink:
    """An image whose header gets another backing file.

    Attributes:
        old: Backing file before, or None.
        new: Backing file after, or None.
        name: The backing file name to be recorded; None removes the link.
        format: The backing format to be recorded.
    """

    image: ImageId
    old: ImageId | None
    new: ImageId | None
    name: str | None
    format: str | None


@dataclass(frozen=True, slots=True)
class CopyList:
    """The target clusters that will change, as runs in ascending order of guest offset.

    Attributes:
        cluster_size: Bytes of guest disk per cell: the target's cluster size (for raw: the top's).
        starts: int64, shape (runs,): first guest cluster of each run.
        counts: int64, shape (runs,): clusters in the run.
    """

    cluster_size: int
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def nothing(cls, cluster_size: int) -> CopyList:
        """Make the list of an operation that copies nothing."""
        import numpy as np  # not before it is needed: the first paint waits for this module

        empty = np.zeros(0, np.int64)
        return cls(cluster_size, empty, empty)

    @property
    def clusters(self) -> int:
        """Number of cells: all clusters of all runs."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True)
class Plan:
    """What an operation would do.

    Attributes:
        operation: What was asked for.
        engine: Name of the engine that would run it.
        target: The image that receives data.
        copies: What each source contributes; the topmost source first.
        copy_list: Which clusters change; cell n of a job's array is the n-th cluster of this list.
        growth_bytes: Upper bound of what the target grows by, in bytes, on disk and in length.
        relinked: Images whose header gets another backing file.
        invalidated: Images that no longer read as they did.
        removable: Images that nothing needs afterwards.
        emptied: The active layer that a commit empties, or None.
        hazards: What could go wrong, the gravest first.
        commands: Equivalent commands by tool: "qemu-img", "virsh", "qmp", or "sh" for a removal.
        before: The graph as it is.
        after: The graph as it will be.
        fingerprints: State of every image involved, to notice a chain that changed after the plan.
    """

    operation: Operation
    engine: str
    target: ImageId
    copies: tuple[SourceCopy, ...]
    copy_list: CopyList
    growth_bytes: int
    relinked: tuple[Relink, ...]
    invalidated: tuple[ImageId, ...]
    removable: tuple[ImageId, ...]
    emptied: ImageId | None
    hazards: tuple[Hazard, ...]
    commands: tuple[tuple[str, str], ...]
    before: ChainGraph
    after: ChainGraph
    fingerprints: Mapping[ImageId, Fingerprint]

    @property
    def clusters(self) -> int:
        """Clusters of the target that change."""
        return sum(c.clusters for c in self.copies)

    @property
    def bytes(self) -> int:
        """Guest data bytes that are written into the target."""
        return sum(c.bytes for c in self.copies)

    @property
    def sources(self) -> tuple[ImageId, ...]:
        """The images whose data is merged, topmost first, whether or not they hold any."""
        return tuple(c.source for c in self.copies)

    def info(self, image: ImageId) -> ImageInfo:
        """Give the record of an image of the plan: as it is, or as it will be when the plan makes it."""
        return self.before[image] if image in self.before else self.after[image]

    def stopping(self, forced: frozenset[str] = frozenset()) -> tuple[Hazard, ...]:
        """Give the hazards that stop the run: blocking ones, and those to confirm that `forced` does not name."""
        return tuple(
            h
            for h in self.hazards
            if h.severity is Severity.BLOCK or (h.severity is Severity.CONFIRM and h.code not in forced)
        )

    @property
    def warnings(self) -> tuple[Hazard, ...]:
        """The hazards that are shown and stop nothing."""
        return tuple(h for h in self.hazards if h.severity is Severity.WARN)

    def refusal(self, forced: frozenset[str] = frozenset()) -> BackchainError | None:
        """Give the error of a run that hazards stop, or None when nothing stops it.

        It is about an image in use only if nothing else stops the run, as only that passes by itself.
        """
        stopping = self.stopping(forced)
        if not stopping:
            return None
        first = next((h for h in stopping if h.code != IN_USE), stopping[0])
        message = f"{first.code}: {first.message}"
        if others := [h.code for h in stopping if h is not first]:
            codes = ", ".join(c if n == 1 else f"{n} times {c}" for c, n in Counter(others).items())
            message += f" (and {len(others)} more: {codes})"
        return ImageInUseError(message) if first.code == IN_USE else BlockedError(message)

    def to_json(self) -> dict[str, Any]:
        """Give the plan's JSON document as DESIGN's contract sets it out (paths in place of identities)."""

        def path(image: ImageId | None) -> str | None:
            return self.info(image).location if image is not None else None

        return {
            "operation": self.operation.name,
            "engine": self.engine,
            "target": path(self.target),
            "copies": [{"source": path(c.source), "clusters": c.clusters, "bytes": c.bytes} for c in self.copies],
            "clusters": self.clusters,
            "bytes": self.bytes,
            "growth_bytes": self.growth_bytes,
            "relinked": [{"image": path(r.image), "from": path(r.old), "to": path(r.new)} for r in self.relinked],
            "invalidated": [path(i) for i in self.invalidated],
            "removable": [path(i) for i in self.removable],
            "hazards": [
                {
                    "code": h.code,
                    "severity": str(h.severity),
                    "images": [path(i) for i in h.images],
                    "message": h.message,
                    **({"ranges": [{"start": s, "length": n} for s, n in h.ranges]} if h.ranges else {}),
                }
                for h in self.hazards
            ],
            "commands": [command for _, command in self.commands],
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }
