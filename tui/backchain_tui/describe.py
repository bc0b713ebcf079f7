"""What the screen says of images, in plain words. No Textual here.

A style is one word out of `Tone`; the widgets know its colour.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from backchain.filename import printable
from backchain.image import ImageState
from backchain.sorting import natural
from backchain_tui import formatting as fmt
from backchain_tui.badges import Badge
from backchain_tui.recovery_words import mix_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backchain.graph import ChainGraph
    from backchain.image import ImageId, ImageInfo
    from backchain.repair import Suggestion


class Tone(StrEnum):
    """How a line is meant; the values are names of component classes."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    CODE = "code"


class Row(NamedTuple):
    """A line of a panel: a label (may be empty), its text, and how it is meant."""

    label: str
    text: str
    tone: Tone = Tone.PLAIN


_STATE_TEXT = {
    ImageState.OK: "can be read",
    ImageState.MISSING: "missing",
    ImageState.UNREADABLE: "cannot be read",
    ImageState.DIRTY: "not closed cleanly",
    ImageState.CORRUPT: "marked corrupt",
    ImageState.LOOP: "part of a loop",
    ImageState.INVALID: "invalid",
    ImageState.UNNEEDED: "no longer needed",
}


def unmapped(info: ImageInfo, *, own: bool) -> str:
    """Say why there is no map of an image, or of a chain with it as a layer; empty when there is one.

    Args:
        info: The image.
        own: It is about the image alone.
    """
    if info.readable and (own or info.state is not ImageState.LOOP):
        return ""
    verb = "" if info.state is ImageState.UNREADABLE else "is "
    return f"{info.label} {verb}{_STATE_TEXT[info.state]}"


def labels(graph: ChainGraph, images: Iterable[ImageId], *, every: bool = False) -> str:
    """Join the names of images for a sentence, those nearest to the base first, web-2 before web-10.

    Args:
        graph: The forest.
        images: The images.
        every: Name each of them; else of many only the first.
    """
    ordered = sorted(images, key=lambda i: (len(graph.chain(i)), natural(str(graph[i].path))))
    return fmt.names([graph[i].label for i in ordered], at_most=len(ordered) if every else fmt.MOST_NAMES)


def role(graph: ChainGraph, image: ImageId) -> str:
    """Name the place of an image in its chain; where it has none, or nobody knows what backs it, say why."""
    overlays = len(graph.overlays_of(image))
    if not _backing_is_known(graph[image]):
        return _STATE_TEXT[graph[image].state]
    if graph[image].state is ImageState.INVALID:
        return _STATE_TEXT[ImageState.INVALID]
    if graph.is_base(image):
        return "base" if overlays else "stands alone"
    return "active layer" if not overlays else "intermediate layer"


def image_rows(graph: ChainGraph, image: ImageId, *, exact: bool = False, in_use: bool = False) -> list[Row]:
    """Tell all that is known of one image.

    Args:
        graph: The forest.
        image: The image under the cursor.
        exact: Give sizes to the byte as well.
        in_use: Another process has it open.
    """
    info = graph[image]
    size = fmt.exact if exact else fmt.size
    rows = [
        Row("", f"{info.name} · {role(graph, image)}", Tone.STRONG),
        *_problem_rows(info),
        *_mix_rows(graph, image),
        *([Row("in use", "another process has it open", Tone.WARN)] if in_use else []),
        *outside_rows(graph, image),
        Row("path", info.display_path),
        Row("format", _format_text(info)),
        Row("virtual", size(info.virtual_size)),
        Row("on disk", _disk_text(info, exact=exact)),
    ]
    if info.cluster_size:
        rows.append(Row("cluster", size(info.cluster_size)))
    features = info.features[1:]  # the first is the version
    if features:
        rows.append(Row("features", ", ".join(features)))
    if info.header is not None and info.header.nb_snapshots:
        rows.append(Row("snapshots", fmt.counted(info.header.nb_snapshots, "internal snapshot"), Tone.WARN))
    rows += _backing_rows(graph, info)
    overlays = graph.overlays_of(image)
    rows.append(Row("overlays", labels(graph, overlays) if overlays else "none"))
    rows.append(breaks_row(graph, image))
    return rows


def link_fault(graph: ChainGraph, image: ImageId) -> str:
    """Say what is wrong with the link of an image to its backing file; empty when nothing is, or nothing is known.

    Args:
        graph: The forest.
        image: The overlay.
    """
    from backchain.hazards.links import trapped_name  # not before there is a forest: the package needs numpy

    info, backing = graph[image], graph.backing_of(image)
    if info.backing is None or info.header is None or (backing is not None and graph[backing].remote is not None):
        return ""
    if backing is not None and graph[backing].state is ImageState.UNREADABLE:
        return "its backing file cannot be read"
    if backing is None or graph[backing].state is ImageState.MISSING:
        return "its backing file is lost"
    recorded, found = info.backing.format, graph[backing].format
    if recorded is None:
        return f"it records no format for {graph[backing].label}"
    if recorded != found:
        return f"it records {printable(recorded)} for {graph[backing].label}, which is {found}"
    return "the name that it records is fragile" if any(trapped_name(graph, image)) else ""


def range_fault(graph: ChainGraph, image: ImageId) -> str:
    """Say why an image can be neither the top of a commit nor be filled by a pull; empty when it can."""
    info, backing = graph[image], graph.backing_of(image)
    if not info.readable:
        return f"{info.label} cannot be read"
    if backing is None:
        return f"{info.label} has no backing file"
    if not graph[backing].readable:
        return f"{graph[backing].label}, which backs {info.label}, cannot be read"
    return ""


def image_fault(graph: ChainGraph, image: ImageId) -> str:
    """Say why an image can be neither rebased nor worked on otherwise; empty when it can."""
    info = graph[image]
    if info.readable:
        return "" if info.format == "qcow2" else f"{info.label} is {info.format}: it can have no backing file"
    lost = [graph[i].label for i in graph.overlays_of(image) if link_fault(graph, i)]
    return unmapped(info, own=True) + (f"; f on {lost[0]} looks for a repair" if lost else "")


def suggestion_text(suggestion: Suggestion) -> str:
    """Say in one line what speaks for a repair, and how sure it is."""
    backing = suggestion.operation.backing
    info = suggestion.graph[backing] if backing is not None else None
    place = info.display_path.rpartition("/")[0] if info is not None else ""
    trust = "certain" if suggestion.certain else "likely" if suggestion.likely else "possible"
    return f"{trust}: {printable(suggestion.reason)} · {place}"


def place_text(graph: ChainGraph, image: ImageId) -> str:
    """Say in one line what an image is in its chain, and in which folder it lies."""
    info = graph[image]
    folder = info.display_path.rpartition("/")[0]
    return " · ".join(filter(None, (role(graph, image), fmt.size(info.virtual_size), folder)))


def base_text(graph: ChainGraph, image: ImageId, base: ImageId) -> str:
    """Say in one line what a possible backing file of an image is: its size, its chain, and where it lies.

    Args:
        graph: The forest.
        image: The overlay.
        base: The image that may back it.
    """
    info, chain = graph[base], graph.chain(base)
    own = "below it now" if base in graph.chain(image) else ""
    further = f" +{len(chain) - 2}" if len(chain) > 2 else ""
    below = f"on {graph[chain[1]].label}{further}" if len(chain) > 1 else "a base"
    folder = "" if info.path.parent == graph[image].path.parent else info.display_path.rpartition("/")[0]
    return " · ".join(filter(None, [own, info.format, fmt.size(info.virtual_size), below, folder]))


def breaks_row(graph: ChainGraph, image: ImageId) -> Row:
    """Say which images would break if this one changed; those that are invalid by now cannot."""
    victims = graph.without_invalid_links().dependents(image)
    if not victims:
        return Row("if changed", "nothing else breaks", Tone.GOOD)
    return Row("if changed", f"{labels(graph, victims)} would break", Tone.WARN)


def _problem_rows(info: ImageInfo) -> list[Row]:
    if info.state is ImageState.OK:
        return []
    bad = info.state not in {ImageState.UNNEEDED, ImageState.INVALID}
    text = _STATE_TEXT[info.state] + (f": {info.problem}" if info.problem else "")
    return [Row("state", text, Tone.BAD if bad else Tone.WARN)]


def _mix_rows(graph: ChainGraph, image: ImageId) -> list[Row]:
    text = mix_text(graph, image)
    return [Row(Badge.MIXED, text, Tone.WARN)] if text else []


def outside_rows(graph: ChainGraph, image: ImageId) -> list[Row]:
    """Say that an image lies outside of the folders given; nothing when it does not."""
    if graph.is_trusted(image):
        return []
    text = "a link leads here, out of the folders given; name the folder with --scan if that is meant"
    return [Row(Badge.OUTSIDE, text, Tone.WARN)]


def _format_text(info: ImageInfo) -> str:
    return info.format if info.header is None else f"{info.format} v{info.header.version}"


def _disk_text(info: ImageInfo, *, exact: bool) -> str:
    size = fmt.exact if exact else fmt.size
    if info.disk_size is None or not info.virtual_size:
        return size(info.disk_size)
    return f"{size(info.disk_size)} · {fmt.percent(min(1.0, info.disk_size / info.virtual_size))} of virtual"


def _backing_is_known(info: ImageInfo) -> bool:
    """Whether it is known what backs an image, be it nothing."""
    return info.readable or info.backing is not None


def _backing_rows(graph: ChainGraph, info: ImageInfo) -> list[Row]:
    if info.backing is None:
        return [Row("backing", "none: this is a base" if _backing_is_known(info) else "not known")]
    known = info.backing.format
    rows = [Row("backing", f"{printable(info.backing.name)} ({printable(known) if known else 'no format recorded'})")]
    backing = graph.backing_of(info.id)
    if backing is not None and not graph[backing].readable:
        below = graph[backing]
        rows.append(Row("", f"{unmapped(below, own=True)}: {below.problem}".rstrip(": "), Tone.BAD))
    fault = link_fault(graph, info.id)
    if fault:
        rows.append(Row("link", f"{fault}; f looks for a repair", Tone.WARN))
    if backing is not None and not graph.is_trusted(backing):
        rows.append(
            Row("outside", f"the link leads out of the folders given, to {graph[backing].display_path}", Tone.WARN)
        )
    return rows


def printable_lines(text: str) -> str:
    """Escape control characters, but keep the ends of lines."""
    return "\n".join(printable(line) for line in text.splitlines())
