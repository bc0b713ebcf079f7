"""An operation: the range is chosen, the plan shown, run, and watched, all in the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container

from backchain.errors import BackchainError
from backchain.operations import Commit
from backchain.plan import Severity
from backchain_tui import describe, plan_words
from backchain_tui.actions import Where, bindings
from backchain_tui.choice import Choice, End
from backchain_tui.describe import Row, Tone
from backchain_tui.screens.question import Answer, Question
from backchain_tui.screens.running import RunningScreen
from backchain_tui.widgets.bars import KeyBar, TitleBar
from backchain_tui.widgets.cluster_map import ClusterMap
from backchain_tui.widgets.job_panel import JobPanel
from backchain_tui.widgets.panes import Panes
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Pull
    from backchain.plan import Plan
    from backchain_tui.diagram.widget import ChainDiagram
    from backchain_tui.session import Session

PLAN_DELAY = 0.05
"""Seconds that a range must stand before it is planned."""


class OperationScreen(RunningScreen):
    """Preview, run, end; gives True when something was run, so that the forest is read anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.BROWSE),
        Binding("enter", "run", "Run", show=False, priority=True),
        Binding("enter", "explain", "Why not", show=False, priority=True),
        Binding("enter", "finish", "Back", show=False, priority=True),
    ]

    def __init__(self, session: Session, graph: ChainGraph, kind: type[Commit | Pull], image: ImageId) -> None:
        """Begin an operation.

        Args:
            session: What is looked at.
            graph: The forest.
            kind: What is to be done.
            image: The image that was under the cursor.
        """
        super().__init__(session)
        self.graph = graph
        self.choice = Choice(graph, kind, image)
        self._own_map = True
        self._problem = ""
        self._free: int | None = None
        self._number = 0
        self._plan_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, picture, panes, the job's line, keys."""
        ascii_only = self.backchain.ascii_only
        yield TitleBar()
        yield Container(id="picture")
        plan, commands = RowsPanel("What will happen", id="plan"), RowsPanel("The same by command", id="commands")
        yield Panes(
            ["What will happen", "Cluster map", "Commands"],
            [plan, ClusterMap(ascii_only=ascii_only, id="map"), commands],
        )
        yield JobPanel(ascii_only=ascii_only, id="job")
        yield KeyBar()

    async def on_mount(self) -> None:
        """Draw the forest, put the cursor on the end to choose, plan."""
        assert self.graph is not None
        diagram = await self.mount_diagram()
        diagram.cursor = self.choice.image or self.choice.top
        diagram.in_use = self.session.in_use
        diagram.show_graph(self.graph, self.session.sparklines)
        self.start_clock()
        self._follow()
        self._replan()

    # --- choosing -------------------------------------------------------------------------------------------------

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        now = {Where.OPERATION, Where.COMMIT if self.choice.kind is Commit else Where.PULL}
        if self.map.view is not None:
            now.add(Where.MAPPED)
        if self.plan is not None:
            blocked = any(h.severity is Severity.BLOCK for h in self.plan.hazards)
            now |= {Where.PLANNED, Where.BLOCKED if blocked else Where.READY}
        if self.running:
            paused = self.job_run is not None and self.job_run.job.state == "paused"
            return frozenset(now | {Where.RUNNING, Where.PAUSED if paused else Where.MOVING})
        return frozenset(now | {Where.IDLE, Where.ENDED if self.ended else Where.CHOOSING})

    def _follow(self) -> None:
        """Put the diagram's cursor on the end that is being chosen."""
        if self.diagram is not None and self.choice.image is not None:
            self.diagram.cursor = self.choice.image

    def on_chain_diagram_cursor_moved(self, message: ChainDiagram.CursorMoved) -> None:
        """Move the end that is being chosen to the image under the cursor."""
        late = self.diagram is None or message.image != self.diagram.cursor
        if late or Where.CHOOSING not in self.where() or message.image == self.choice.image:
            return
        self._say(self.choice.move(message.image))

    def action_move_end(self) -> None:
        """Give the arrows to the diagram, which moves the end."""
        self.action_focus_diagram()

    def action_switch_end(self) -> None:
        """Choose the other end of the range."""
        self.choice.switch()
        self._follow()
        self._show_choice()

    def action_choose_base(self) -> None:
        """Make the image under the cursor the base, and go on choosing the base."""
        self._choose(End.BASE)

    def action_choose_top(self) -> None:
        """Make the image under the cursor the top, and go on choosing the top."""
        self._choose(End.TOP)

    def _choose(self, end: End) -> None:
        image = self.image()
        if image is None:
            return
        problem = self.choice.set_base(image) if end is End.BASE else self.choice.set_top(image)
        if not problem:
            self.choice.end = end
        self._say(problem)

    def action_no_base(self) -> None:
        """Pull everything, or down to the base again."""
        self.choice.toggle_base()
        self._follow()
        self._say("")

    def _say(self, problem: str) -> None:
        if problem:
            self.notify(f"{problem}.", severity="warning", markup=False, timeout=4)
        else:
            self._replan()

    # --- planning -------------------------------------------------------------------------------------------------

    def _replan(self) -> None:
        """Plan the range as it is now, soon; a later range takes the place of this one."""
        self._number += 1
        self.plan, self._problem = None, ""
        if self._plan_timer is not None:
            self._plan_timer.stop()
        number = self._number
        self._plan_timer = self.set_timer(PLAN_DELAY, lambda: self._start_plan(number))
        self._show_choice()

    def _start_plan(self, number: int) -> None:
        self.run_worker(
            lambda: self._make_plan(number), thread=True, exclusive=True, group="plan", exit_on_error=False
        )  # fmt: skip

    def _make_plan(self, number: int) -> None:
        assert self.graph is not None
        try:
            plan, free = self.session.plan(self.graph, self.choice.operation())
        except BackchainError as error:
            self.app.call_from_thread(self._planned, number, None, None, str(error))
        else:
            self.app.call_from_thread(self._planned, number, plan, free, "")

    def _planned(self, number: int, plan: Plan | None, free: int | None, problem: str) -> None:
        if number != self._number or not self.is_mounted or self.diagram is None:
            return
        self.plan, self._free, self._problem = plan, free, problem
        self.diagram.show_plan(plan)
        self._show_choice()
        self.update_map()

    def _show_choice(self) -> None:
        assert self.graph is not None
        choice, graph = self.choice, self.graph
        verb = "commit" if choice.kind is Commit else "pull"
        base = f"base {graph[choice.base].label}" if choice.base is not None else "no base"
        if self.plan is not None:
            self.entitle(plan_words.title(self.plan))
        choosing = "base" if choice.end is End.BASE else ("top" if choice.kind is Commit else "image")
        top_word = "top" if choice.kind is Commit else "image"
        self.query_one(TitleBar).tell(
            f"{verb}  ·  {top_word} {graph[choice.top].label}, {base}  ·  choosing the {choosing}"
        )
        if self.diagram is not None:
            self.diagram.mark_range(choice.base, choice.top, ("base", top_word))
        self.query_one("#plan", RowsPanel).show(self._plan_rows())
        self.query_one("#commands", RowsPanel).show(self._command_rows())
        self.refresh_bindings()

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
        if self.plan is None or self.graph is None:
            self.no_map("No map without a plan.")
            return
        from backchain.jobs import Job
        from backchain_tui.jobgrid import JobGrid

        plan = self.plan
        job = self.job_run.job if self.job_run is not None else Job(plan)
        size = int((plan.copy_list.starts[-1:] + plan.copy_list.counts[-1:]).sum()) * plan.copy_list.cluster_size
        images = [self.graph[plan.target]] if self._own_map else self.chain_infos(self.choice.top)
        self.request_map(images, own=self._own_map, job=JobGrid(plan.copy_list, job.cells), size=size)

    def action_copy_commands(self) -> None:
        """Copy the commands, and say so."""
        if self.plan is not None:
            self.app.copy_to_clipboard("\n".join(f"# {tool}\n{command}" for tool, command in self.plan.commands))
            self.notify("Commands sent to the clipboard (OSC 52; tmux may drop it: 3 shows them).", markup=False)

    # --- running --------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Run the plan, after the questions that its hazards ask."""
        if self.plan is not None:
            self._ask(self.plan, frozenset())

    def action_explain(self) -> None:
        """Say why the plan cannot be run."""
        hazards = [h for h in self.plan.hazards if h.severity is Severity.BLOCK] if self.plan is not None else []
        rows = [plan_words.hazard_row(h, ascii_only=self.backchain.ascii_only) for h in hazards]
        self.app.push_screen(Question("This cannot run", rows, [Answer("ok", "Back")]))

    def _ask(self, plan: Plan, forced: frozenset[str]) -> None:
        """Have every hazard confirmed by its code, one after the other, then run."""
        hazard = next((h for h in plan.stopping(forced)), None)
        if hazard is not None:
            rows = [plan_words.hazard_row(hazard, ascii_only=self.backchain.ascii_only)]
            question = Question(
                "Confirm", rows, [Answer("run", "Go on", "warning"), Answer("stay", "Cancel")], code=hazard.code
            )
            self.app.push_screen(
                question, lambda answer: self._ask(plan, forced | {hazard.code}) if answer == "run" else None
            )
        elif self.session.lab or forced:
            self.start(plan, forced)
        else:
            rows = [Row("", " ".join(plan_words.plan_sentences(plan)))]
            question = Question(
                f"Run this {plan.operation.name}?", rows, [Answer("stay", "Cancel"), Answer("run", "Run", "primary")]
            )
            self.app.push_screen(question, lambda answer: self.start(plan, forced) if answer == "run" else None)

    # --- leaving --------------------------------------------------------------------------------------------------

    def start(self, plan: Plan, forced: frozenset[str]) -> None:
        """Run a plan; the panel then tells of it as of something that happens."""
        super().start(plan, forced)
        if self.job_run is not None:
            self.query_one("#plan", RowsPanel).show(self._plan_rows())

    def action_finish(self) -> None:
        """Back to the forest, when the job is over."""
        self.action_leave()

    def action_leave(self) -> None:
        """Back to the forest."""
        self.dismiss(self.changed)

    def help_rows(self) -> list[Row]:
        """Say what is going on."""
        if self.choice.kind is Commit:
            text = ("A commit merges layers down: what lies above the base, up to the top, is copied into the base. "
                    "Those layers are invalid afterwards; what is above them is backed by the base.")  # fmt: skip
        else:
            text = ("A pull copies up: what lies between the base and the image is copied into the image, which is "
                    "then backed by the base. Nothing becomes invalid.")  # fmt: skip
        return [Row("", text), Row("", " ".join(plan_words.plan_sentences(self.plan)) if self.plan else "")]
