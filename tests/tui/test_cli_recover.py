"""``backchain recover``: what interrupted jobs left is told, finished or left, each by itself."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from backchain.journal import is_journal
from tests.core import qemu
from tests.tui.command_line import backchain, backing, document, error_of, filled, stopped_amid

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """Base <- sn1 <- sn2 <- sn3, which take seconds to be moved at 1 MiB/s."""
    return filled(tmp_path, "base", "sn1", "sn2", "sn3")


def told(folder: Path) -> list[dict[str, Any]]:
    """Give what is told of interrupted jobs."""
    entries: list[dict[str, Any]] = document(backchain("recover", "--json", folder))["interrupted"]
    return entries


@pytest.mark.parametrize(
    ("verb", "rest"), [("commit", "commit"), ("pull", "pull"), ("rebase", "rebase"), ("commit-active", "commit")]
)
@pytest.mark.parametrize("way", ["--finish", "--undo"])
def test_an_interrupted_job_is_told_of_and_finished_or_left(
    chain: list[Path], tmp_path: Path, verb: str, rest: str, way: str
) -> None:
    base, _, sn2, sn3 = chain
    commands: dict[str, list[str | Path]] = {
        "commit": ["commit", "-b", base, sn2], "commit-active": ["commit", "-b", base, sn3],
        "pull": ["pull", sn3], "rebase": ["rebase", "-b", "", sn3],
    }  # fmt: skip
    view = qemu.view(sn3)
    stopped_amid(*commands[verb], number=signal.SIGKILL)
    assert qemu.view(sn3) == view
    assert [(t["operation"], t["remaining"]) for t in told(tmp_path)] == [(rest, rest)]
    headline = {"commit": "commit into base", "pull": "pull into sn3", "rebase": "rebase of sn3"}[rest]
    assert backchain("recover", tmp_path).stdout.startswith(f"{headline}.qcow2, begun ")
    done = backchain("recover", way, "-y", "--json", tmp_path)
    assert done.returncode == 0, done.stderr
    results = document(done)["finished" if way == "--finish" else "undone"]
    assert [r["operation"] for r in results] == [rest]
    assert told(tmp_path) == []
    assert qemu.view(sn3) == view
    for path in chain:
        assert qemu.check(path).clean, qemu.check(path).text
    wanted = {"commit": "base.qcow2", "commit-active": "base.qcow2", "pull": None, "rebase": None}[verb]
    assert backing(sn3) == (wanted if way == "--finish" else "sn2.qcow2")


def mark_dirty(image: Path, *, dirty: bool) -> None:
    """Set or clear the dirty bit, as QEMU does while it writes with lazy refcounts."""
    with image.open("r+b") as file:
        file.seek(79)
        file.write(bytes([dirty]))


def test_a_job_is_remembered_until_all_is_tidied_up(chain: list[Path], tmp_path: Path) -> None:
    """An image that another program has left dirty keeps what leaked, and that is no success to be forgotten."""
    _, _, _, sn3 = chain
    stopped_amid("pull", sn3, number=signal.SIGKILL)
    leaked = not qemu.check(sn3).clean
    mark_dirty(sn3, dirty=True)
    for options in ([], ["--json"], ["-q"]):
        refused = backchain("recover", "--undo", "-y", *options, tmp_path)
        assert "sn3.qcow2: incompatible features 0x1 are not written; mend it" in error_of(refused, 4)
    assert [t["operation"] for t in told(tmp_path)] == ["pull"]
    mark_dirty(sn3, dirty=False)
    done = document(backchain("recover", "--undo", "-y", "--json", tmp_path))["undone"]
    assert [bool(d["leaked_clusters"]) for d in done] == [leaked]
    assert qemu.check(sn3).clean
    assert told(tmp_path) == []


def test_a_job_is_left_alone_where_nobody_can_be_asked(chain: list[Path], tmp_path: Path) -> None:
    base, _, sn2, _ = chain
    stopped_amid("commit", "-b", base, sn2, number=signal.SIGKILL)
    assert "no terminal to ask on" in error_of(backchain("recover", "--undo", tmp_path), 2)
    assert [t["operation"] for t in told(tmp_path)] == ["commit"]


def test_nothing_to_recover(tmp_path: Path) -> None:
    assert backchain("recover", tmp_path).stdout == "No interrupted job was found.\n"
    assert document(backchain("recover", "--json", cwd=tmp_path)) == {"interrupted": []}
    assert "exclude each other" in error_of(backchain("recover", "--finish", "--undo", tmp_path), 2)
    assert "is not a folder" in error_of(backchain("recover", tmp_path / "nowhere"), 4)


# --- several jobs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_pulls(tmp_path: Path) -> tuple[Path, Path]:
    """Interrupt two pulls; the job that is dealt with first is blocked. Give both tops, the blocked one first."""
    tops = [filled(tmp_path, *(f"{name}-{n}" for n in range(3)))[-1] for name in ("one", "other")]
    for top in tops:
        stopped_amid("pull", top, number=signal.SIGKILL)
    first, second = (next(t for t in tops if str(t) == entry["target"]) for entry in told(tmp_path))
    mark_dirty(first, dirty=True)
    return first, second


def test_a_job_that_cannot_be_finished_keeps_no_other_from_it(two_pulls: tuple[Path, Path], tmp_path: Path) -> None:
    blocked, free = two_pulls
    view = qemu.view(free)
    done = backchain("recover", "--finish", "-y", "--json", tmp_path)
    line = error_of(done, 3)
    assert line.startswith(f"pull into {blocked.name}, begun ")
    assert ": dirty: " in line
    first, second = document(done)["finished"]
    assert (first["target"], first["status"]) == (str(blocked), "blocked")
    assert first["error"].startswith("dirty: ")
    assert (second["target"], second["status"]) == (str(free), "done")
    assert backing(free) is None
    assert qemu.view(free) == view
    assert [t["target"] for t in told(tmp_path)] == [str(blocked)]


def test_each_job_has_a_line(two_pulls: tuple[Path, Path], tmp_path: Path) -> None:
    blocked, free = two_pulls
    done = backchain("recover", "--finish", "-y", tmp_path)
    assert error_of(done, 3).startswith(f"pull into {blocked.name}, begun ")
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"pull into {free.name}, begun ")
    assert ": finished; " in last
    undone = backchain("recover", "--undo", "-y", tmp_path)
    assert "not tidied up: " in error_of(undone, 4)
    mark_dirty(blocked, dirty=False)
    assert ": left as it is; " in backchain("recover", "--undo", "-y", tmp_path).stdout


def test_to_cancel_one_job_is_to_cancel_all(two_pulls: tuple[Path, Path], tmp_path: Path) -> None:
    for top in two_pulls:
        mark_dirty(top, dirty=False)
    done = stopped_amid("recover", "--finish", "--json", tmp_path, number=signal.SIGINT)
    assert done.returncode == 7
    (entry,) = document(done)["finished"]
    assert (entry["target"], entry["status"], entry["error"]) == (
        str(two_pulls[0]),
        "cancelled",
        "cancelled by the user",
    )
    assert {t["target"] for t in told(tmp_path)} == {str(t) for t in two_pulls}


def test_a_job_whose_images_are_gone_is_told_of_and_in_the_document(chain: list[Path], tmp_path: Path) -> None:
    base, _, sn2, _ = chain
    stopped_amid("commit", "-b", base, sn2, number=signal.SIGKILL)
    sn2.rename(tmp_path / "away")
    assert "  It cannot be finished: " in backchain("recover", tmp_path).stdout
    for options in ((), ("-n",)):
        done = backchain("recover", "--finish", "-y", "--json", *options, tmp_path)
        assert "sn2.qcow2 is gone" in error_of(done, 4)
        (entry,) = document(done)["interrupted" if options else "finished"]
        assert (entry["operation"], entry["target"]) == ("commit", str(base))
        assert "sn2.qcow2 is gone" in entry["error"]


def test_jobs_in_folders_below_are_found(tmp_path: Path) -> None:
    below = tmp_path / "machines" / "one"
    below.mkdir(parents=True)
    top = filled(below, "base", "top")[-1]
    stopped_amid("pull", top, number=signal.SIGKILL)
    assert [e["target"] for e in told(tmp_path)] == [str(top)]
    assert backchain("recover", "--finish", "-y", tmp_path).returncode == 0
    assert backing(top) is None


def test_overlays_in_the_folder_that_was_named_are_weighed(tmp_path: Path) -> None:
    pool, machines = tmp_path / "pool", tmp_path / "machines"
    pool.mkdir()
    machines.mkdir()
    base, _, over = filled(pool, "base", "middle", "over")
    qemu.create(machines / "sibling.qcow2", None, backing=base)
    stopped_amid("commit", "-b", base, over, number=signal.SIGKILL)
    view = qemu.view(machines / "sibling.qcow2")
    (entry,) = document(backchain("recover", "--finish", "-n", "--json", tmp_path))["interrupted"]
    assert "sibling-corruption" in {h["code"] for h in entry["plan"]["hazards"]}
    assert backchain("recover", "--finish", "-y", tmp_path).returncode == 3
    assert qemu.view(machines / "sibling.qcow2") == view


def test_jobs_of_other_folders_are_left_alone(tmp_path: Path) -> None:
    """What backs an image of the folder lies beside a job that has nothing to do with it."""
    shared, mine = tmp_path / "shared", tmp_path / "mine"
    (shared / "other").mkdir(parents=True)
    mine.mkdir()
    (base,) = filled(shared, "base")
    qemu.create(mine / "over.qcow2", None, backing=base)
    top = filled(shared / "other", "root", "top")[-1]
    stopped_amid("pull", top, number=signal.SIGKILL)
    assert told(mine) == []
    assert backchain("recover", "--undo", "-y", mine).stdout == "No interrupted job was found.\n"
    assert [e["target"] for e in told(shared)] == [str(top)]


def test_what_was_not_looked_at_is_said(tmp_path: Path) -> None:
    (tmp_path / "damaged.qcow2").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(96))
    done = backchain("recover", tmp_path)
    assert done.returncode == 0
    assert "not looked at" in done.stderr


def test_overlays_that_lie_elsewhere_are_weighed(chain: list[Path], tmp_path: Path) -> None:
    """A commit that is finished would harm an overlay of its base as one that is begun would."""
    base, *_, sn3 = chain
    stopped_amid("commit", "-b", base, sn3, number=signal.SIGKILL)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    qemu.create(elsewhere / "other.qcow2", None, backing=base)
    done = backchain("recover", "--finish", "-y", "--scan", elsewhere, tmp_path)
    assert done.returncode == 3
    assert "sibling-corruption" in done.stderr
    assert "other.qcow2" in done.stderr


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_job_with_nothing_left_to_do_is_told_to_be_tidied_up(chain: list[Path], tmp_path: Path) -> None:
    """As one is that dies between its last change and its end."""
    sn3 = chain[-1]
    stopped_amid("pull", sn3, number=signal.SIGKILL)
    (kept,) = (p.read_bytes() for p in tmp_path.iterdir() if is_journal(p.name))
    assert backchain("recover", "--finish", "-y", tmp_path).returncode == 0
    (tmp_path / ".backchain-again.journal").write_bytes(kept)
    (tmp_path / ".backchain-once-more.journal").write_bytes(kept)
    first, second = document(backchain("recover", "--finish", "-y", "--json", tmp_path))["finished"]
    assert first == second
    assert (first["operation"], first["target"], first["kept"]) == ("pull", str(sn3), False)
    assert told(tmp_path) == []
    (tmp_path / ".backchain-again.journal").write_bytes(kept)
    done = backchain("recover", "--finish", "-y", tmp_path)
    assert done.stdout.startswith("pull into sn3.qcow2, begun ")
    assert done.stdout.endswith(": nothing was left to be done; nothing is left to be tidied up\n")


def test_finish_with_a_dry_run_shows_the_plan(chain: list[Path], tmp_path: Path) -> None:
    sn3 = chain[-1]
    stopped_amid("pull", sn3, number=signal.SIGKILL)
    before = qemu.digest(sn3)
    done = backchain("recover", "--finish", "-n", tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("pull into sn3.qcow2, begun ", "Finishing does what is left", "sn3 stands alone then.", "--undo"):
        assert words in done.stdout
    (entry,) = document(backchain("recover", "--finish", "-n", "--json", tmp_path))["interrupted"]
    assert (entry["remaining"], entry["plan"]["operation"], entry["plan"]["target"]) == ("pull", "pull", str(sn3))
    mark_dirty(sn3, dirty=True)
    assert backchain("recover", "--finish", "-n", tmp_path).returncode == 3
    mark_dirty(sn3, dirty=False)
    assert qemu.digest(sn3) == before
    assert "plan" not in document(backchain("recover", "--undo", "-n", "--json", tmp_path))["interrupted"][0]


def test_images_that_are_elsewhere_are_named_by_their_paths(tmp_path: Path) -> None:
    """A journal lies where one can be written, which need not be beside the target."""
    (tmp_path / "low").mkdir()
    (base,) = filled(tmp_path / "low", "base")
    top = tmp_path / "top.qcow2"
    qemu.create(top, None, backing=base)
    qemu.io(top, "write -q -P 9 0 4M")
    stopped_amid("commit", top, number=signal.SIGKILL)
    (journal,) = (p for p in base.parent.iterdir() if is_journal(p.name))
    assert f"into {base.name}, begun" in backchain("recover", base.parent).stdout
    first, *rest = journal.read_text().splitlines()
    elsewhere = [json.dumps(json.loads(first) | {"folder": str(tmp_path)}), *rest]
    (tmp_path / journal.name).write_text(
        "\n".join(elsewhere) + "\n"
    )  # as it is where the base's folder is not writable
    journal.unlink()
    done = backchain("recover", tmp_path)
    assert done.stdout.startswith(f"commit into {base}, begun ")
    assert f"{base} may hold a part of the data already" in done.stdout
    assert f"commit into {base}, begun " in backchain("recover", "--undo", "-y", tmp_path).stdout


def test_what_reads_a_mix_is_told_of_until_the_same_is_committed(chain: list[Path], tmp_path: Path) -> None:
    base, sn1, sn2, sn3 = chain

    def notes() -> dict[str, str]:
        rows = [line for line in backchain("graph", "--ascii", tmp_path).stdout.splitlines() if ".qcow2" in line]
        return {row.split(".qcow2")[0].split()[-1]: row.partition("64 KiB")[2].strip() for row in rows}

    states = [i["state"] for i in document(backchain("graph", "--json", tmp_path))["images"]]
    stopped_amid("commit", "-b", base, sn2, number=signal.SIGKILL)
    mix = "reads a mix of before and after; commit sn2 into base"
    told_first = f"{mix} again, or recover --finish"
    assert notes() == {"base": told_first, "sn1": told_first, "sn2": "", "sn3": ""}
    done = backchain("recover", "--undo", "-y", tmp_path)
    assert "base.qcow2 may read a mix of before and after until the same is committed again" in done.stdout
    assert notes() == {"base": f"{mix} after all", "sn1": f"{mix} after all", "sn2": "", "sn3": ""}
    assert [i["state"] for i in document(backchain("graph", "--json", tmp_path))["images"]] == states
    sn2.rename(tmp_path / "gone")
    assert notes()["base"].endswith("whose top is no longer here")
    (tmp_path / "gone").rename(sn2)
    assert backchain("commit", "-y", "-b", base, sn2).returncode == 0
    assert "mix" not in " ".join(notes().values())
    assert backing(sn3) == "base.qcow2"
    assert sn1.exists()
