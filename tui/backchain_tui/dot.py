"""A ChainGraph in Graphviz's language. Names are data: quoted so that nothing in them is read as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.image import ImageState
from backchain_tui import formatting

if TYPE_CHECKING:
    from backchain.graph import ChainGraph
    from backchain.image import ImageInfo


def to_dot(graph: ChainGraph) -> str:
    """Draw the forest: a box per image, an arrow from each overlay to its backing file."""
    keys = {image: f"n{n}" for n, image in enumerate(graph)}
    lines = ["digraph backchain {", "  rankdir=RL;", '  node [shape=box, fontname="monospace"];']
    for image, key in keys.items():
        info = graph[image]
        style = "" if info.state is ImageState.OK else ", style=dashed"
        lines.append(f"  {key} [label={_label(info)}, tooltip={_quoted(info.display_path)}{style}];")
    lines += [f"  {keys[overlay]} -> {keys[backing]};" for overlay, backing in graph.links]
    return "\n".join([*lines, "}", ""])


def _label(info: ImageInfo) -> str:
    facts = f"{formatting.size(info.virtual_size)}, {formatting.size(info.disk_size)} on disk"
    if info.state is not ImageState.OK:
        facts = str(info.state)
    return f'"{_escaped(info.name)}\\n{_escaped(facts)}"'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Escape quotes, entities, and backslashes, as those start escapes of Graphviz's own in labels."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
