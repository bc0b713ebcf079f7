"""Colours and glyphs of the cluster map: by layer, by state, by what a job does.

The hues stand apart from each other on a dark and on a light ground; where there is no colour (`NO_COLOR`, 16
colours, ``--ascii``) a glyph says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.color import Color

if TYPE_CHECKING:
    from collections.abc import Mapping

_DARK_LAYERS = ("#7aa2f7", "#2ac3de", "#e0af68", "#f7768e", "#73daca", "#c0caf5", "#ff9e64", "#ad8ee6")
_LIGHT_LAYERS = ("#2e5fc4", "#007a99", "#9a6a00", "#c2334d", "#00796b", "#4b5575", "#b8500f", "#6a4bb8")
_DARK_ENDS = ("#9ece6a", "#bb9af7")
_LIGHT_ENDS = ("#3f7d14", "#7c3fd0")

_DARK_STATES = {
    "data": "#4a76d0",
    "zero": "#5f5488",
    "compressed": "#2ac3de",
    "waiting": "#d08f3c",
    "copying": "#fff6d8",
    "done": "#5fc487",
}
_LIGHT_STATES = {
    "data": "#4a76d0",
    "zero": "#a99fcb",
    "compressed": "#0097ad",
    "waiting": "#d08a2a",
    "copying": "#5b2a00",
    "done": "#2b9a57",
}


def layer_color(layer: int, layers: int, *, dark: bool) -> Color:
    """Give the colour of a layer: green for the active layer, violet for the base, as the diagram has them.

    Args:
        layer: 0 for the top of the chain, counting down.
        layers: Number of layers of the chain.
        dark: Whether the ground is dark.
    """
    active, base = _DARK_ENDS if dark else _LIGHT_ENDS
    if layer >= layers - 1:
        return Color.parse(base)
    if layer == 0:
        return Color.parse(active)
    middle = _DARK_LAYERS if dark else _LIGHT_LAYERS
    return Color.parse(middle[(layers - 2 - layer) % len(middle)])


def state_color(state: str, *, dark: bool) -> Color:
    """Give the colour of a state: data, zero, compressed, waiting, copying or done."""
    return Color.parse((_DARK_STATES if dark else _LIGHT_STATES)[state])


_ANSI_STATES = {
    "data": "blue",
    "zero": "magenta",
    "compressed": "cyan",
    "waiting": "yellow",
    "copying": "bright_white",
    "done": "green",
}
_ANSI_LAYERS = ("blue", "cyan", "yellow", "red", "bright_blue", "bright_cyan", "bright_yellow", "bright_red")


def ansi_state(state: str) -> str:
    """Give the name, among the terminal's own 16 colours, for a state."""
    return _ANSI_STATES[state]


def ansi_layer(layer: int, layers: int) -> str:
    """Give the name, among the terminal's own 16 colours, for a layer (0: the top)."""
    if layer >= layers - 1:
        return "magenta"
    return "green" if layer == 0 else _ANSI_LAYERS[(layers - 2 - layer) % len(_ANSI_LAYERS)]


@dataclass(frozen=True, slots=True)
class MapGlyphs:
    """The characters of the map where it is drawn with glyphs.

    Attributes:
        states: Glyph by state for a full cell.
        partial: Glyph by state for a cell that is filled in part.
        nothing: Glyph of what no layer holds.
    """

    states: Mapping[str, str]
    partial: Mapping[str, str]
    nothing: str


UNICODE = MapGlyphs(
    {"data": "■", "zero": "○", "compressed": "▣", "waiting": "░", "copying": "▶", "done": "▓"},
    {"data": "▪", "zero": "◦", "compressed": "▫", "waiting": "▒", "copying": "▶", "done": "▓"},
    "·",
)
ASCII = MapGlyphs(
    {"data": "#", "zero": "0", "compressed": "%", "waiting": "-", "copying": ">", "done": "@"},
    {"data": "+", "zero": "o", "compressed": "%", "waiting": "~", "copying": ">", "done": "@"},
    ".",
)


def layer_glyph(layer: int, layers: int, share: int = 4) -> str:
    """Give the letter of a layer: A for the base, B above it; a small letter where the cell is filled in part."""
    letter = chr(ord("A") + min(layers - 1 - layer, 25))
    return letter if share >= 4 else letter.lower()
