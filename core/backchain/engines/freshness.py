"""Whether a chain is still as it was when its plan was made: the files, and who reads through them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backchain.discover import discover
from backchain.domains import read_domains
from backchain.errors import BackchainError, StalePlanError
from backchain.filename import printable
from backchain.hazards.machines import machines_of
from backchain.image import Fingerprint
from backchain.operations import Delete

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backchain.image import ImageId
    from backchain.plan import Plan


def require_same_file(plan: Plan, image: ImageId, descriptor: int) -> None:
    """Make sure that an open file is the one that was planned for, unchanged.

    Raises:
        StalePlanError: It is not.
    """
    if Fingerprint.of(os.fstat(descriptor)) != plan.fingerprints.get(image):
        raise StalePlanError(f"{plan.before[image].display_path} has changed since the plan was made", "plan again")


def require_same_machines(plan: Plan) -> None:
    """Make sure that no machine has been given a file since that is to be removed, changed, or left invalid.

    Raises:
        StalePlanError: One has.
    """
    domains = read_domains()
    removal = isinstance(plan.operation, Delete)
    told = {image for hazard in plan.hazards if hazard.code == "needed-file" for image in hazard.images}
    images = plan.removable if removal else (plan.target, *plan.invalidated)
    for image in images:
        machines = machines_of(plan.before, image, domains.users if removal else domains.disks)
        if machines and image not in told:
            name = plan.before[image].display_path
            raise StalePlanError(f"{name} has become a disk of {printable(', '.join(machines))}", "plan again")


def require_same_overlays(plan: Plan, images: Iterable[ImageId]) -> None:
    """Make sure that no overlay has come or gone: a snapshot that was made meanwhile would be harmed unseen.

    Nor may anything else need an image that did not when the plan was made.

    Raises:
        StalePlanError: One has.
    """
    known = [i for i in images if plan.before[i].fingerprint is not None]
    if not known:
        return
    paths = [plan.before[i].path for i in known]
    scan = [p for p in plan.before.surroundings.roots if p.is_dir()]
    try:
        now = discover(paths, scan=scan).without_invalid_links()
    except BackchainError as error:
        raise StalePlanError(f"the images are no longer where they were: {error.message}", "plan again") from error
    for image in known:
        name = plan.before[image].display_path
        if image not in now or {*now.overlays_of(image)} != {*plan.before.overlays_of(image)}:  # by any name
            raise StalePlanError(f"{name} has other overlays than when the plan was made", "plan again")
        users, before = ({user.image for user in g.users.get(image, ())} for g in (now, plan.before))
        if users - before:
            raise StalePlanError(f"{name} holds data of an image that it did not when the plan was made", "plan again")
        if image in now.surroundings.forked and image not in plan.before.surroundings.forked:
            raise StalePlanError(f"{name} has got a second name since the plan was made", "plan again")
