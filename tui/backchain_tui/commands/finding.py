"""Finds the images that a command line names in the forest that was read, as qemu-img finds them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from backchain.errors import BlockedError, MissingImageError, UsageError
from backchain.filename import has_protocol, printable

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageId


def find_image(graph: ChainGraph, path: Path) -> ImageId:
    """Give the image that `path` names.

    Raises:
        UsageError: The graph has none.
        ImageError: It is damaged or not supported, so that what backs it is not known.
    """
    from backchain.image import require_readable

    image = _identity(path)
    if image is None or image not in graph:
        folder = path.is_dir()
        raise UsageError(f"{printable(str(path))} is no image" + " but a folder; name a file in it" * folder)
    require_readable(graph[image])
    return image


def named_files(name: str | None, image: Path) -> tuple[Path, ...]:
    """Give the files that the user may have named as base: beside `image`, or from here. Naming one is trusting it."""
    if not name or has_protocol(name):
        return ()
    places = (image.parent / name, Path(name))
    return tuple(p for p in places if os.path.isfile(p))  # noqa: PTH113 - never raises


def require_backing(graph: ChainGraph, image: ImageId, purpose: str) -> ImageId:
    """Give the backing file of `image`.

    Raises:
        UsageError: It has none, to do what `purpose` says with.
        BlockedError: It is backed by itself.
    """
    backing = graph.backing_of(image)
    name = graph[image].display_path
    if backing is None:
        raise UsageError(f"{name} has no backing file to {purpose}")
    if backing == image:
        raise BlockedError(f"loop: {name} is backed by itself; mend the link")
    return backing


def find_base(graph: ChainGraph, top: ImageId, name: str) -> ImageId:
    """Give the image below `top` that `name` means.

    It is taken as qemu-img takes it, relative to the folder of each overlay in turn (``bdrv_find_backing_image``), and
    beyond that as any path is, relative to the working directory.

    Raises:
        UsageError: The name is empty, no image below `top` is called so, or both ways lead to one and not to the same.
        MissingImageError: Not all below `top` can be seen, as the chain leads to an image that cannot be read.
    """
    if not name:
        raise UsageError("-b names no image", "leave -b out for the default, or name an image of the chain")
    chain = graph.chain(top)
    recorded = next((b for o, b in pairwise(chain) if _is_called(graph, o, b, name)), None)
    given = _identity(Path(name))
    if given not in chain[1:]:
        given = None
    if recorded is not None and given is not None and recorded != given:
        raise UsageError(
            f"{printable(name)} may mean {graph[recorded].display_path} or {graph[given].display_path}",
            "give the whole path",
        )
    found = recorded or given
    if found is None:
        below = ", ".join(graph[i].name for i in chain[1:]) or "nothing"
        if (lowest := graph[chain[-1]]).problem:  # what backs that nobody knows
            cause = f"{lowest.display_path} cannot be read ({printable(lowest.problem)})"
            raise MissingImageError(
                f"{printable(name)} was not found below {graph[top].name}: {cause}", "mend that first"
            )
        raise UsageError(f"{printable(name)} is not below {graph[top].name} in its chain", f"below it: {below}")
    return found


def _is_called(graph: ChainGraph, overlay: ImageId, backing: ImageId, name: str) -> bool:
    """Whether `name` is what `overlay` calls its backing file, as recorded or by another path to the same file."""
    link = graph[overlay].backing
    if link is not None and link.name == name:
        return True
    return not has_protocol(name) and _identity(graph[overlay].path.parent / name) == backing


def _identity(path: Path) -> ImageId | None:
    """Give the identity of the file at `path`, or None where there is none."""
    from backchain.image import image_id

    try:
        return image_id(path.stat())
    except (OSError, ValueError):
        return None
