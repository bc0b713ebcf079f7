"""What the advisor says of the ways to get rid of an image, in plain words. No Textual here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.operations import Rebase
from backchain_tui import formatting as fmt
from backchain_tui import plan_words
from backchain_tui.describe import Row, Tone, labels

if TYPE_CHECKING:
    from backchain.advice import Advice
    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.plan import Hazard

_NAMES = {"down": "Down", "up": "Up", "flatten": "Flatten"}


def name(advice: Advice) -> str:
    """Name a way."""
    return _NAMES[advice.way]


def what(graph: ChainGraph, image: ImageId, advice: Advice) -> str:
    """Say in one line what a way does."""
    label, plans = graph[image].label, advice.plans
    if not plans:
        return advice.reason
    targets = labels(graph, (p.target for p in plans))
    many = len(plans) > 1
    if advice.way == "down":
        return f"Commit {label} into {targets}."
    first = plans[0].operation
    if isinstance(first, Rebase) and first.backing is not None:
        return f"Rebase {targets} onto {graph[first.backing].label}."
    return f"Pull everything into {targets}, which then stand{'' if many else 's'} alone."


def rows(
    graph: ChainGraph, image: ImageId, advice: Advice, *, ascii_only: bool, short: bool = False
) -> list[Row]:  # fmt: skip
    """Give the price of a way, or why it cannot be.

    Args:
        graph: The forest.
        image: What is to go.
        advice: The way.
        ascii_only: Keep to ASCII.
        short: Say it in few lines.
    """
    if not advice.plans:
        return [Row("", "Not possible:", Tone.BAD), Row("", f"{advice.reason}.")]
    heading = [Row("", what(graph, image, advice), Tone.STRONG)]
    if advice.blocked:
        heading.append(Row("", "Cannot run:", Tone.BAD))
        return heading + [_hazard(h, ascii_only=ascii_only) for h in advice.blocked[:2]]
    invalid = Row("invalid", labels(graph, advice.invalidated), Tone.WARN)
    copies = f"{fmt.counted(advice.clusters, 'cluster')} · {fmt.size(advice.bytes)}"
    grows = plan_words.growth(advice.growth_bytes)
    price = [Row("copies", f"{copies} · grows {grows}")] if short else [Row("copies", copies), Row("grows", grows)]
    found = [*heading, *price, invalid if advice.invalidated else Row("invalid", "nothing", Tone.GOOD)]
    if len(advice.plans) > 1:
        found.append(Row("steps", f"{len(advice.plans)}, one per overlay"))
    confirm = [h for p in advice.plans for h in p.stopping()]
    return found + [_hazard(h, ascii_only=ascii_only) for h in confirm[:2]]


def _hazard(hazard: Hazard, *, ascii_only: bool) -> Row:
    """Give a hazard as one text, as a card has no room for columns."""
    row = plan_words.hazard_row(hazard, ascii_only=ascii_only)
    return Row("", f"{row.label}: {row.text}", row.tone)


def verdict(graph: ChainGraph, best: Advice | None) -> str:
    """Say which way is recommended, and why."""
    if best is None:
        return "No way is free of what blocks it just now; enter shows the plan and says why."
    harm = f"{labels(graph, best.invalidated)} becomes invalid" if best.invalidated else "nothing becomes invalid"
    if len(best.invalidated) > 1:
        harm = harm.replace("becomes", "become")
    return f"Recommended: {name(best).lower()}. Of the ways that are safe it writes least, and {harm}."
