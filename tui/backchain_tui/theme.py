"""Colours: two themes, and the palette that turns semantic names and ink ids into styles.

A palette is made late, from what the application shows at that moment: its theme (backchain's own or any of
Textual's), a terminal of 16 colours, or none at all (`NO_COLOR`). In 16 colours nothing is mixed, as the terminal's
owner has chosen what the names look like; without colours only bold, dim, reverse, italic and struck through remain,
and every state is said by a glyph or a word as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from backchain_tui.diagram.ink import (
    BORDER_STEPS,
    FLOW_STEPS,
    INK_COUNT,
    SPARK_STEPS,
    FlowKind,
    FlowState,
    Ink,
    Part,
    Role,
    Tone,
    box_of,
    flow_of,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from textual.app import App

BACKCHAIN_DARK = Theme(
    name="backchain-dark",
    primary="#bb9af7", secondary="#7aa2f7", accent="#ff9e64", warning="#e0af68", error="#f7768e", success="#9ece6a",
    foreground="#c8d0f0", background="#16171f", surface="#1b1d28", panel="#2a2e42", dark=True,
    variables={
        "backchain-base": "#bb9af7", "backchain-overlay": "#7aa2f7", "backchain-active": "#9ece6a",
        "backchain-done": "#5fc487", "border": "#bb9af7", "border-blurred": "#414868",
        "footer-key-foreground": "#ff9e64", "footer-background": "#2a2e42", "block-cursor-foreground": "#16171f",
    },
)  # fmt: skip
BACKCHAIN_LIGHT = Theme(
    name="backchain-light",
    primary="#7c3fd0", secondary="#2e5fc4", accent="#b8500f", warning="#946200", error="#c2334d", success="#3f7d14",
    foreground="#2c3048", background="#f3f4f9", surface="#e9ebf4", panel="#d8dcec", dark=False,
    variables={
        "backchain-base": "#7c3fd0", "backchain-overlay": "#2e5fc4", "backchain-active": "#3f7d14",
        "backchain-done": "#1f8a4c", "border": "#7c3fd0", "border-blurred": "#a3a9c4",
        "footer-key-foreground": "#b8500f", "footer-background": "#d8dcec", "block-cursor-foreground": "#f3f4f9",
    },
)  # fmt: skip
THEMES = (BACKCHAIN_DARK, BACKCHAIN_LIGHT)


_CONTRAST = 3.2
"""Least contrast of a hue with the ground."""


class Depth(Enum):
    """What the terminal can do: mixed colours, the 16 named ones, or none."""

    RGB = auto()
    ANSI = auto()
    MONO = auto()


def depth_of(app: App[Any]) -> Depth:
    """Say what colours an application may use now."""
    if app.no_color:
        return Depth.MONO
    return Depth.ANSI if app.native_ansi_color else Depth.RGB


def starting_theme(app: App[Any]) -> str:
    """Give the theme to start with: the terminal's own 16 colours where it has no more, else backchain's dark one."""
    few = app.console.color_system in {None, "standard"} and not app.is_headless
    return "ansi-dark" if few else BACKCHAIN_DARK.name


@dataclass(frozen=True, slots=True)
class Hues:
    """The hues that everything is mixed from, as colours that Textual parses (or names of the 16)."""

    ground: str
    text: str
    base: str
    overlay: str
    active: str
    invalid: str
    broken: str
    commit: str
    stream: str
    done: str

    @classmethod
    def of(cls, variables: Mapping[str, str], *, dark: bool) -> Hues:
        """Take the hues out of a theme's variables, backchain's own or another's.

        Args:
            variables: `App.theme_variables`.
            dark: Whether the ground is dark.
        """
        default = BACKCHAIN_DARK if dark else BACKCHAIN_LIGHT
        ground = variables.get("background", default.background or "#000000")
        text = _opaque(variables.get("foreground", ""), ground, default.foreground or "#ffffff")

        def hue(*names: str) -> str:
            found = next((variables[n] for n in names if n in variables), None)
            return _readable(_opaque(found or "", ground, default.primary), ground, text)

        warning, error = hue("warning"), hue("error")
        mixed = _readable(_mix(hue("primary"), error, 0.45), ground, text)
        return cls(
            ground, text,
            base=hue("backchain-base") if "backchain-base" in variables else mixed,
            overlay=hue("backchain-overlay", "primary"), active=hue("backchain-active", "success"),
            invalid=error, broken=error, commit=warning, stream=_readable(_mix(warning, error, 0.35), ground, text),
            done=hue("backchain-done", "success"),
        )  # fmt: skip


ANSI_HUES = Hues(
    "default", "default", base="magenta", overlay="blue", active="green", invalid="red", broken="bright_red",
    commit="yellow", stream="bright_yellow", done="green",
)  # fmt: skip


class Palette:
    """Styles by ink id. None is ever empty of a colour setting, so that Textual's filters can work on it."""

    def __init__(self, depth: Depth, hues: Hues) -> None:
        self.depth = depth
        self.hues = hues
        self._ground = Style(bgcolor=_rich(hues.ground))
        self._styles: list[Style | None] = [None] * INK_COUNT

    @classmethod
    def of(cls, app: App[Any], ground: str | None = None) -> Palette:
        """Make the palette for what an application shows now.

        Args:
            app: The application.
            ground: Colour of the ground that is painted on; None for the theme's background.
        """
        depth = depth_of(app)
        if app.native_ansi_color:
            return cls(depth, ANSI_HUES)
        variables = app.theme_variables if ground is None else {**app.theme_variables, "background": ground}
        return cls(depth, Hues.of(variables, dark=app.current_theme.dark))

    def style(self, ink: int) -> Style:
        """Give the style of an ink."""
        found = self._styles[ink]
        if found is None:
            found = self._styles[ink] = self._ground + self._make(ink)
        return found

    def _make(self, ink: int) -> Style:
        flow = flow_of(ink)
        box = box_of(ink)
        if self.depth is Depth.RGB:
            if flow is not None:
                return _rgb_flow(self.hues, *flow)
            return _rgb_box(self.hues, *box) if box is not None else _rgb_single(self.hues, Ink(ink))
        if flow is not None:
            return self._plain(_plain_flow(*flow), flow_hue(self.hues, flow[0], flow[1]))
        if box is not None:
            return self._plain(_plain_box(*box), _role_hue(self.hues, box[0], box[1]))
        return self._plain(*_plain_single(self.hues, Ink(ink)))

    def _plain(self, style: Style, hue: str) -> Style:
        """Give a style of attributes its hue, in 16 colours; without colours the hue is left out."""
        return Style(color=_rich(self.hues.text if self.depth is Depth.MONO else hue)) + style


def flow_hue(hues: Hues, kind: FlowKind, state: FlowState) -> str:
    """Give the hue of a flow: what has arrived takes the colour of what is done."""
    if state is FlowState.SETTLED:
        return hues.done
    return hues.commit if kind is FlowKind.COMMIT else hues.stream


# --- mixed colours ------------------------------------------------------------------------------------------------


def _mix(one: str, other: str, share: float) -> str:
    return Color.parse(one).blend(Color.parse(other), share, alpha=1.0).hex6


def _opaque(colour: str, ground: str, default: str) -> str:
    """Resolve a theme's colour, which may be see-through ("auto" and the like become the default)."""
    try:
        parsed = Color.parse(colour)
    except ValueError:
        return default
    return Color.parse(ground).blend(parsed, parsed.a, alpha=1.0).hex6 if parsed.a < 1 else parsed.hex6


def _readable(colour: str, ground: str, text: str) -> str:
    """Move a hue towards the text's colour until it stands out from the ground."""
    for share in (0.0, 0.2, 0.4, 0.6):
        mixed = _mix(colour, text, share)
        if _contrast(mixed, ground) >= _CONTRAST:
            return mixed
    return text


def _contrast(one: str, other: str) -> float:
    """Give the contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    light, dark = sorted((_luminance(Color.parse(c)) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)

    red, green, blue = (linear(v) for v in colour.normalized)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _rich(colour: str) -> str:
    return colour if not colour.startswith("#") else Color.parse(colour).hex6.lower()


def _style(
    text: str, ground: str | None = None, *, bold: bool = False, italic: bool = False, strike: bool = False
) -> Style:
    bgcolor = None if ground is None else _rich(ground)
    return Style(color=_rich(text), bgcolor=bgcolor, bold=bold, italic=italic, strike=strike)


def _role_hue(hues: Hues, role: Role, tone: Tone) -> str:
    if tone is Tone.BLAST:
        return hues.broken
    return {
        Role.BASE: hues.base, Role.OVERLAY: hues.overlay, Role.ACTIVE: hues.active, Role.INVALID: hues.invalid,
        Role.UNNEEDED: hues.overlay, Role.BROKEN: hues.broken,
    }[role]  # fmt: skip


_FILLS = {Tone.PLAIN: 0.10, Tone.LIT: 0.17, Tone.CURSOR: 0.27, Tone.BLAST: 0.20, Tone.FADED: 0.04}
_FADES = {Role.INVALID: 0.42, Role.UNNEEDED: 0.52}


def _rgb_box(hues: Hues, role: Role, tone: Tone, part: int) -> Style:
    fade = max(_FADES.get(role, 0.0), 0.55 if tone is Tone.FADED else 0.0)
    if tone in {Tone.CURSOR, Tone.BLAST}:
        fade *= 0.4
    hue = _mix(_role_hue(hues, role, tone), hues.ground, fade)
    text = _mix(hues.text, hues.ground, fade)
    fill = _mix(hues.ground, hue, _FILLS[tone])
    if part < BORDER_STEPS:
        glow = {Tone.CURSOR: 0.75, Tone.LIT: 0.65, Tone.PLAIN: 0.45}.get(tone, 0.3)
        return _style(_mix(hue, text, glow * (1 - part / (BORDER_STEPS - 1))), bold=tone is Tone.CURSOR)
    if part >= Part.SPARK:
        share = 0.45 + 0.55 * (part - Part.SPARK) / (SPARK_STEPS - 1)
        return _style(_mix(fill, hue, share), fill)
    strike = role is Role.INVALID
    lit = tone in {Tone.CURSOR, Tone.LIT, Tone.BLAST}
    pill = _mix(hues.ground, hue, {Tone.PLAIN: 0.30, Tone.LIT: 0.45, Tone.CURSOR: 1.0, Tone.FADED: 0.2}.get(tone, 0.4))
    pill_text = hues.ground if tone is Tone.CURSOR else text
    return {
        Part.FILL: lambda: _style(text, fill),
        Part.NAME: lambda: _style(text, fill, bold=lit, strike=strike),
        Part.BADGE: lambda: _style(hues.ground, hue, bold=True) if not fade else _style(hue, fill, italic=True),
        Part.BORDER_BADGE: lambda: _style(hue, bold=not fade, italic=bool(fade)),
        Part.BORDER_META: lambda: _style(_mix(text, hues.ground, 0.42)),
        Part.META: lambda: _style(_mix(text, fill, 0.42), fill),
        Part.BAR: lambda: _style(hue, fill),
        Part.TRACK: lambda: _style(_mix(fill, text, 0.17), fill),
        Part.CAP: lambda: _style(pill),
        Part.PILL: lambda: _style(pill_text, pill, bold=lit, strike=strike),
    }[Part(part)]()


def _rgb_flow(hues: Hues, kind: FlowKind, state: FlowState, step: int) -> Style:
    hue = flow_hue(hues, kind, state)
    pulse = (step / (FLOW_STEPS - 1)) ** 2
    if state is FlowState.EMPTY:
        return _style(_mix(hues.ground, hue, 0.32))
    if state is FlowState.SETTLED:
        return _style(_mix(hues.ground, hue, 0.85))
    if state is FlowState.FAINT:
        return _style(_mix(hues.ground, hue, 0.38 + 0.42 * pulse))
    bright = max(0.0, (step - 10) / 5)
    return _style(_mix(_mix(hues.ground, hue, 0.68 + 0.32 * pulse), hues.text, 0.75 * bright), bold=step > 12)


def _rgb_single(hues: Hues, ink: Ink) -> Style:
    ground, text = hues.ground, hues.text
    grey = _mix(ground, text, 0.42)
    return {
        Ink.BLANK: lambda: _style(text),
        Ink.LINK: lambda: _style(grey),
        Ink.LINK_FAINT: lambda: _style(_mix(ground, text, 0.22)),
        Ink.LINK_LIT: lambda: _style(_mix(hues.overlay, text, 0.35), bold=True),
        Ink.LINK_BLAST: lambda: _style(hues.broken, bold=True),
        Ink.LINK_LOOP: lambda: _style(hues.broken),
        Ink.RELINK: lambda: _style(hues.base),
        Ink.RELINK_LABEL: lambda: _style(_mix(hues.base, text, 0.3), italic=True),
        Ink.STAY: lambda: _style(_mix(ground, text, 0.22)),
        Ink.STAGE: lambda: _style(_mix(ground, text, 0.5)),
        Ink.GHOST: lambda: _style(_mix(ground, text, 0.5), italic=True),
        Ink.NOTE: lambda: _style(_mix(ground, text, 0.55)),
        Ink.HEAD_COMMIT: lambda: _style(hues.commit, bold=True),
        Ink.HEAD_STREAM: lambda: _style(hues.stream, bold=True),
        Ink.HEAD_DONE: lambda: _style(hues.done, bold=True),
        Ink.LABEL_COMMIT: lambda: _style(ground, hues.commit, bold=True),
        Ink.LABEL_STREAM: lambda: _style(ground, hues.stream, bold=True),
        Ink.LABEL_DONE: lambda: _style(ground, hues.done, bold=True),
    }[ink]()


# --- 16 colours, or none ------------------------------------------------------------------------------------------


def _plain_box(role: Role, tone: Tone, part: int) -> Style:
    """Give the attributes of a part; brightness and weight alone tell tones apart."""
    strong = tone in {Tone.CURSOR, Tone.LIT, Tone.BLAST}
    dim = not strong and (tone is Tone.FADED or role in {Role.INVALID, Role.UNNEEDED})
    if part in {Part.BADGE, Part.BORDER_BADGE}:
        return Style(reverse=not dim and part == Part.BADGE, bold=not dim, dim=dim)
    if part in {Part.META, Part.BORDER_META, Part.TRACK}:
        return Style(dim=tone is not Tone.CURSOR)
    if part == Part.PILL:
        return Style(reverse=tone is Tone.CURSOR, bold=strong, dim=dim, strike=role is Role.INVALID)
    return Style(bold=strong, dim=dim, strike=role is Role.INVALID and part == Part.NAME)


def _plain_flow(kind: FlowKind, state: FlowState, step: int) -> Style:
    del kind
    if state in {FlowState.EMPTY, FlowState.FAINT}:
        return Style(dim=state is FlowState.EMPTY or step < FLOW_STEPS * 3 // 4)
    return Style(bold=state is FlowState.LIVE and step >= FLOW_STEPS // 2)


def _plain_single(hues: Hues, ink: Ink) -> tuple[Style, str]:
    if ink in {Ink.LABEL_COMMIT, Ink.LABEL_STREAM, Ink.LABEL_DONE}:
        hue = {Ink.LABEL_COMMIT: hues.commit, Ink.LABEL_STREAM: hues.stream, Ink.LABEL_DONE: hues.done}
        return Style(reverse=True, bold=True), hue.get(ink, hues.text)
    if ink in {Ink.LINK_FAINT, Ink.STAY, Ink.NOTE, Ink.STAGE, Ink.GHOST}:
        return Style(dim=True), hues.text
    if ink in {Ink.LINK_LIT, Ink.LINK_BLAST, Ink.LINK_LOOP}:
        return Style(bold=True), hues.text if ink == Ink.LINK_LIT else hues.broken
    hue = {
        Ink.RELINK: hues.base, Ink.RELINK_LABEL: hues.base, Ink.HEAD_COMMIT: hues.commit,
        Ink.HEAD_STREAM: hues.stream, Ink.HEAD_DONE: hues.done,
    }  # fmt: skip
    return Style(bold=ink in hue, italic=ink is Ink.RELINK_LABEL), hue.get(ink, hues.text)
