"""Hazards of formats: what an overlay records, what is asked for, and what the file itself seems to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.filename import printable
from backchain.hazards.facts import BLOCK, CONFIRM, LOST, WARN, Facts
from backchain.operations import Rebase
from backchain.plan import Hazard
from backchain.probing import other_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo


def formats(facts: Facts) -> Iterator[Hazard]:
    """Compare the backing format that each overlay records with what its backing file is."""
    operation, link_only = facts.operation, facts.link_only
    for image in facts.shape.involved:
        if image != link_only:
            yield from recorded_format(facts.graph, image)
    if isinstance(operation, Rebase):
        yield from _new_format(facts, operation)
    if link_only is not None and operation.base is not None and facts.graph.backing_of(link_only) == operation.base:
        info, backing = facts.graph[link_only], facts.graph[operation.base]
        recorded = info.backing.format if info.backing is not None else None
        if recorded is not None and recorded != backing.format:
            yield Hazard(
                "format-mismatch", CONFIRM, (link_only, operation.base),
                f"{info.name} reads {backing.name} as {printable(recorded)} now; with the right format it reads "
                f"differently: go on if that is the repair",
            )  # fmt: skip


def recorded_format(graph: ChainGraph, image: ImageId) -> Iterator[Hazard]:
    """Compare the backing format that one overlay records with what its backing file is."""
    info = graph[image]
    backing = graph.backing_of(image)
    if info.backing is None or backing is None or graph[backing].state in LOST:
        return
    found, recorded = graph[backing].format, info.backing.format
    if recorded is None:
        severity, what = (WARN, "qcow2") if found == "qcow2" else (BLOCK, "raw")
        yield Hazard(
            "format-absent", severity, (image,),
            f"{info.name} records no backing format; {graph[backing].name} looks like {what}, which a guest "
            f"can forge: record it with backchain rebase -u -F",
        )  # fmt: skip
    elif recorded != found:
        advice = f"which is {found}; correct it with backchain rebase -u -F"
        if (recorded, found) == ("raw", "qcow2"):  # to correct what is right would show the guest another disk
            advice = (
                "which begins like a qcow2 image; a guest may have written that into its raw disk, so let qemu-img do "
                "it; only if the record is wrong, correct it with backchain rebase -u -F"
            )
        yield Hazard(
            "format-mismatch", BLOCK, (image, backing),
            f"{info.name} records the format {printable(recorded)} for {graph[backing].name}, {advice}",
        )  # fmt: skip


def _new_format(facts: Facts, operation: Rebase) -> Iterator[Hazard]:
    """Compare the format that is asked for with what the new backing file is."""
    if operation.backing is not None and facts.graph[operation.backing].state not in LOST:
        yield from format_of_base(facts.graph, operation.image, operation.backing, operation.backing_format)


def format_of_base(graph: ChainGraph, image: ImageId, base: ImageId, asked: str | None) -> Iterator[Hazard]:
    """Compare the format that is asked for, or would be recorded, with what the base of a new link is.

    Args:
        graph: The images as they were found.
        image: The image that the operation is about.
        base: The file that the link leads to.
        asked: The format that was given, or None.
    """
    found = graph[base]
    if asked is not None and asked != found.format:
        yield Hazard(
            "format-mismatch", BLOCK, tuple(dict.fromkeys((image, base))),
            f"{found.name} is {found.format}, not {printable(asked) or 'nameless'}; give -F {found.format}",
        )  # fmt: skip
    elif asked is None and probed(graph, base):
        yield Hazard(
            "format-absent", CONFIRM, (base,),
            f"{found.name} is taken as qcow2 by its content alone, which the guest of a raw disk can forge to read any "
            f"file of this machine; if it is qcow2, say so (-F qcow2)",
        )  # fmt: skip
    elif asked is None:
        yield from _hardly_raw(graph, base)


def _hardly_raw(graph: ChainGraph, image: ImageId) -> Iterator[Hazard]:
    """Find out whether `image` would be taken as raw, though its name or its content says something else.

    What an overlay records of it goes before both.
    """
    info = graph[image]
    known = any(link.format == "raw" for o in graph.overlays_of(image) if (link := graph[o].backing) is not None)
    if info.format != "raw" or info.state in LOST or known:
        return
    other = other_format(info.path)
    if other is not None:
        why = f"looks like a {other} image, which is not supported"
    elif _is_called_qcow2(info):
        why = "is no qcow2 image, as its name says"
    else:
        return
    yield Hazard(
        "format-mismatch", CONFIRM, (image,),
        f"{info.name} {why}, and would be read as raw; give -F raw if that is meant",
    )  # fmt: skip


def _is_called_qcow2(info: ImageInfo) -> bool:
    return info.path.suffix.lower() in {".qcow2", ".qcow"}


def probed(graph: ChainGraph, image: ImageId) -> bool:
    """Whether only its content says that `image` is qcow2: neither its name nor an overlay does."""
    info = graph[image]
    known = {"qcow2"} & {link.format for o in graph.overlays_of(image) if (link := graph[o].backing) is not None}
    return info.format == "qcow2" and not known and not _is_called_qcow2(info)
