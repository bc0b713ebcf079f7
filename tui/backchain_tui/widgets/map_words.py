"""What the cluster map says in words: the names of its kinds, and the cell under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from backchain_tui import formatting as fmt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backchain_tui.mapview import CellText

_STATE_NAMES = {
    "UNALLOCATED": "unallocated",
    "DATA": "data",
    "ZERO": "zeros",
    "ZERO_ALLOCATED": "zeros (space reserved)",
    "COMPRESSED": "compressed",
    "UNALLOCATED_RESERVED": "unallocated (space reserved)",
    "PAST_END": "past the end of its backing file: zeros",
    "ABSENT": "in no layer: zeros",
    "HOLE": "hole: zeros",
    "DATA_HOLE": "data (preallocated, zeros)",
}


def kind_name(kind: int, names: Sequence[str], *, own: bool) -> str:
    """Name a kind of cell for the legend."""
    from backchain_tui.mapgrid import Kind

    if kind == Kind.NOTHING:
        return "unallocated" if own else "empty"
    if kind == Kind.ZERO:
        return "zeros"
    if kind == Kind.COMPRESSED:
        return "compressed"
    if own:
        return "data"
    layer = kind - Kind.LAYER
    return names[layer] if layer < len(names) else f"layer {layer}"


def cell_text(cell: CellText, names: Sequence[str], *, own: bool) -> str:
    """Describe a cell of the map in one line: cluster, guest offset, layer, state, host offset, work."""
    from backchain_tui.jobgrid import Work

    where = f"cluster {fmt.number(cell.first)}"
    if cell.last > cell.first:
        where = f"clusters {fmt.number(cell.first)} to {fmt.number(cell.last)}"
    parts = [where, f"guest {fmt.offset(cell.start)}"]
    if cell.last > cell.first:
        parts.append(", ".join(f"{kind_name(k, names, own=own)} {fmt.percent(s)}" for k, s in cell.shares[:4]))
    elif cell.place is None:
        parts.append("not read yet")
    else:
        state = cell.place.state.name
        if state not in {"ABSENT", "PAST_END"} and not own and cell.place.layer < len(names):
            parts.append(names[cell.place.layer])
        parts.append("unallocated" if own and state in {"ABSENT", "PAST_END"} else _STATE_NAMES[state])
        if cell.place.host >= 0 and state != "COMPRESSED":
            parts.append(f"host {fmt.offset(cell.place.host)}")
    if cell.work is not Work.NONE:
        parts.append(cell.work.name.lower())
    return " · ".join(parts)


def shorten(text: str, width: int, *, ascii_only: bool) -> str:
    """Cut a line to `width` columns of the terminal."""
    if ascii_only:
        text = fmt.ascii_text(text)
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + ("~" if ascii_only else "…")


def shorten_middle(text: str, width: int, *, ascii_only: bool) -> str:
    """Cut a name to `width` columns of the terminal, in its middle: names often differ at their ends."""
    if ascii_only:
        text = fmt.ascii_text(text)
    if cell_len(text) <= width:
        return text
    after = max(0, width - 1) // 2
    tail = text[len(text) - after :]
    while cell_len(tail) > after:
        tail = tail[1:]
    return set_cell_size(text, max(0, width - 1) - after).rstrip() + ("~" if ascii_only else "…") + tail
