"""What a user can ask for: frozen values that name images of a graph and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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

    @property
    def subject(self) -> ImageId:
        """The image that the operation is about: the uppermost one that it concerns."""
        return self.top


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

    @property
    def subject(self) -> ImageId:
        """The image that the operation is about."""
        return self.image


@dataclass(frozen=True, slots=True)
class Rebase:
    """Give `image` another backing file (QEMU: rebase).

    Attributes:
        image: The overlay.
        backing: Its new backing file, or None for none.
        unsafe: Change the link alone (``qemu-img rebase -u``); else what differs is copied into the image first.
        backing_name: Name to record; None derives one from the paths.
        backing_format: Format to record; None records what the new backing file is.
    """

    image: ImageId
    backing: ImageId | None
    unsafe: bool = False
    backing_name: str | None = None
    backing_format: str | None = None

    name = "rebase"

    @property
    def subject(self) -> ImageId:
        """The image that the operation is about."""
        return self.image

    @property
    def base(self) -> ImageId | None:
        """The image below the moved data, as of the other operations."""
        return self.backing


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Put a new, empty overlay on `image`, so that `image` keeps its content from then on.

    Attributes:
        image: The image that backs the new overlay.
        overlay: File to be made; must not exist.
        backing_format: Format of `image`, where that was said; None takes what it is found to be.
    """

    image: ImageId
    overlay: Path
    backing_format: str | None = None

    name = "snapshot"

    @property
    def subject(self) -> ImageId:
        """The image that the operation is about."""
        return self.image

    @property
    def base(self) -> None:
        """No image lies below moved data, as none moves."""
        return


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove image files that nothing depends on.

    Attributes:
        images: The files to be removed.
    """

    images: tuple[ImageId, ...]

    name = "delete"

    @property
    def subject(self) -> ImageId:
        """The image that the operation is about: the first of those to be removed."""
        return self.images[0]

    @property
    def base(self) -> None:
        """No image lies below moved data, as none moves."""
        return


Transferring = Commit | Pull | Rebase
"""Operations that move guest data into a target."""

Operation = Transferring | Snapshot | Delete
