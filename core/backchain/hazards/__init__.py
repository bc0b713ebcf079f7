"""The ways in which an operation loses data or fails, each found before anything is written.

Codes and actions are those of the hazard table (conditions were tried with QEMU's own tools). One module per kind of
evidence: `links` (the graph and the names), `formats` (recorded, asked for, found), `images` (headers, locks,
permissions), `machines` (libvirt's domains), `content` (cluster maps and data), `files` (snapshot and delete).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.hazards import formats, images, links, machines
from backchain.hazards.content import content_hazards
from backchain.hazards.facts import Facts
from backchain.hazards.files import delete_hazards, snapshot_hazards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backchain.plan import Hazard

__all__ = ["Facts", "content_hazards", "delete_hazards", "snapshot_hazards", "structural_hazards"]


def structural_hazards(facts: Facts) -> list[Hazard]:
    """Find what the graph and the headers alone tell; the tables need not be readable."""
    return [h for detector in _DETECTORS for h in detector(facts)]


_DETECTORS: tuple[Callable[[Facts], Iterator[Hazard]], ...] = (
    links.loop, links.missing, links.invalid, links.untrusted, formats.formats, links.traps, links.forked,
    links.changed_bases, links.unknown, *images.DETECTORS, *machines.DETECTORS,
)  # fmt: skip
"""In the order in which hazards are told: the first that blocks is the one that a refusal names."""
