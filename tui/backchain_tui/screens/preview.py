"""The preview of an operation: what is chosen is planned in the background, and shown as picture, words and map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.errors import BackchainError
from backchain.operations import Commit, Delete, Pull, Rebase, Snapshot
from backchain.plan import Severity
from backchain_tui import describe, plan_words
from backchain_tui.actions import Where
from backchain_tui.agenda import Agenda
from backchain_tui.background import Latest, in_background
from backchain_tui.describe import Row, Tone
from backchain_tui.screens.running import RunningScreen
from backchain_tui.sketch import sketch
from backchain_tui.widgets.bars import TitleBar
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from textual.timer import Timer

    from backchain.graph import ChainGraph
    from backchain.jobs import Job
    from backchain.operations import Operation
    from backchain.plan import Plan
    from backchain_tui.choice import Choice
    from backchain_tui.session import Session

PLAN_DELAY = 0.05
"""Seconds that a choice must stand before it is planned."""

SLOW = 0.4
"""Seconds after which a plan that is not there yet is said to take its time, and a sketch is shown."""

_KINDS: Mapping[type[Operation], frozenset[Where]] = {
    Commit: frozenset({Where.RANGE}),
    Pull: frozenset({Where.RANGE, Where.BASELESS}),
    Rebase: frozenset({Where.REBASE, Where.BASELESS}),
    Snapshot: frozenset({Where.SNAPSHOT}),
    Delete: frozenset(),
}
"""What an operation's kind makes the case."""


class PreviewScreen(RunningScreen):
    """The part of an operation's screen that plans, and shows the plan.

    Attributes:
        graph: The forest.
        choice: What is chosen.
        agenda: What follows.
    """

    graph: ChainGraph

    def __init__(self, session: Session, graph: ChainGraph, choice: Choice, agenda: Agenda | None = None) -> None:
        """Make the screen.

        Args:
            session: What is looked at.
            graph: The forest.
            choice: What is to be done.
            agenda: What follows, and how the forest is read anew; None for nothing, and as the session reads it.
        """
        super().__init__(session)
        self.graph = graph
        self.choice = choice
        self.agenda = agenda or Agenda(session.read)
        self._own_map = True
        self._problem = ""
        self._free: int | None = None
        self._number = 0
        self._slow = False
        self._plan_timers: list[Timer] = []
        self._planner = Latest(self)

    def on_unmount(self) -> None:
        """Have a plan that is being made end: nobody waits for it any more."""
        self._planner.forget()

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        now = {Where.OPERATION, *_KINDS[self.choice.kind], self.keyboard_where()}
        if self.map.view is not None:
            now.add(Where.MAPPED)
        if self.plan is not None:
            blocked = any(h.severity is Severity.BLOCK for h in self.plan.hazards)
            now.add(Where.BLOCKED if blocked else Where.READY)
            if plan_words.commands_elsewhere(self.plan):
                now.add(Where.COMMANDS)
        if self.running and not self.cancellable:  # it is tidied up after
            return frozenset(now | {Where.ZOOM_KEYS})
        if self.running:
            paused = self.job_run is not None and self.job_run.job.state == "paused"
            keys = Where.ZOOM_KEYS if self.map.has_focus else Where.SPEED_KEYS
            return frozenset(now | {Where.RUNNING, Where.PAUSED if paused else Where.MOVING, keys})
        return frozenset(now | {Where.IDLE, Where.ZOOM_KEYS, Where.ENDED if self.ended else Where.CHOOSING})

    # --- planning -------------------------------------------------------------------------------------------------

    def replan(self) -> None:
        """Plan what is chosen now, soon; a later choice takes the place of this one."""
        self._number += 1
        self.plan, self._problem = None, self.choice.pointless()
        self._slow = False
        self._planner.forget()
        for timer in self._plan_timers:
            timer.stop()
        number = self._number
        if self._problem:
            self._plan_timers = []
            if self.diagram is not None:
                self.diagram.show_plan(None)
        else:
            self._plan_timers = [
                self.set_timer(PLAN_DELAY, lambda: self._start_plan(number)),
                self.set_timer(PLAN_DELAY + SLOW, lambda: self._say_slow(number)),
            ]
        self.show_choice()

    def _start_plan(self, number: int) -> None:
        graph, operation = self.graph, self.choice.operation()
        self._planner.ask(
            lambda pause: self.session.plan(graph, operation, pause),
            lambda found: self._planned(number, *found),
            lambda error: self._not_planned(number, error),
        )

    def _current(self, number: int) -> bool:
        return number == self._number and self.is_mounted and self.diagram is not None

    def _planned(self, number: int, plan: Plan, free: int | None) -> None:
        if self._current(number):
            self.plan, self._free = plan, free
            self._show_plan()

    def _not_planned(self, number: int, error: BackchainError) -> None:
        if self._current(number):
            self._problem = str(error)
            self._show_plan()

    def _say_slow(self, number: int) -> None:
        """Show what is known already, while the plan takes its time."""
        if not self._current(number) or self.plan is not None or self._problem:
            return
        assert self.diagram is not None
        self._slow = True
        try:
            drawn = sketch(self.graph, self.choice.operation())
        except BackchainError:
            drawn = None
        self.diagram.show_plan(drawn, pending=True)
        self.show_choice()

    def _show_plan(self) -> None:
        assert self.diagram is not None
        self.diagram.show_plan(self.plan)
        self.show_choice()
        self.update_map()

    # --- showing --------------------------------------------------------------------------------------------------

    def show_forest(self) -> None:
        """Draw the forest with the cursor on what is to be chosen; nobody has chosen that by an arrow."""
        from backchain_tui.diagram.widget import ChainDiagram

        assert self.diagram is not None
        with self.diagram.prevent(ChainDiagram.CursorMoved):
            self.diagram.show_graph(self.graph, self.session.sparklines)
            self.diagram.cursor = self.choice.image or self.choice.top

    def show_choice(self) -> None:
        """Show what is chosen, and what is known of it."""
        self.entitle(plan_words.title(self.plan) if self.plan is not None else self.choice.kind.name)
        self.query_one(TitleBar).tell(self.choice.told(), self.agenda.title)
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
            return self._waiting_rows()
        hazards = plan_words.hazard_rows(self.plan, ascii_only=self.backchain.ascii_only)
        heading = plan_words.hazard_heading(self.plan)
        if self.job_run is not None:
            heading = self._run_heading(self.job_run.job)
        urgent = bool(self.plan.stopping())
        return [
            heading,
            *(hazards if urgent else []),
            Row("", " ".join(plan_words.plan_sentences(self.plan))),
            *plan_words.plan_rows(self.plan, self._free),
            *([] if urgent else hazards),
        ]

    def _run_heading(self, job: Job) -> Row:
        """Say what the plan is to the last job, which may have failed, and may be the removal of leftovers."""
        if not self.ended:
            return Row("", "The plan that is run:")
        if job.plan is self.plan and job.error is not None:
            return Row("", "The plan that did not come to its end:", Tone.BAD)
        return Row("", "The plan that was run:")

    def _waiting_rows(self) -> list[Row]:
        """Say why there is no plan."""
        if self._problem:
            return [Row("", self._problem, Tone.BAD)]
        if not self._slow:
            return [Row("", "Planning…", Tone.FAINT)]
        rebase = isinstance(self.choice.operation(), Rebase)
        what = "Comparing what the old and the new backing file hold…" if rebase else "Reading the images…"
        rest = "Nothing is written. Another choice may be made meanwhile; esc leaves."
        return [Row("", what, Tone.STRONG), Row("", rest, Tone.FAINT)]

    def _command_rows(self) -> list[Row]:
        if self.plan is None:
            return []
        rows: list[Row] = []
        last = ""
        commands = plan_words.commands_elsewhere(self.plan)
        if not commands:
            rows.append(Row("", plan_words.NO_COMMANDS, Tone.WARN))
        for tool, command in commands:
            if tool != last:
                rows.append(Row("", tool, Tone.FAINT))
            rows.append(Row("", describe.printable_lines(command), Tone.CODE))
            last = tool
        if commands and (note := plan_words.commands_note(self.plan)):
            rows.append(Row("", note, Tone.WARN))
        return rows

    def update_map(self) -> None:
        """Map the target's own clusters with the work laid over them, or the whole chain."""
        if self.plan is None:
            self.no_map("No map without a plan.")
            return
        from backchain.jobs import Job
        from backchain_tui.jobgrid import JobGrid

        plan = self.plan
        subject = plan.target if plan.copies and self._own_map else self.choice.top
        if not plan.copies:
            self.map_image(subject, own=self._own_map)
            return
        job = self.job_run.job if self.job_run is not None else Job(plan)
        grid, size = JobGrid(plan.copy_list, job.cells), plan.after[plan.target].virtual_size
        self.map_image(subject, own=self._own_map, job=grid, size=size)

    # --- after a job ----------------------------------------------------------------------------------------------

    def job_over(self) -> None:
        """Read the images anew: their sizes and links are no longer those of the plan."""
        self.show_rows()
        in_background(self, self.agenda.read, self._take_in, lambda _: None)

    def _take_in(self, graph: ChainGraph) -> None:
        """Keep the forest as it is now, and map that."""
        if self.ended and self.is_mounted:
            self.graph = graph
            self.update_map()
