"""What the screen and the command line say of plans and ended jobs, in plain words. No Textual here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.image import ImageState
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.plan import Severity, gravest_first
from backchain_tui import formatting as fmt
from backchain_tui.describe import Row, Tone, labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from backchain.commands import Commands
    from backchain.jobs import JobProgress
    from backchain.operations import Operation
    from backchain.plan import Hazard, Plan

_SEVERITY_TONE = {Severity.BLOCK: Tone.BAD, Severity.CONFIRM: Tone.WARN, Severity.WARN: Tone.WARN}


def title(plan: Plan) -> str:
    """Name the operation and its images, for the picture's border."""
    operation, target = plan.operation, plan.info(plan.target).label
    if isinstance(operation, Snapshot):
        return f"snapshot  {plan.before[operation.image].label} → {target}"
    if isinstance(operation, Delete):
        return f"delete  {_span([plan.before[i].label for i in operation.images])}"
    if isinstance(operation, Rebase):
        below = plan.before[operation.backing].label if operation.backing is not None else "no backing file"
        return f"rebase{' -u' if operation.unsafe else ''}  {target} → {below}"
    sources = _span([plan.before[i].label for i in reversed(plan.sources)])
    verb = "block-commit" if isinstance(operation, Commit) else "block-stream (pull)"
    return f"{verb}  {sources} → {target}"


def _span(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    return f"{names[0]} … {names[-1]}" if len(names) > 2 else ", ".join(names)


def meaning(operation: Operation) -> str:
    """Say what an operation of that kind is, for the help."""
    if isinstance(operation, Snapshot):
        return (
            "A snapshot makes a new, empty overlay that is backed by the image. The image keeps its content as long as "
            "the machine writes to the overlay, and not to the image any more."
        )
    if isinstance(operation, Delete):
        return "The file is removed; that is refused while anything needs it."
    if isinstance(operation, Rebase) and operation.unsafe:
        return (
            "rebase -u changes the link alone and copies nothing. It is refused unless the image then reads the same; "
            "where the old backing file is lost, you are asked."
        )
    return _MEANINGS[type(operation)]


_MEANINGS: dict[type[Operation], str] = {
    Commit: "A commit merges layers down: what lies above the base, up to the top, is copied into the base. "
            "Those layers are invalid afterwards; what is above them is backed by the base.",
    Pull: "A pull copies up: what lies between the base and the image is copied into the image, which is "
          "then backed by the base. Nothing becomes invalid.",
    Rebase: "A rebase gives the image another backing file. First every cluster that the image does not hold itself "
            "and that differs between the old and the new backing file is copied into the image. Onto what lies below "
            "its backing file, it no longer needs that one. Nothing becomes invalid.",
}  # fmt: skip


_OURS_ALONE = {"in-use", "permission", "encryption"}
"""Hazards that block here and need not elsewhere: a machine's own block jobs, another user, a tool that has a key."""

NO_COMMANDS = "None while a hazard blocks this: other tools would do the harm without asking, or fail."


def counted(plan: Plan) -> bool:
    """Whether it is known what a plan copies; it is not where a hazard keeps what it would copy from being read."""
    operation = plan.operation
    unread = {"loop", "missing-backing"}
    if isinstance(operation, Rebase):
        unread = set() if operation.unsafe else {*unread, "encryption"}
    return not any(h.severity is Severity.BLOCK and h.code in unread for h in plan.hazards)


def plan_sentences(plan: Plan) -> list[str]:
    """Say in plain words what a run of this plan would do."""
    operation = plan.operation
    if isinstance(operation, Snapshot):
        return _snapshot_sentences(plan, operation)
    if isinstance(operation, Delete):
        return _removal_sentences(plan, operation)
    sentences = [*_copy_sentences(plan), *_link_sentences(plan)]
    if plan.emptied is not None:
        sentences.append(f"{plan.before[plan.emptied].label} is the active layer: it stays, emptied.")
    sentences += _commit_sentences(plan) if isinstance(operation, Commit) else _survivors(plan)
    return sentences


def _removal_sentences(plan: Plan, operation: Delete) -> list[str]:
    graph, images = plan.before, operation.images
    sentences = [f"Removes {labels(graph, images, every=True)}, {'file' if len(images) == 1 else 'files'} and all."]
    disks = [i for i in images if graph[i].state is ImageState.OK and not graph.overlays_of(i)]
    if disks:
        s = "s" if len(disks) == 1 else ""
        sentences.append(
            f"What {labels(graph, disks, every=True)} hold{s} may be a machine's disk, and is nowhere else."
        )
    return sentences


def _snapshot_sentences(plan: Plan, operation: Snapshot) -> list[str]:
    image, overlay = plan.before[operation.image].label, plan.info(plan.target).label
    return [
        f"Makes {overlay}, an empty overlay that is backed by {image}.",
        f"{image} keeps its content as long as nothing writes to it: the machine must use {overlay} from then on.",
    ]


def _copy_sentences(plan: Plan) -> Iterator[str]:
    graph, target = plan.before, plan.before[plan.target].label
    if not counted(plan):
        yield "What would be copied cannot be counted, as the chain cannot be read."
        return
    if isinstance(plan.operation, Rebase) and plan.operation.unsafe:
        yield "Copies nothing: the link alone changes."
        return
    sources = labels(graph, plan.sources)
    what = f"{fmt.counted(plan.clusters, 'cluster')} ({fmt.size(plan.bytes)})"
    if isinstance(plan.operation, Rebase):
        new = graph[plan.operation.backing].label if plan.operation.backing is not None else "zeros"
        if plan.clusters:
            yield f"Copies {what} into {target}: all that differs from {new} and that {target} does not hold."
        else:
            yield f"Copies nothing: {target} reads the same through {new}."
    elif plan.clusters:
        yield f"Copies {what} of {sources} {'down' if isinstance(plan.operation, Commit) else 'up'} into {target}."
    else:
        yield f"Copies nothing: no data that {target} lacks in {sources}."


def _link_sentences(plan: Plan) -> Iterator[str]:
    graph = plan.before
    for relink in plan.relinked:
        name = graph[relink.image].label
        yield (
            f"{name} stands alone then."
            if relink.new is None
            else f"{name} is backed by {graph[relink.new].label} then."
        )


def _commit_sentences(plan: Plan) -> Iterator[str]:
    graph, target = plan.before, plan.before[plan.target].label
    if plan.invalidated:
        many = len(plan.invalidated) > 1
        yield (
            f"{labels(graph, plan.invalidated)} {'are' if many else 'is'} invalid afterwards: "
            f"{'they rely' if many else 'it relies'} on {target} as it was."
        )
    yield f"{target} then reads as {graph[plan.operation.subject].label} does."


def _survivors(plan: Plan) -> Iterator[str]:
    if not counted(plan):
        return  # of a chain that cannot be read nobody knows how it reads
    if _is_doubtful(plan):
        yield f"Nothing shows that {plan.before[plan.target].label} reads as before then."
    elif plan.removable:
        s = "s" if len(plan.removable) == 1 else ""
        them = "it" if s else "them"
        yield f"{labels(plan.before, plan.removable)} still read{s} as before, but nothing needs {them}."
    else:
        yield "Every image still reads as before."


def _amount(plan: Plan) -> str:
    return f"{fmt.counted(plan.clusters, 'cluster')} · {fmt.size(plan.bytes)}" if counted(plan) else "cannot be counted"


def cancelled(plan: Plan, clusters: int) -> str:
    """Say what a run has left that was cancelled after some clusters."""
    text = f"Cancelled after {fmt.counted(clusters, 'cluster')}: the chain reads the same as before."
    if not isinstance(plan.operation, Commit) or not clusters:
        return text
    return f"{text} {plan.info(plan.target).label} holds a part: see ! in the forest."


def _is_doubtful(plan: Plan) -> bool:
    """Whether a plan that changes links alone may change what its image reads: the user is asked, or it is refused."""
    operation = plan.operation
    links_alone = isinstance(operation, Rebase) and operation.unsafe
    return links_alone and any(h.code in {"unsafe-rebase", "format-mismatch"} for h in plan.hazards)


def growth(most: int) -> str:
    """Say by how many bytes a file grows at most."""
    return f"at most {fmt.size(most)}" if most else "nothing"


def plan_rows(plan: Plan, free_bytes: int | None) -> list[Row]:
    """Give the numbers of a plan.

    Args:
        plan: The plan.
        free_bytes: Free space of the file system that holds the target, or None where it is unknown.
    """
    graph = plan.before
    if isinstance(plan.operation, Delete):
        return [Row("frees", fmt.size(sum(graph[i].disk_size or 0 for i in plan.removable)), Tone.STRONG)]
    grows = growth(plan.growth_bytes) if counted(plan) else "an unknown amount"
    rows = (
        [Row("takes", grows, Tone.STRONG)]
        if isinstance(plan.operation, Snapshot)
        else [
            Row("copies", _amount(plan), Tone.STRONG),
            Row("grows", f"{plan.info(plan.target).label} by {grows}"),
        ]
    )
    if free_bytes is not None:
        tight = plan.growth_bytes > free_bytes
        rows.append(Row("free", fmt.size(free_bytes), Tone.BAD if tight else Tone.PLAIN))
    if plan.emptied is not None:
        rows.append(Row("empties", graph[plan.emptied].label, Tone.WARN))
    if plan.invalidated:
        rows.append(Row("invalid", labels(graph, plan.invalidated, every=True), Tone.BAD))
    return rows


def searched(plan: Plan) -> list[Path]:
    """Give the folders whose images were looked at, each with all below: of overlays elsewhere nothing is known."""
    files = (i.path for i in plan.before.images.values() if i.fingerprint is not None)
    folders = sorted({*plan.before.surroundings.roots, *(p.parent for p in files)})
    return [f for f in folders if not any(f != other and f.is_relative_to(other) for other in folders)]


def commands_elsewhere(plan: Plan) -> Commands:
    """Give the commands of other tools that do the same: none where they would do the harm that this plan refuses."""
    blocking = {h.code for h in plan.hazards if h.severity is Severity.BLOCK}
    return plan.commands if blocking <= _OURS_ALONE else ()


def commands_note(plan: Plan) -> str:
    """Say where the commands of other tools leave something else than a run here; empty where they do not."""
    operation = plan.operation
    if not isinstance(operation, Commit) or plan.before.overlays_of(operation.top) or not plan.commands:
        return ""
    base, top = plan.before[operation.base].label, plan.before[operation.top].label
    note = f"After virsh and QMP the machine runs on {base}, and {top} is not used any more."
    if plan.emptied is not None and len(plan.sources) > 1:
        note = f"qemu-img leaves {top} as it is, not emptied. {note}"
    return note


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
    folders = searched(plan)
    where = printable(folders[0].name or "/") if len(folders) == 1 else fmt.counted(len(folders), "folder")
    return Row("", f"No hazards found{f' in {where}' if folders else ''}; Enter runs it.", Tone.GOOD)


def hazard_row(hazard: Hazard, *, ascii_only: bool) -> Row:
    """Give a hazard as a line: glyph and code, then the message."""
    glyphs = {Severity.BLOCK: "X", Severity.CONFIRM: "?", Severity.WARN: "!"}
    if not ascii_only:
        glyphs = {Severity.BLOCK: "✖", Severity.CONFIRM: "◆", Severity.WARN: "▲"}
    return Row(f"{glyphs[hazard.severity]} {hazard.code}", hazard.message, _SEVERITY_TONE[hazard.severity])


def hazard_rows(plan: Plan, *, ascii_only: bool) -> list[Row]:
    """Give the hazards of a plan as lines, what stops the run first."""
    return [hazard_row(h, ascii_only=ascii_only) for h in gravest_first(plan.hazards)]


def closing(plan: Plan, progress: JobProgress) -> str:
    """Say what a finished job did, in one line."""
    graph, operation = plan.before, plan.operation
    if isinstance(operation, Snapshot):
        return f"Done: {plan.info(plan.target).label} is backed by {graph[operation.image].label}."
    if isinstance(operation, Delete):
        many = len(operation.images) > 1
        return f"Done: {labels(graph, operation.images)} {'are' if many else 'is'} removed."
    took = fmt.duration(progress.seconds)
    copied = f"{fmt.counted(progress.clusters, 'cluster')}, {fmt.size(progress.bytes)} in {took}"
    done = f"Done: {copied}." if progress.clusters else f"Done in {took}: there was nothing to copy."
    if plan.invalidated:
        many = len(plan.invalidated) > 1
        state, them = ("are invalid now", "them") if many else ("is invalid now", "it")
        needed = not set(plan.invalidated) <= set(plan.removable)
        rest = f"{labels(graph, plan.invalidated)} {state}{'' if needed else f'; nothing needs {them}'}."
    elif isinstance(operation, Commit):
        rest = f"{graph[plan.target].label} reads as {graph[operation.top].label} does."
    elif _is_doubtful(plan):
        rest = f"Nothing shows that {graph[plan.target].label} reads as before."
    elif plan.removable:
        rest = f"Nothing needs {labels(graph, plan.removable)} any more."
    else:
        rest = "Every image reads as before."
    return f"{done} {rest}"


def verified_words(extent: str) -> str:
    """Say how much was verified, in one sentence; empty where there is nothing to verify.

    Args:
        extent: As `backchain.engines.base.Result.verified` has it.
    """
    return {"sampled": "Verified: samples.", "whole": "Verified: whole."}.get(extent, "")
