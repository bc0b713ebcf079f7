"""The forest as plain text: a table whose first column is the tree.

An image stands above what is backed by it. A single overlay follows at the same depth behind an arrow, so that a chain
of hundreds stays readable; only branches are indented.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from backchain.image import ImageState
from backchain.sorting import natural
from backchain_tui import formatting
from backchain_tui.recovery_words import mix_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo

_HEADINGS = ("IMAGE", "ROLE", "FORMAT", "VIRTUAL", "ON DISK", "CLUSTER")
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of the tree.

    Attributes:
        arrow: Before the only overlay of the image above.
        branch: Before an overlay that has more siblings below.
        last: Before the last of several overlays.
        trunk: Before everything that belongs to a branch with siblings below.
        blank: Before everything that belongs to the last branch.
    """

    arrow: str
    branch: str
    last: str
    trunk: str
    blank: str = "   "

    def characters(self) -> str:
        """Give every character used, to try whether an encoding has them."""
        return self.arrow + self.branch + self.last + self.trunk


UNICODE = Glyphs("↑ ", "├─ ", "└─ ", "│  ")
ASCII = Glyphs("^ ", "|- ", "`- ", "|  ")


def forest_text(graph: ChainGraph, glyphs: Glyphs = UNICODE) -> str:
    """Give the whole forest as text, one line per image, ending in a newline; trees are grouped by folder."""
    if not len(graph):
        return "no disk images found\n"
    roots = sorted(_roots(graph), key=lambda i: (_folder(graph, i), natural(graph[i].name)))
    blocks = []
    for folder, members in groupby(roots, key=lambda i: _folder(graph, i)):
        rows: list[tuple[str, ...]] = [_HEADINGS]
        for root in members:
            rows += [_row(graph, i, prefix, folder) for i, prefix in _walk(graph, root, glyphs)]
        blocks.append("\n".join([folder, *_aligned(rows)]))
    return "\n\n".join(blocks) + "\n"


def _roots(graph: ChainGraph) -> Iterator[ImageId]:
    """Give one image per tree to start from: its base, or the first by path of its loop."""
    for tree in graph.trees():
        base = next((i for i in tree if graph.is_base(i)), None)
        in_loop = (i for i in tree if graph[i].state is ImageState.LOOP)
        yield base or min(in_loop, key=lambda i: natural(str(graph[i].path)))


def _walk(graph: ChainGraph, root: ImageId, glyphs: Glyphs) -> Iterator[tuple[ImageId, str]]:
    """Give each image of a tree with what is drawn before its name; without recursion, as chains can be long."""
    seen = {root}
    waiting = [(root, "", "")]
    while waiting:
        image, drawn, indent = waiting.pop()
        yield image, drawn
        overlays = [o for o in graph.overlays_of(image) if o not in seen]
        seen.update(overlays)
        if len(overlays) == 1:
            waiting.append((overlays[0], indent + glyphs.arrow, indent))
            continue
        for overlay in reversed(overlays):
            last = overlay == overlays[-1]
            mark, deeper = (glyphs.last, glyphs.blank) if last else (glyphs.branch, glyphs.trunk)
            waiting.append((overlay, indent + mark, indent + deeper))


def _folder(graph: ChainGraph, root: ImageId) -> str:
    """Give the folder in whose block a tree is shown: that of its base, if that is a file here."""
    images = [graph[i] for i in (root, *graph.overlays_of(root))]
    return next((i for i in images if i.remote is None), images[0]).display_path.rpartition("/")[0] or "/"


def _row(graph: ChainGraph, image: ImageId, prefix: str, folder: str) -> tuple[str, ...]:
    info = graph[image]
    path = info.display_path
    name = info.name if path.rpartition("/")[0] == folder.rstrip("/") else path
    sizes = (formatting.size(info.virtual_size), formatting.size(info.disk_size))
    cluster = formatting.size(info.cluster_size) if info.cluster_size else "-"
    if not info.readable:
        sizes, cluster = ("-", "-"), "-"
    note = info.problem or mix_text(graph, image)
    return prefix + name, _role(graph, info), info.format, *sizes, cluster, note


def _role(graph: ChainGraph, info: ImageInfo) -> str:
    if info.state is not ImageState.OK:
        return str(info.state)
    if graph.is_base(info.id):  # one that stands alone is both; the diagram calls it a base, too
        return "base"
    return "active" if graph.is_active(info.id) else ""


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(_columns(r[n]) for r in rows) for n in range(len(_HEADINGS))]
    for row in rows:
        cells = [
            " " * (w - _columns(cell)) + cell if n in {3, 4, 5} else cell + " " * (w - _columns(cell))
            for n, (cell, w) in enumerate(zip(row, widths, strict=False))
        ]
        yield _GAP.join([*cells, *row[len(_HEADINGS) :]]).rstrip()


def _columns(text: str) -> int:
    """Give the columns that `text` takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    """Give 0 for what joins the character before it: marks, and the later letters of a Hangul syllable."""
    if unicodedata.category(character) in {"Mn", "Me"} or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
