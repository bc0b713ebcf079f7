"""What the screen says: images, plans and ended jobs in plain words. No Textual here.

A style is one word out of `Tone`; the widgets know its colour.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from backchain.filename import printable
from backchain.image import ImageState
from backchain.operations import Commit
from backchain.plan import Severity
from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain.jobs import JobProgress
    from backchain.plan import Hazard, Plan


class Tone(StrEnum):
    """How a line is meant; the values are names of component classes."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    CODE = "code"


class Row(NamedTuple):
    """A line of a panel: a label (may be empty), its text, and how it is meant."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN


_STATE_TEXT = {
    ImageState.OK: "can be read",
    ImageState.MISSING: "missing",
    ImageState.UNREADABLE: "cannot be read",
    ImageState.DIRTY: "not closed cleanly",
    ImageState.CORRUPT: "marked corrupt",
    ImageState.LOOP: "part of a loop",
    ImageState.INVALID: "invalid: a commit changed what lies below it",
    ImageState.UNNEEDED: "no longer needed",
}

_SEVERITY_TONE = {Severity.BLOCK: Tone.BAD, Severity.CONFIRM: Tone.WARN, Severity.WARN: Tone.WARN}


def labels(graph: ChainGraph, images: Iterable[ImageId]) -> str:
    """Join the names of images for a sentence, those nearest to the base first."""
    return fmt.names([graph[i].label for i in sorted(images, key=lambda i: len(graph.chain(i)))])


def role(graph: ChainGraph, image: ImageId) -> str:
    """Name the place of an image in its chain."""
    overlays = len(graph.overlays_of(image))
    if graph.is_base(image):
        return "base" if overlays else "stands alone"
    return "active layer" if not overlays else "intermediate layer"


def image_rows(graph: ChainGraph, image: ImageId, *, exact: bool = False) -> list[Row]:
    """Tell all that is known of one image.

    Args:
        graph: The forest.
        image: The image under the cursor.
        exact: Give sizes to the byte as well.
    """
    info = graph[image]
    size = fmt.exact if exact else fmt.size
    rows = [
        Row("", f"{info.name} · {role(graph, image)}", Tone.STRONG),
        *_problem_rows(info),
        Row("path", info.display_path),
        Row("format", _format_text(info)),
        Row("virtual", size(info.virtual_size)),
        Row("on disk", _disk_text(info, exact=exact)),
    ]
    if info.cluster_size:
        rows.append(Row("cluster", size(info.cluster_size)))
    features = info.features[1:]  # the first is the version
    if features:
        rows.append(Row("features", ", ".join(features)))
    if info.header is not None and info.header.nb_snapshots:
        rows.append(Row("snapshots", fmt.counted(info.header.nb_snapshots, "internal snapshot"), Tone.WARN))
    rows += _backing_rows(graph, info)
    overlays = graph.overlays_of(image)
    rows.append(Row("overlays", labels(graph, overlays) if overlays else "none"))
    rows.append(breaks_row(graph, image))
    return rows


def breaks_row(graph: ChainGraph, image: ImageId) -> Row:
    """Say which images would break if this one changed."""
    victims = sorted(graph.dependents(image), key=lambda i: str(graph[i].path))
    if not victims:
        return Row("if changed", "nothing else breaks", Tone.GOOD)
    return Row("if changed", f"{labels(graph, victims)} would break", Tone.WARN)


def _problem_rows(info: ImageInfo) -> list[Row]:
    if info.state is ImageState.OK:
        return []
    bad = info.state not in {ImageState.UNNEEDED, ImageState.INVALID}
    text = _STATE_TEXT[info.state] + (f": {info.problem}" if info.problem else "")
    return [Row("state", text, Tone.BAD if bad else Tone.WARN)]


def _format_text(info: ImageInfo) -> str:
    return info.format if info.header is None else f"{info.format} v{info.header.version}"


def _disk_text(info: ImageInfo, *, exact: bool) -> str:
    size = fmt.exact if exact else fmt.size
    if info.disk_size is None or not info.virtual_size:
        return size(info.disk_size)
    return f"{size(info.disk_size)} · {fmt.percent(min(1.0, info.disk_size / info.virtual_size))} of virtual"


def _backing_rows(graph: ChainGraph, info: ImageInfo) -> list[Row]:
    if info.backing is None:
        return [Row("backing", "none: this is a base")]
    known = info.backing.format
    rows = [Row("backing", f"{printable(info.backing.name)} ({printable(known) if known else 'no format recorded'})")]
    backing = graph.backing_of(info.id)
    if backing is not None and not graph[backing].readable:
        below = graph[backing]
        rows.append(Row("", f"{below.label} {_STATE_TEXT[below.state]}: {below.problem}".rstrip(": "), Tone.BAD))
    return rows


# --- plans ------------------------------------------------------------------------------------------------------------


def title(plan: Plan) -> str:
    """Name the operation and its images, for the picture's border."""
    graph = plan.before
    sources = _span([graph[i].label for i in reversed(plan.sources)])
    verb = "block-commit" if isinstance(plan.operation, Commit) else "block-stream (pull)"
    return f"{verb}  {sources} → {graph[plan.target].label}"


def _span(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    return f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names)


def plan_sentences(plan: Plan) -> list[str]:
    """Say in plain words what a run of this plan would do."""
    graph = plan.before
    target = graph[plan.target].label
    what = f"{fmt.counted(plan.clusters, 'cluster')} ({fmt.size(plan.bytes)})"
    sources = labels(graph, plan.sources)
    direction = "down" if isinstance(plan.operation, Commit) else "up"
    first = f"Copies {what} of {sources} {direction} into {target}." if plan.clusters else (
        f"Copies nothing: no data that {target} lacks in {sources}."
    )  # fmt: skip
    sentences = [first]
    for relink in plan.relinked:
        name = graph[relink.image].label
        sentences.append(
            f"{name} stands alone then."
            if relink.new is None
            else f"{name} is backed by {graph[relink.new].label} then."
        )
    if plan.emptied is not None:
        sentences.append(f"{graph[plan.emptied].label} is the active layer: it stays, emptied.")
    if plan.invalidated:
        many = len(plan.invalidated) > 1
        sentences.append(
            f"{labels(graph, plan.invalidated)} {'are' if many else 'is'} invalid afterwards: "
            f"{'they rely' if many else 'it relies'} on {target} as it was."
        )
    elif plan.removable and not isinstance(plan.operation, Commit):
        sentences.append(
            f"{labels(graph, plan.removable)} still read{_s(plan.removable)} as before, but nothing needs them."
        )
    elif not isinstance(plan.operation, Commit):
        sentences.append("Every image still reads as before.")
    if isinstance(plan.operation, Commit):
        sentences.append(f"{target} then reads as {graph[plan.operation.top].label} does.")
    return sentences


def _s(images: Sequence[ImageId]) -> str:
    return "s" if len(images) == 1 else ""


def plan_rows(plan: Plan, free_bytes: int | None) -> list[Row]:
    """Give the numbers of a plan.

    Args:
        plan: The plan.
        free_bytes: Free space of the file system that holds the target, or None where it is unknown.
    """
    graph = plan.before
    rows = [
        Row("copies", f"{fmt.counted(plan.clusters, 'cluster')} · {fmt.size(plan.bytes)}", Tone.STRONG),
        Row("grows", f"{graph[plan.target].label} by at most {fmt.size(plan.growth_bytes)}"),
    ]
    if free_bytes is not None:
        tight = plan.growth_bytes > free_bytes
        rows.append(Row("free", fmt.size(free_bytes), Tone.BAD if tight else Tone.PLAIN))
    if plan.emptied is not None:
        rows.append(Row("empties", graph[plan.emptied].label, Tone.WARN))
    if plan.invalidated:
        rows.append(Row("invalid", labels(graph, plan.invalidated), Tone.BAD))
    return rows


def hazard_heading(plan: Plan) -> Row:
    """Sum up the hazards in one line that says whether the plan can be run."""
    blocking = sum(h.severity is Severity.BLOCK for h in plan.hazards)
    confirm = sum(h.severity is Severity.CONFIRM for h in plan.hazards)
    if blocking:
        return Row(
            "", f"Cannot run: {fmt.counted(blocking, 'hazard')} block{'s' if blocking == 1 else ''} it.", Tone.BAD
        )
    if confirm:
        return Row("", f"Asks before it runs: {fmt.counted(confirm, 'hazard')} to confirm.", Tone.WARN)
    if plan.hazards:
        return Row("", f"{fmt.counted(len(plan.hazards), 'warning')}; Enter runs it.", Tone.WARN)
    return Row("", "No hazards found; Enter runs it.", Tone.GOOD)


def hazard_row(hazard: Hazard, *, ascii_only: bool) -> Row:
    """Give a hazard as a line: glyph and code, then the message."""
    glyphs = {Severity.BLOCK: "X", Severity.CONFIRM: "?", Severity.WARN: "!"}
    if not ascii_only:
        glyphs = {Severity.BLOCK: "✖", Severity.CONFIRM: "◆", Severity.WARN: "▲"}
    return Row(f"{glyphs[hazard.severity]} {hazard.code}", hazard.message, _SEVERITY_TONE[hazard.severity])


def in_order(hazards: Iterable[Hazard]) -> list[Hazard]:
    """Sort hazards, what stops the run first."""
    order = [Severity.BLOCK, Severity.CONFIRM, Severity.WARN]
    return sorted(hazards, key=lambda h: order.index(h.severity))


def closing(plan: Plan, progress: JobProgress) -> str:
    """Say what a finished job did, in one line."""
    done = (
        f"{fmt.counted(progress.clusters, 'cluster')}, {fmt.size(progress.bytes)} in {fmt.duration(progress.seconds)}"
    )
    graph = plan.before
    if plan.invalidated:
        many = len(plan.invalidated) > 1
        state, them = ("are invalid now", "them") if many else ("is invalid now", "it")
        rest = f"{labels(graph, plan.invalidated)} {state}; nothing needs {them}."
    elif plan.removable:
        rest = f"Nothing needs {labels(graph, plan.removable)} any more."
    else:
        rest = "Every image reads as before."
    return f"Done: {done}. {rest}"


def printable_lines(text: str) -> str:
    """Escape control characters, but keep the ends of lines."""
    return "\n".join(printable(line) for line in text.splitlines())
