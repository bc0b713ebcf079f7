"""Numbers as text."""

from __future__ import annotations

import pytest

from backchain_tui import formatting


@pytest.mark.parametrize(
    ("count", "size", "short", "exact"),
    [
        (None, "unknown", "?", "unknown"),
        (0, "0 bytes", "0B", "0 bytes"),
        (1, "1 byte", "1B", "1 byte"),
        (65536, "64 KiB", "64K", "64 KiB (65,536 bytes)"),
        (1_310_720, "1.2 MiB", "1.2M", "1.2 MiB (1,310,720 bytes)"),
        (10 << 30, "10 GiB", "10G", "10 GiB (10,737,418,240 bytes)"),
    ],
)
def test_sizes(count: int | None, size: str, short: str, exact: str) -> None:
    assert formatting.size(count) == size
    assert formatting.short_size(count) == short
    assert formatting.exact(count) == exact


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (3.14, "3.1 s"), (42, "42 s"), (87, "1:27"), (7509, "2:05:09")]
)
def test_durations(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_a_time_to_go_that_nobody_believes_is_left_out() -> None:
    assert formatting.eta(None) == formatting.eta(1e12) == "–"


def test_a_hundred_percent_means_all() -> None:
    assert formatting.percent(0.9999) == "99.9%"
    assert formatting.percent(1.0) == "100.0%"


def test_names_in_a_sentence() -> None:
    assert formatting.names([]) == ""
    assert formatting.names(["Snap-1"]) == "Snap-1"
    assert formatting.names(["Snap-1", "Snap-2", "Snap-3"]) == "Snap-1, Snap-2 and Snap-3"
    assert formatting.names([f"Snap-{n}" for n in range(1, 10)]) == "Snap-1, Snap-2, Snap-3 and 6 more"


def test_counts_agree_with_their_noun() -> None:
    assert formatting.counted(1, "cluster") == "1 cluster"
    assert formatting.counted(1_048_576, "cluster") == "1,048,576 clusters"
