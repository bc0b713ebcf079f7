"""An operation: it is chosen, its plan shown, run, and watched, all in the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container

from backchain.operations import Commit
from backchain.plan import Severity
from backchain_tui import plan_words
from backchain_tui.actions import Where, bindings
from backchain_tui.choice import End, RangeChoice
from backchain_tui.describe import Row
from backchain_tui.screens.preview import PreviewScreen
from backchain_tui.screens.question import Answer, Question
from backchain_tui.widgets.bars import KeyBar, TitleBar
from backchain_tui.widgets.cluster_map import ClusterMap
from backchain_tui.widgets.job_panel import JobPanel
from backchain_tui.widgets.panes import Panes
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from backchain.plan import Plan
    from backchain_tui.diagram.widget import ChainDiagram


class OperationScreen(PreviewScreen):
    """Preview, run, end; gives True when something was run, so that the forest is read anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.BROWSE),
        Binding("enter", "run", "Run", show=False, priority=True),
        Binding("enter", "explain", "Why not", show=False, priority=True),
        Binding("enter", "finish", "Back", show=False, priority=True),
    ]

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
        """Draw the forest, put the cursor on what is to be chosen, plan."""
        diagram = await self.mount_diagram()
        diagram.cursor = self.choice.image or self.choice.top
        diagram.in_use = self.session.in_use
        diagram.show_graph(self.graph, self.session.sparklines)
        self.start_clock()
        self._follow()
        self.replan()

    # --- choosing -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Put the diagram's cursor on what is being chosen."""
        if self.diagram is not None and self.choice.image is not None:
            self.diagram.cursor = self.choice.image

    def on_chain_diagram_cursor_moved(self, message: ChainDiagram.CursorMoved) -> None:
        """Choose the image under the cursor."""
        late = self.diagram is None or message.image != self.diagram.cursor
        if late or Where.CHOOSING not in self.where() or message.image == self.choice.image:
            return
        self._say(self.choice.move(message.image))

    def action_move_end(self) -> None:
        """Give the arrows to the diagram, which moves the end."""
        self.action_focus_diagram()

    def action_switch_end(self) -> None:
        """Choose the other end of the range."""
        if isinstance(self.choice, RangeChoice):
            self.choice.switch()
            self._follow()
            self.show_choice()

    def action_choose_base(self) -> None:
        """Make the image under the cursor the base, and go on choosing the base."""
        self._choose(End.BASE)

    def action_choose_top(self) -> None:
        """Make the image under the cursor the top, and go on choosing the top."""
        self._choose(End.TOP)

    def _choose(self, end: End) -> None:
        image = self.image()
        if image is None or not isinstance(self.choice, RangeChoice):
            return
        problem = self.choice.set_base(image) if end is End.BASE else self.choice.set_top(image)
        if not problem:
            self.choice.end = end
        self._say(problem)

    def action_no_base(self) -> None:
        """Pull everything, or down to the base again."""
        if isinstance(self.choice, RangeChoice):
            self.choice.toggle_base()
            self._follow()
            self.replan()

    def _say(self, problem: str) -> None:
        if problem:
            self.notify(f"{problem}.", severity="warning", markup=False, timeout=4)
        else:
            self.replan()

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

    def start(self, plan: Plan, forced: frozenset[str]) -> None:
        """Run a plan; the panel then tells of it as of something that happens."""
        super().start(plan, forced)
        if self.job_run is not None:
            self.show_rows()

    # --- leaving --------------------------------------------------------------------------------------------------

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
