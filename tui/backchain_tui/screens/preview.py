"""The preview of an operation: what is chosen is planned in the background, and shown as picture, words and map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.operations import Commit, Pull
from backchain.plan import Severity
from backchain_tui import describe, plan_words
from backchain_tui.actions import Where
from backchain_tui.background import in_background
from backchain_tui.describe import Row, Tone
from backchain_tui.screens.running import RunningScreen
from backchain_tui.widgets.bars import TitleBar
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textual.timer import Timer

    from backchain.errors import BackchainError
    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.plan import Plan
    from backchain_tui.choice import Choice
    from backchain_tui.session import Session

PLAN_DELAY = 0.05
"""Seconds that a choice must stand before it is planned."""

_KINDS: Mapping[type[Operation], frozenset[Where]] = {
    Commit: frozenset({Where.COMMIT}),
    Pull: frozenset({Where.PULL}),
}
"""What an operation's kind makes the case."""


class PreviewScreen(RunningScreen):
    """The part of an operation's screen that plans, and shows the plan.

    Attributes:
        graph: The forest.
        choice: What is chosen.
    """

    graph: ChainGraph

    def __init__(self, session: Session, graph: ChainGraph, choice: Choice) -> None:
        """Make the screen.

        Args:
            session: What is looked at.
            graph: The forest.
            choice: What is to be done.
        """
        super().__init__(session)
        self.graph = graph
        self.choice = choice
        self._own_map = True
        self._problem = ""
        self._free: int | None = None
        self._number = 0
        self._plan_timer: Timer | None = None

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        now = {Where.OPERATION, *_KINDS[self.choice.kind]}
        if self.map.view is not None:
            now.add(Where.MAPPED)
        if self.plan is not None:
            blocked = any(h.severity is Severity.BLOCK for h in self.plan.hazards)
            now |= {Where.PLANNED, Where.BLOCKED if blocked else Where.READY}
        if self.running:
            paused = self.job_run is not None and self.job_run.job.state == "paused"
            return frozenset(now | {Where.RUNNING, Where.PAUSED if paused else Where.MOVING})
        return frozenset(now | {Where.IDLE, Where.ENDED if self.ended else Where.CHOOSING})

    # --- planning -------------------------------------------------------------------------------------------------

    def replan(self) -> None:
        """Plan what is chosen now, soon; a later choice takes the place of this one."""
        self._number += 1
        self.plan, self._problem = None, ""
        if self._plan_timer is not None:
            self._plan_timer.stop()
        number = self._number
        self._plan_timer = self.set_timer(PLAN_DELAY, lambda: self._start_plan(number))
        self.show_choice()

    def _start_plan(self, number: int) -> None:
        graph, operation = self.graph, self.choice.operation()
        in_background(
            self,
            lambda: self.session.plan(graph, operation),
            lambda found: self._planned(number, *found),
            lambda error: self._not_planned(number, error),
        )

    def _planned(self, number: int, plan: Plan, free: int | None) -> None:
        if number == self._number and self.is_mounted and self.diagram is not None:
            self.plan, self._free = plan, free
            self._show_plan()

    def _not_planned(self, number: int, error: BackchainError) -> None:
        if number == self._number and self.is_mounted and self.diagram is not None:
            self._problem = str(error)
            self._show_plan()

    def _show_plan(self) -> None:
        assert self.diagram is not None
        self.diagram.show_plan(self.plan)
        self.show_choice()
        self.update_map()

    # --- showing --------------------------------------------------------------------------------------------------

    def show_choice(self) -> None:
        """Show what is chosen, and what is known of it."""
        if self.plan is not None:
            self.entitle(plan_words.title(self.plan))
        self.query_one(TitleBar).tell(self.choice.told())
        if self.diagram is not None:
            self.diagram.mark(self.choice.marks())
        self.show_rows()
        self.query_one("#commands", RowsPanel).show(self._command_rows())
        self.refresh_bindings()

    def show_rows(self) -> None:
        """Show the plan in words."""
        self.query_one("#plan", RowsPanel).show(self._plan_rows())

    def _plan_rows(self) -> list[Row]:
        if self.plan is None:
            return [Row("", self._problem or "Planning…", Tone.BAD if self._problem else Tone.FAINT)]
        hazards = plan_words.hazard_rows(self.plan, ascii_only=self.backchain.ascii_only)
        heading = plan_words.hazard_heading(self.plan) if self.job_run is None else Row("", "The plan that is run:")
        urgent = bool(self.plan.stopping())
        return [
            heading,
            *(hazards if urgent else []),
            Row("", " ".join(plan_words.plan_sentences(self.plan))),
            *plan_words.plan_rows(self.plan, self._free),
            *([] if urgent else hazards),
        ]

    def _command_rows(self) -> list[Row]:
        if self.plan is None:
            return []
        rows: list[Row] = []
        last = ""
        for tool, command in self.plan.commands:
            if tool != last:
                rows.append(Row("", tool, Tone.FAINT))
            rows.append(Row("", describe.printable_lines(command), Tone.CODE))
            last = tool
        return rows

    def update_map(self) -> None:
        """Map the target's own clusters with the work laid over them, or the whole chain."""
        if self.plan is None:
            self.no_map("No map without a plan.")
            return
        from backchain.jobs import Job
        from backchain_tui.jobgrid import JobGrid

        plan = self.plan
        job = self.job_run.job if self.job_run is not None else Job(plan)
        size = int((plan.copy_list.starts[-1:] + plan.copy_list.counts[-1:]).sum()) * plan.copy_list.cluster_size
        images = [self.graph[plan.target]] if self._own_map else self.chain_infos(self.choice.top)
        self.request_map(images, own=self._own_map, job=JobGrid(plan.copy_list, job.cells), size=size)
