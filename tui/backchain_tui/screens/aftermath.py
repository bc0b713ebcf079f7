"""What follows the end of a job: leftovers are removed, the next step is taken, a changed chain is planned anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backchain.errors import BackchainError, StalePlanError
from backchain.operations import Delete
from backchain.plan import Severity
from backchain_tui import describe, plan_words
from backchain_tui import formatting as fmt
from backchain_tui.actions import Where
from backchain_tui.background import in_background
from backchain_tui.choice import choice_of, renewed
from backchain_tui.describe import Row, Tone
from backchain_tui.recovery_words import sentence, tidied_text
from backchain_tui.screens.consent import agreement, confirmation
from backchain_tui.screens.preview import PreviewScreen
from backchain_tui.screens.question import Answer, Question
from backchain_tui.speed import Speed
from backchain_tui.widgets.job_panel import JobPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    from backchain.graph import ChainGraph
    from backchain.image import ImageId
    from backchain.operations import Operation
    from backchain.plan import Plan
    from backchain.recovery import Tidied
    from backchain_tui.choice import Choice
    from backchain_tui.runner import Run


class AftermathScreen(PreviewScreen):
    """The part of an operation's screen that has to do with what comes after its job."""

    _leftovers: tuple[ImageId, ...] = ()
    _next = False
    _stepping = False

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        now = super().where()
        if Where.ENDED not in now:
            return now
        found = {Where.LEFTOVERS} if self._leftovers else set()
        return now | found | {Where.NEXT if self._next else Where.LAST}

    # --- questions ------------------------------------------------------------------------------------------------

    def ask(self, plan: Plan, run: Callable[[frozenset[str]], None], *, at_once: bool = False) -> None:
        """Have every code of the hazards that stop a plan confirmed, one after the other, then run.

        Args:
            plan: What is to be run; nothing blocks it.
            run: Takes the codes that were confirmed.
            at_once: Where there is nothing to confirm, do not ask at all.
        """
        self._ask(plan, run, frozenset(), at_once=at_once)

    def _ask(
        self, plan: Plan, run: Callable[[frozenset[str]], None], forced: frozenset[str], *, at_once: bool
    ) -> None:  # fmt: skip
        ascii_only = self.backchain.ascii_only
        hazard = next((h for h in plan.stopping(forced)), None)
        if hazard is not None:
            self.app.push_screen(
                confirmation(plan, hazard, ascii_only=ascii_only),
                lambda answer: self._ask(plan, run, forced | {hazard.code}, at_once=at_once)
                if answer == "run" else None,
            )  # fmt: skip
        elif at_once or forced:
            run(forced)
        else:
            question = agreement(plan, ascii_only=ascii_only)
            self.app.push_screen(question, lambda answer: run(forced) if answer == "run" else None)

    def explain(self, plan: Plan) -> None:
        """Say what blocks a plan."""
        hazards = [h for h in plan.hazards if h.severity is Severity.BLOCK]
        rows = [plan_words.hazard_row(h, ascii_only=self.backchain.ascii_only) for h in hazards]
        self.app.push_screen(Question("This cannot run", rows, [Answer("ok", "Back")]))

    # --- the end of a job -----------------------------------------------------------------------------------------

    def sequel(self, plan: Plan) -> Tidied | None:
        """Tidy up after the last step, however the screen is left then."""
        return self.agenda.settle(plan.operation) if plan is self.plan else None

    def job_done(self, run: Run) -> None:
        """Show that a job has ended well, and offer what may follow."""
        plan = run.job.plan
        if plan is not self.plan:
            self._removed(run)
            return
        super().job_done(run)
        self._leftovers = () if isinstance(plan.operation, Delete) else plan.removable
        self._next = self.agenda.more
        words = [plan_words.closing(plan, run.job.progress()), plan_words.verified_words(run.verified)]
        if self._leftovers:
            words.append(f"D removes {'it' if len(self._leftovers) == 1 else 'them'}.")
        if self._next:
            words.append("Enter goes on.")
        self.tell_end(run, " ".join(filter(None, words)), "done")
        self.show_rows()
        if run.problem is not None:
            self.complain(run.problem)
        elif run.tidied is not None:
            self._all_done(run.tidied)

    def job_failed(self, run: Run, error: BackchainError) -> None:
        """Show that a job has failed; where the chain has changed, plan again."""
        if isinstance(error, StalePlanError) and run.job.plan is self.plan:
            self._plan_again(error)
        else:
            super().job_failed(run, error)

    # --- a chain that has changed ---------------------------------------------------------------------------------

    def _plan_again(self, error: StalePlanError) -> None:
        """Read the chain anew and plan the same on it; whoever agreed to the old plan looks at the new one first."""
        rows = [
            Row("", f"{error.message}.", Tone.WARN),
            Row("", "Nothing was written. The images are read anew, and the same is planned again: look at the new "
                    "plan, and run it if it still is what you want."),
        ]  # fmt: skip
        self.app.push_screen(Question(error.title, rows, [Answer("ok", "Show the new plan", "primary")]))
        in_background(self, self.agenda.read, self._read_again, self._cannot_go_on)

    def _read_again(self, graph: ChainGraph) -> None:
        choice = renewed(self.choice, graph)
        if choice is None:
            self._cannot_go_on(StalePlanError("one of the images is gone", "choose anew in the forest"))
        else:
            self.begin(graph, choice)

    def _cannot_go_on(self, error: BackchainError) -> None:
        self._stepping = False
        if self.is_mounted:
            self.complain(error)

    def begin(self, graph: ChainGraph, choice: Choice) -> None:
        """Choose, plan and run anew, in the same picture.

        Args:
            graph: The forest as it is now.
            choice: What is to be done.
        """
        if not self.is_mounted or self.diagram is None:
            return
        self.graph, self.choice = graph, choice
        self.job_run, self.ended = None, False
        self._leftovers, self._next = (), False
        self.query_one("#job", JobPanel).display = False
        self.diagram.strike(())
        self.picture.border_subtitle = ""
        self.show_forest()
        self.panes.choose(0)
        self.replan()

    # --- leftovers ------------------------------------------------------------------------------------------------

    def action_remove_leftovers(self) -> None:
        """Plan the removal of what the operation has left behind."""
        if self.plan is not None and self._leftovers:
            plan = self.plan
            in_background(self, lambda: self._plan_removal(plan), self._ask_removal, self._cannot_go_on)

    def _plan_removal(self, plan: Plan) -> Plan | None:
        """Read the leftovers anew, as a deletion is planned on what there is now; None when all are gone."""
        paths = [p for i in self._leftovers if (p := plan.before[i].path).exists()]
        if not paths:
            return None
        graph = self.session.around(paths, plan.before.surroundings.roots)
        wanted = {p.stat().st_ino for p in paths}
        images = tuple(
            i for i in graph if (f := graph[i].fingerprint) is not None and f.inode in wanted and graph[i].path in paths
        )
        return self.session.plan(graph, Delete(images))[0]

    def _ask_removal(self, plan: Plan | None) -> None:
        if self.app.screen is not self or not self._leftovers:
            return
        if plan is None:
            self._leftovers = ()
            self.notify("They are gone already.", markup=False)
            self.refresh_bindings()
        elif any(h.severity is Severity.BLOCK for h in plan.hazards):
            self.explain(plan)
        else:
            self.ask(plan, lambda forced: self.launch(plan, forced, Speed()))

    def _removed(self, run: Run) -> None:
        """Strike the leftovers through, and say what is gone."""
        assert self.diagram is not None
        plan = run.job.plan
        self.diagram.strike(self._leftovers)
        freed = sum(plan.before[i].disk_size or 0 for i in plan.removable)
        self._leftovers = ()
        many = "are" if len(plan.removable) > 1 else "is"
        text = f"Done: {describe.labels(plan.before, plan.removable)} {many} removed, {fmt.size(freed)} given back."
        self.tell_end(run, text + (" Enter goes on." if self._next else ""), "done")

    # --- the next step --------------------------------------------------------------------------------------------

    def action_next_step(self) -> None:
        """Read the images anew and plan the next step, if there is one."""
        if self._stepping:
            return
        self._stepping = True
        done = self.choice.operation()
        in_background(self, lambda: self.agenda.following(done), self._go_on, self._cannot_go_on)

    def _go_on(self, step: tuple[ChainGraph, Operation] | None) -> None:
        if not self.is_mounted:
            return
        if step is not None:
            self._stepping = False
            self.begin(step[0], choice_of(*step))
            return
        self.run_worker(self._close_agenda, thread=True, group="agenda", exit_on_error=False)

    def _close_agenda(self) -> None:
        """Tidy up after the last step; in a worker, as it may write."""
        try:
            tidied = self.agenda.close()
        except BackchainError as error:
            self.call_later(self._cannot_go_on, error)
        else:
            self.call_later(self._all_done, tidied)

    def _all_done(self, tidied: Tidied | None) -> None:
        self._next = self._stepping = False
        if not self.is_mounted:
            return
        kept = tidied is not None and tidied.kept
        rest = f" {sentence(tidied_text(tidied))}" if tidied is not None else ""
        self.notify(
            f"All of it is done.{rest}", title=self.agenda.title, severity="warning" if kept else "information",
            markup=False,
        )  # fmt: skip
        self.refresh_bindings()
