"""Names that tell the images of a forest apart: two chains of two machines often have the same file names."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from backchain.filename import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backchain.image import ImageInfo


def told_apart(images: Iterable[ImageInfo]) -> list[ImageInfo]:
    """Give the images, those that would be called alike with as much more of their paths as tells them apart."""
    listed = list(images)
    alike: dict[str, list[int]] = {}
    for number, info in enumerate(listed):
        if info.remote is None:
            alike.setdefault(info.label, []).append(number)
    for numbers in alike.values():
        if len(numbers) > 1:
            for number, title in zip(numbers, _titles([listed[n] for n in numbers]), strict=True):
                listed[number] = replace(listed[number], title=title)
    return listed


def _titles(images: Sequence[ImageInfo]) -> list[str]:
    """Give each of some images a title: with its suffix, or with the last folders of its path, or with both."""
    for depth in count(0):
        folders = [i.path.parts[:-1][-depth:] if depth else () for i in images]
        for stems in _stems(images, bare=depth > 0):
            titles = [printable("/".join((*folder, stem))) for folder, stem in zip(folders, stems, strict=True)]
            if len(set(titles)) == len(titles):
                return titles
        if all(len(i.path.parts) <= depth for i in images):
            break
    return [i.display_path for i in images]


def _stems(images: Sequence[ImageInfo], *, bare: bool) -> Iterator[list[str]]:
    if bare:
        yield [i.label for i in images]
    yield [i.name for i in images]
