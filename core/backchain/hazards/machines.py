"""Hazards that libvirt's domains show: machines that have a file as their disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain.domains import read_domains
from backchain.filename import printable
from backchain.hazards.facts import BLOCK, CONFIRM, WARN, Facts
from backchain.operations import Commit
from backchain.plan import Hazard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backchain.domains import Domains
    from backchain.graph import ChainGraph
    from backchain.image import ImageId


def disks(facts: Facts) -> Iterator[Hazard]:
    """A commit changes its target and ends its intermediates: a machine whose disk is one of them is a sibling."""
    if not isinstance(facts.operation, Commit):
        return
    domains, graph = read_domains(), facts.graph
    for image in dict.fromkeys((facts.target, *facts.sources[1:], *facts.shape.invalidated)):
        machines = machines_of(graph, image, domains.disks)
        if machines:
            becomes = "invalid" if image in facts.shape.invalidated else f"what {graph[facts.view[0]].name} reads"
            yield Hazard(
                "needed-file", CONFIRM, (image,),
                f"{graph[image].name} itself is a disk of {_names(machines)} and becomes {becomes}; go on if the "
                f"machine shall not read what it holds now",
            )  # fmt: skip
    if domains.unread:
        message = "machines may exist that were not seen: " + "; ".join(unread_domains(domains))
        yield Hazard("unknown-overlays", WARN, (facts.target,), message)


def removed_disks(graph: ChainGraph, images: Iterable[ImageId], domains: Domains) -> Iterator[Hazard]:
    """Find the files that a machine names, as its disk or as what backs it."""
    for image in images:
        machines = machines_of(graph, image, domains.users)
        if machines:
            yield Hazard(
                "needed-file", BLOCK, (image,),
                f"{graph[image].name} is a disk of {_names(machines)}; detach it from the machine first",
            )  # fmt: skip


def unread_domains(domains: Domains) -> list[str]:
    """Say which domains could not be read, one line each, safe to print."""
    return [f"libvirt's domains in {printable(line)}" for line in domains.unread]


def machines_of(graph: ChainGraph, image: ImageId, users: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Give the machines that use an image; what is no file has none, and its name may be one that no file can have.

    Args:
        graph: The images as they were found.
        image: The image.
        users: `Domains.users` or `Domains.disks`.
    """
    info = graph[image]
    return users.get(os.path.realpath(info.path), ()) if info.fingerprint is not None else ()


def _names(machines: Iterable[str]) -> str:
    return ", ".join(map(printable, machines))


DETECTORS: tuple[Callable[[Facts], Iterator[Hazard]], ...] = (disks,)
