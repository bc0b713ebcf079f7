"""The ways in which an operation loses data or fails, each found before anything is written.

Codes and actions are those of the hazard table (conditions were tried with QEMU's own tools). One module per kind of
evidence: `links` (the graph and the names), `images` (headers, locks, permissions), `machines` (libvirt's domains),
`content` (cluster maps and data), `files` (snapshot and delete).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.hazards import images, links, machines
from backchain.hazards.content import content_hazards
from backchain.hazards.facts import Facts
from backchain.hazards.files import delete_hazards, snapshot_hazards

if TYPE_CHECKING:
    from backchain.plan import Hazard

__all__ = ["Facts", "content_hazards", "delete_hazards", "snapshot_hazards", "structural_hazards"]


def structural_hazards(facts: Facts) -> list[Hazard]:
    """Find what the graph and the headers alone tell; the tables need not be readable."""
    return [h for detector in (*links.DETECTORS, *images.DETECTORS, *machines.DETECTORS) for h in detector(facts)]
