"""Fresh images, held against qemu-img: check, info, and what a guest reads."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from backchain.errors import ImageIOError, UnsupportedImageError, UsageError
from backchain.image import ImageState, read_image_info
from backchain.qcow2.create import create_image

from . import qemu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("cluster_size", [512, 1024, 4096, 65536, 1 << 20, 1 << 21])
@pytest.mark.parametrize("clusters", [0.3, 1, 7.5, 1000.7])
def test_a_fresh_image_is_sound_and_reads_as_written(tmp_path: Path, cluster_size: int, clusters: float) -> None:
    if cluster_size > 65536 and clusters > 100:
        clusters = 21.5
    size = int(clusters * cluster_size) // 512 * 512 or 512
    whole = -(-size // cluster_size)
    choice = random.Random(f"{cluster_size} {clusters}")
    order = choice.sample(range(whole), whole)
    data = {n: choice.randbytes(choice.randint(1, cluster_size)) for n in order[: whole // 2 + 1]}
    zeros = order[whole // 2 + 1 : whole // 2 + 1 + whole // 4]
    base = tmp_path / "base.raw"
    base.write_bytes(choice.randbytes(size))
    path = tmp_path / "new.qcow2"

    create_image(
        path, size, cluster_size=cluster_size, backing=("base.raw", "raw"), data=data.items(), zeros=zeros, sync=False
    )

    expected = bytearray(base.read_bytes())
    for n, content in [*data.items(), *((z, b"") for z in zeros)]:
        room = min(cluster_size, size - n * cluster_size)
        expected[n * cluster_size : n * cluster_size + room] = content.ljust(cluster_size, b"\0")[:room]
    assert qemu.check(path).clean, qemu.check(path).text
    assert qemu.view(path) == bytes(expected)
    info = qemu.info(path)
    assert (info["virtual-size"], info["cluster-size"]) == (size, cluster_size)
    assert (info["backing-filename"], info["backing-filename-format"]) == ("base.raw", "raw")
    assert read_image_info(path).state is ImageState.OK


@pytest.mark.parametrize("size", [0, 512, 1 << 40])
def test_an_empty_image_of_any_size_is_sound(tmp_path: Path, size: int) -> None:
    path = tmp_path / "empty.qcow2"
    create_image(path, size)
    assert qemu.check(path).clean
    assert qemu.info(path)["virtual-size"] == size
    assert path.stat().st_size < 1 << 20


def test_many_refcount_blocks_count_themselves(tmp_path: Path) -> None:
    path = tmp_path / "many.qcow2"
    create_image(path, 20_000 * 512, cluster_size=512, data=((n, b"%d" % n) for n in range(20_000)), sync=False)
    assert qemu.check(path).clean
    assert qemu.view(path) == b"".join((b"%d" % n).ljust(512, b"\0") for n in range(20_000))


def test_qemu_can_go_on_writing(tmp_path: Path) -> None:
    path = tmp_path / "new.qcow2"
    create_image(path, 1 << 20, cluster_size=4096, data=[(3, b"x" * 4096)], zeros=[4])
    qemu.io(path, "write -P 7 8k 200k", "write -z 3k 2k", "discard 400k 64k")
    assert qemu.check(path).clean


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "there.qcow2"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        create_image(path, 1 << 20)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (513, {}),
        (-512, {}),
        (1 << 20, {"cluster_size": 1000}),
        (1 << 20, {"cluster_size": 256}),
        (1 << 20, {"cluster_size": 1 << 22}),
        (1 << 62, {"cluster_size": 512}),
        (1 << 20, {"data": [(16, b"x")]}),
        (1 << 20, {"data": [(-1, b"x")]}),
        (1 << 20, {"data": [(1, b"x"), (1, b"y")]}),
        (1 << 20, {"data": [(1, b"x")], "zeros": [1]}),
        (1 << 20, {"data": [(0, bytes(65537))]}),
        (1 << 20, {"backing": ("n" * 1024, "raw")}),
    ],
)
def test_what_is_no_legal_image_is_refused_and_leaves_no_file(
    tmp_path: Path, size: int, options: dict[str, object]
) -> None:
    path = tmp_path / "never.qcow2"
    with pytest.raises(UsageError):
        create_image(path, size, **options)  # type: ignore[arg-type]
    assert not path.exists()


def test_a_long_name_displaces_the_feature_names_but_never_what_matters(tmp_path: Path) -> None:
    fits, too_long = tmp_path / "fits.qcow2", tmp_path / "too-long.qcow2"
    create_image(fits, 1 << 20, cluster_size=512, backing=("n" * 300, "raw"))
    assert read_image_info(fits).backing is not None
    assert qemu.info(fits)["backing-filename"] == "n" * 300
    with pytest.raises(UnsupportedImageError, match="shorter path"):
        create_image(too_long, 1 << 20, cluster_size=512, backing=("n" * 500, "raw"))
    assert not too_long.exists()


def test_a_folder_that_is_not_there_is_an_io_error(tmp_path: Path) -> None:
    with pytest.raises(ImageIOError, match="No such file"):
        create_image(tmp_path / "nowhere" / "new.qcow2", 1 << 20)
