"""Pictures of the whole screen, from values alone: no file, no clock, no chance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backchain.pausing import go_on
from backchain_tui.app import BackchainApp
from backchain_tui.session import Session
from tests.tui.builders import commit, five, forest, pull, sibling_hazard
from tests.tui.driving import picture, planned, until

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.pausing import Pause
    from backchain.plan import Plan


class ValueSession(Session):
    """A session that reads a graph out of memory."""

    graph: ChainGraph
    hazards: tuple[Any, ...] = ()

    def read(self) -> ChainGraph:
        return self.graph

    def plan(self, graph: ChainGraph, operation: Operation, pause: Pause = go_on) -> tuple[Plan, int | None]:
        from backchain.operations import Commit

        pause()
        if isinstance(operation, Commit):
            return commit(graph, operation.base, operation.top, hazards=self.hazards), 80 << 30
        return pull(graph, operation.image, operation.base), 80 << 30


def application(graph: ChainGraph, *hazards: Any, **options: Any) -> BackchainApp:
    app = BackchainApp([Path("/lab")], frames=0, **options)
    app.session = ValueSession((Path("/lab"),))
    app.session.graph = graph
    app.session.hazards = hazards
    return app


async def settled(pilot: Pilot[None]) -> None:
    app = pilot.app
    assert isinstance(app, BackchainApp)
    await until(pilot, lambda: picture(app).diagram is not None and picture(app).image() is not None)
    await until(pilot, lambda: not app.screen.workers._workers)
    await pilot.pause(0.3)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
def test_forest(snap_compare: Any, size: tuple[int, int]) -> None:
    graph = forest({"Golden": None, "Web-1": "Golden", "Web-2": "Web-1", "Mail-1": "Golden", "RootBase": None,
                    "Snap-1": "RootBase", "Snap-2": "Snap-1", "Snap-3": "Snap-2"})  # fmt: skip
    assert snap_compare(application(graph), terminal_size=size, run_before=settled)


@pytest.mark.parametrize("keys", [("c",), ("p",), ("p", "n")])
def test_preview(snap_compare: Any, keys: tuple[str, ...]) -> None:
    async def choose(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press(*keys)
        assert isinstance(pilot.app, BackchainApp)
        await planned(pilot.app, pilot)
        await settled(pilot)

    assert snap_compare(application(five()), terminal_size=(120, 40), run_before=choose)


def test_blocked_preview_on_a_small_light_terminal(snap_compare: Any) -> None:
    async def choose(pilot: Pilot[None]) -> None:
        await settled(pilot)
        await pilot.press("T", "c")
        assert isinstance(pilot.app, BackchainApp)
        await planned(pilot.app, pilot)
        await settled(pilot)

    graph = forest({"Golden": None, "Web": "Golden", "Mail": "Golden"})
    app = application(graph, sibling_hazard("Mail"))
    assert snap_compare(app, terminal_size=(80, 24), run_before=choose)


def test_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(application(five(), ascii_only=True), terminal_size=(100, 30), run_before=settled)
