"""Hypothesis strategies for forests of images; they shrink towards one small empty qcow2 base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from .chains import SECTOR, Forest, Layer, Write

if TYPE_CHECKING:
    from .trial import Way

MAX_SECTORS = 8192
"""Largest disk: 4 MiB."""
KINDS = ("data", "zero", "unmap", "discard", "compressed")

WINDOWS = st.sampled_from((256 * 1024, 256 * 1024, 512, 64))
"""Bytes of L2 tables that are read at once: what the program uses, and as little as still maps a page of the file."""

WAYS: st.SearchStrategy[Way] = st.sampled_from(("direct", "kernel"))
"""How data is carried into the target."""


@st.composite
def writes(draw: st.DrawFn, sectors: int, grain: int, kinds: tuple[str, ...] = KINDS) -> Write:
    """Draw one command on a disk of `sectors`; about half begin or end at a multiple of `grain` sectors."""
    kind = draw(st.sampled_from(kinds))
    unit = draw(st.sampled_from((grain, 1, max(grain // 32, 1))))
    count = max(-(-sectors // unit), 1)
    start = draw(st.integers(0, count - 1))
    # Short commands reach further into a chain of many clusters than long ones, which hide what lies below.
    length = draw(st.one_of(st.integers(1, 3), st.integers(1, count)))
    times, every = 1, 0
    if draw(st.booleans()):
        times = draw(st.integers(2, 24))
        every = unit * draw(st.integers(1, max(count // times, 1) + 2))
    return Write(kind, start * unit, length * unit, times, every)


def sizes(around: int, grain: int, most: int) -> st.SearchStrategy[int]:
    """Draw a virtual size in sectors: as the neighbour's, cut or longer, at a cluster's end or amid one."""
    return st.one_of(
        st.just(around),
        st.just(around),
        st.just(around),
        st.integers(1, max(around, 1)),
        st.integers(around, min(around * 2 + grain, most)) if around < most else st.just(around),
        st.integers(1, max(around // grain, 1)).map(lambda n: min(n * grain, most)),
    )


@st.composite
def qcow2_layers(
    draw: st.DrawFn,
    around: int,
    parent: int | None,
    cluster_bits: st.SearchStrategy[int],
    *,
    snapshots: bool = True,
    most: int = MAX_SECTORS,
) -> Layer:
    """Draw a qcow2 layer whose size is near `around` sectors."""
    bits = draw(cluster_bits)
    grain = 1 << bits - 9
    sectors = draw(sizes(around, grain, most))
    old = draw(st.integers(0, 4)) == 4
    extended = not old and bits >= 14 and draw(st.booleans())
    refcount_bits = 16 if old else draw(st.sampled_from((16, 16, 64, 1, 2, 4, 8, 32)))
    snapshot = None
    if snapshots and refcount_bits > 2 and draw(st.integers(0, 7)) == 7:
        snapshot = draw(st.integers(0, 6))
    return Layer(
        sectors * SECTOR,
        parent,
        cluster_bits=bits,
        compat="0.10" if old else "1.1",
        extended_l2=extended,
        refcount_bits=refcount_bits,
        compression="zlib" if old else draw(st.sampled_from(("zlib", "zlib", "zstd"))),
        preallocation=draw(st.sampled_from(("off", "off", "off", "off", "off", "metadata", "falloc"))),
        snapshot=snapshot,
        commands=tuple(draw(st.lists(writes(sectors, grain), max_size=8))),
    )


@st.composite
def raw_layers(draw: st.DrawFn, sectors: int) -> Layer:
    """Draw a raw base with holes, often of an odd length in bytes."""
    odd = draw(st.sampled_from((0, 0, 1, 300, 511)))
    commands = draw(st.lists(writes(sectors, 8, ("data", "zero")), max_size=6))
    return Layer(max(sectors * SECTOR - odd, 1), None, "raw", commands=tuple(commands))


@st.composite
def forests(
    draw: st.DrawFn,
    *,
    min_layers: int = 1,
    max_layers: int = 5,
    max_branches: int = 0,
    uniform: bool | None = None,
    snapshots: bool = True,
    cluster_bits: tuple[int, ...] = (9, 10, 12, 14, 16, 17, 21),
    clusters: int = 256,
    most: int = MAX_SECTORS,
) -> Forest:
    """Draw a chain with up to `max_branches` overlays beside it.

    `uniform` says whether all layers have the same cluster size (None leaves it open); `clusters` is about how many a
    disk has at the most, `most` the same in sectors.
    """
    count = draw(st.integers(min_layers, max_layers))
    one_size = draw(st.booleans()) if uniform is None else uniform
    bits: st.SearchStrategy[int] = st.sampled_from(cluster_bits)
    usual = draw(bits)
    if one_size:
        bits = st.just(usual)
    around = min(draw(st.integers(1, clusters)) << usual - 9, most)
    around = max(around - draw(st.sampled_from((0, 0, 1, 5, 40))), 1)
    layers: list[Layer] = []
    for index in range(count):
        if index == 0 and draw(st.integers(0, 3)) == 3:
            layers.append(draw(raw_layers(around)))
        else:
            layers.append(
                draw(qcow2_layers(around, index - 1 if index else None, bits, snapshots=snapshots, most=most))
            )
    for _ in range(draw(st.integers(0, max_branches))):
        branch_from = draw(st.integers(0, count - 1))
        layers.append(draw(qcow2_layers(around, branch_from, bits, snapshots=False, most=most)))
    return Forest(tuple(layers))


@st.composite
def operations(draw: st.DrawFn, spec: Forest) -> tuple[str, int, int | None, bool]:
    """Draw what to do on a forest of at least two layers.

    ("commit", top, base, keep), ("pull", image, base or None, _) or ("rebase", image, new backing file or None, _); the
    images are indices of the spec's layers.
    """
    below: dict[int, list[int]] = {}
    for index, layer in enumerate(spec.layers):
        below[index] = [] if layer.parent is None else [layer.parent, *below[layer.parent]]
    verb = draw(st.sampled_from(("commit", "pull", "rebase")))
    if verb == "rebase":
        image = draw(st.sampled_from([i for i in below if spec.layers[i].format == "qcow2"]))
        free: list[int | None] = [i for i in below if i != image and image not in below[i]]
        return verb, image, draw(st.sampled_from([*free, None] if below[image] or not free else free)), False
    top = draw(st.sampled_from([i for i in below if below[i]]))
    if verb == "commit":
        return verb, top, draw(st.sampled_from(below[top])), draw(st.integers(0, 3)) == 3
    return verb, top, draw(st.sampled_from([*below[top][1:], None])), False
