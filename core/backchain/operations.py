"""What a user can ask for: frozen values that name images of a graph and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backchain.image import ImageId


@dataclass(frozen=True, slots=True)
class Commit:
    """Merge `top` and every layer above `base` down into `base` (QEMU: commit, block-commit).

    Attributes:
        base: The image that receives the data.
        top: The uppermost image that is merged.
        keep_top: With an active layer: leave it as it is instead of emptying it (``qemu-img commit -d``).
    """

    base: ImageId
    top: ImageId
    keep_top: bool = False

    name = "commit"


@dataclass(frozen=True, slots=True)
class Pull:
    """Copy what lies between `base` and `image` up into `image` (QEMU: stream; libvirt: blockpull).

    Attributes:
        image: The image that receives the data.
        base: The new backing file; None copies everything, and the image then stands alone.
    """

    image: ImageId
    base: ImageId | None

    name = "pull"


Operation = Commit | Pull
