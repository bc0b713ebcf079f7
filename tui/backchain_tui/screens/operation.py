"""An operation: it is chosen, its plan shown, run, and watched, all in the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container

from backchain.image import ImageId
from backchain.operations import Delete
from backchain_tui import describe, plan_words
from backchain_tui.actions import Where, bindings
from backchain_tui.choice import End, RangeChoice, RebaseChoice, SnapshotChoice
from backchain_tui.describe import Row
from backchain_tui.screens.aftermath import AftermathScreen
from backchain_tui.screens.naming import NamingScreen
from backchain_tui.screens.picker import Item, Picker
from backchain_tui.widgets.bars import KeyBar, TitleBar
from backchain_tui.widgets.cluster_map import ClusterMap
from backchain_tui.widgets.job_panel import JobPanel
from backchain_tui.widgets.panes import Panes
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult

    from backchain.plan import Plan
    from backchain_tui.diagram.widget import ChainDiagram


class OperationScreen(AftermathScreen):
    """Preview, run, end; gives True when something was run, so that the forest is read anew."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.BROWSE),
        Binding("enter", "run", "Run", show=False, priority=True),
        Binding("enter", "next_step", "Next step", show=False, priority=True),
        Binding("enter", "explain", "Why not", show=False, priority=True),
        Binding("enter", "finish", "Back", show=False, priority=True),
        Binding("enter", "wait_for_plan", "Wait", show=False, priority=True),
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
        diagram.in_use = self.session.in_use
        self.show_forest()
        self.start_clock()
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
        """Have no backing file at all, or one again."""
        if isinstance(self.choice, RangeChoice | RebaseChoice):
            self.choice.toggle_base()
            self._follow()
            self.replan()

    def action_move_base(self) -> None:
        """Give the arrows to the diagram, which moves the new base."""
        self.action_focus_diagram()

    def action_unsafe(self) -> None:
        """Change the link alone, or copy first what differs."""
        if isinstance(self.choice, RebaseChoice):
            self.choice.toggle_unsafe()
            self.replan()

    def action_other_base(self) -> None:
        """Choose the new backing file from a list."""
        if not isinstance(self.choice, RebaseChoice):
            return
        choice, images = self.choice, self.choice.candidates()
        if not images:
            self.notify("No other image can be the backing file.", severity="warning", markup=False)
            return
        items = [Item(i, self.graph[i].label, describe.base_text(self.graph, choice.top, i)) for i in images]
        title = f"A new backing file for {self.graph[choice.top].label}"
        picker = Picker(title, items, hint="type to narrow the list down", current=choice.backing or "")
        self.app.push_screen(picker, self._take_base)

    def _take_base(self, key: str | None) -> None:
        if key:
            self._say(self.choice.move(ImageId(key)))
            self._follow()

    def action_other_name(self) -> None:
        """Call the new overlay otherwise."""
        if isinstance(self.choice, SnapshotChoice):
            info, path = self.graph[self.choice.top], self.choice.overlay
            typed = path.name if path.parent == info.path.parent else str(path)
            self.app.push_screen(NamingScreen(info, typed), self._take_name)

    def _take_name(self, path: Path | None) -> None:
        if path is not None and isinstance(self.choice, SnapshotChoice):
            self.choice.overlay = path
            self.replan()

    def _say(self, problem: str) -> None:
        if problem:
            self.notify(f"{problem}.", severity="warning", markup=False, timeout=4)
        else:
            self.replan()

    def action_copy_commands(self) -> None:
        """Copy the commands, and say so."""
        if self.plan is not None:
            commands = plan_words.commands_elsewhere(self.plan)
            self.app.copy_to_clipboard("\n".join(f"# {tool}\n{command}" for tool, command in commands))
            self.notify("Sent to the clipboard; 3 shows them.", markup=False, timeout=2)

    # --- running --------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Run the plan, after the questions that its hazards ask; a removal asks even in a lab."""
        if self.plan is not None:
            plan = self.plan
            at_once = self.session.lab and not isinstance(plan.operation, Delete)
            self.ask(plan, lambda forced: self.start(plan, forced), at_once=at_once)

    def action_wait_for_plan(self) -> None:
        """Say that nothing is run which was not shown: the plan is not there yet."""
        if Where.CHOOSING in self.where() and not self._problem:
            self.notify("The plan is not there yet; once it is, Enter runs it.", markup=False, timeout=3)

    def action_explain(self) -> None:
        """Say why the plan cannot be run."""
        if self.plan is not None:
            self.explain(self.plan)

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
        self.backchain.clear_notes()
        self.dismiss(self.changed)

    def help_rows(self) -> list[Row]:
        """Say what is going on."""
        rows = [Row("", plan_words.meaning(self.choice.operation()))]
        return [*rows, Row("", " ".join(plan_words.plan_sentences(self.plan)))] if self.plan is not None else rows
