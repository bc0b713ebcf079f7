"""What a plan that must not run is refused with, and the codes of all hazards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import backchain
from backchain.engines.base import Result
from backchain.engines.builtin import BuiltinEngine
from backchain.errors import BackchainError, BlockedError, ImageInUseError, JobCancelledError
from backchain.jobs import Job
from backchain.plan import HAZARD_CODES

from . import qemu
from .images import chain_of
from .planned import commit, rebase, run


@pytest.mark.parametrize(
    ("forced", "error", "message"),
    [
        ((), BlockedError, "unsafe-rebase: .* (and 1 more: in-use)"),
        (("in-use",), BlockedError, "unsafe-rebase: .* (and 1 more: in-use)"),
        (("unsafe-rebase",), ImageInUseError, "in-use: .*"),
    ],
)
def test_an_image_in_use_is_the_reason_only_if_nothing_else_is(
    tmp_path: Path, forced: tuple[str, ...], error: type[BackchainError], message: str
) -> None:
    """To wait until it is free must be enough; a lost backing file does not come back so."""
    old, orphan = chain_of(tmp_path, "old", "orphan")
    base = chain_of(tmp_path, "base")[0]
    with qemu.held_open(orphan):
        old.unlink()
        plan = rebase(orphan, base, unsafe=True)
        assert [h.code for h in plan.stopping()] == ["in-use", "unsafe-rebase"]
        pattern = message.replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(error, match=f"^{pattern}$") as caught:
            run(plan, *forced)
        assert str(plan.refusal(frozenset(forced))) == str(caught.value)
    assert plan.refusal(frozenset({"in-use", "unsafe-rebase"})) is not None, "what blocks cannot be forced"
    assert rebase(orphan, base, unsafe=True).refusal(frozenset({"unsafe-rebase"})) is None


def test_the_result_of_a_run_that_was_not_begun_or_did_not_end_well(tmp_path: Path) -> None:
    base, top = chain_of(tmp_path, "base", "top")
    plan = commit(base, top)
    assert plan.refusal() is None
    blocked = Result.unfinished(Job(plan), BlockedError("no", "not so")).to_json()
    assert (blocked["status"], blocked["error"], blocked["clusters"], blocked["verified"]) == ("blocked", "no", 0, "no")
    job = Job(plan)
    job.cancel()
    with pytest.raises(JobCancelledError) as caught:
        BuiltinEngine().run(plan, job)
    assert Result.unfinished(job, caught.value).to_json()["status"] == "cancelled"
    top.unlink()
    job = Job(plan)
    with pytest.raises(BackchainError) as gone:
        BuiltinEngine().run(plan, job)
    assert Result.unfinished(job, gone.value).to_json()["status"] == "failed"


def test_every_hazard_has_a_code_of_the_table() -> None:
    folder = Path(backchain.__file__).parent
    used = {
        call.args[0].value
        for path in sorted(folder.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Hazard"
        if isinstance(call.args[0], ast.Constant)
    }
    assert len(used) > 10
    assert used <= set(HAZARD_CODES)
