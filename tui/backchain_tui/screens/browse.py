"""What can be begun in the forest: every operation, the repair of a link, and the end of an interrupted job."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from backchain.errors import BackchainError
from backchain.image import ImageId, ImageState
from backchain.operations import Commit, Pull
from backchain_tui import describe
from backchain_tui.actions import Where, bindings
from backchain_tui.background import in_background
from backchain_tui.describe import Row, Tone
from backchain_tui.recovery_words import headline, sentence, story, tidied_text, whereabouts
from backchain_tui.screens.forest import ForestScreen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from textual.binding import BindingType

    from backchain.advice import Advice
    from backchain.graph import ChainGraph
    from backchain.operations import Operation
    from backchain.record import Record
    from backchain.recovery import Tidied
    from backchain.repair import Suggestion
    from backchain_tui.agenda import Agenda, Recovery
    from backchain_tui.choice import Choice


class BrowseScreen(ForestScreen):
    """The first screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(Where.OPERATION),
        Binding("c,p", "refuse_range", "Why not", show=False),  # comes to it where the table's own are not valid
        Binding("r,s,d,f,i", "refuse_image", "Why not", show=False),  # likewise
    ]

    def where(self) -> frozenset[Where]:
        """Say what is the case now."""
        return super().where() | {self.keyboard_where()}

    # --- operations -----------------------------------------------------------------------------------------------

    def action_commit(self) -> None:
        """Begin a commit."""
        self._begin_range(Commit)

    def action_pull(self) -> None:
        """Begin a pull."""
        self._begin_range(Pull)

    def action_refuse_range(self) -> None:
        """Say why the image under the cursor can have no range."""
        self._refuse(describe.range_fault)

    def action_refuse_image(self) -> None:
        """Say why nothing else can be done with the image under the cursor."""
        self._refuse(describe.image_fault)

    def _refuse(self, find: Callable[[ChainGraph, ImageId], str]) -> None:
        image, graph = self.image(), self.graph
        if graph is None or image is None or image not in graph:
            return
        invalid = graph[image].state is ImageState.INVALID
        if fault := f"{graph[image].label} is invalid: d deletes it" if invalid else find(graph, image):
            self.notify(f"{fault}.", severity="warning", markup=False, timeout=4)

    def _begin_range(self, kind: type[Commit | Pull]) -> None:
        from backchain_tui.choice import RangeChoice

        image = self.image()
        if self.graph is not None and image is not None:
            self._begin(self.graph, RangeChoice(self.graph, kind, image))

    def action_rebase(self) -> None:
        """Begin a rebase."""
        from backchain_tui.choice import RebaseChoice

        image = self.image()
        if self.graph is not None and image is not None:
            self._begin(self.graph, RebaseChoice(self.graph, image))

    def action_snapshot(self) -> None:
        """Ask for a name, and begin a snapshot."""
        from backchain_tui.screens.naming import NamingScreen

        image, graph = self.image(), self.graph
        if graph is not None and image is not None:
            self.app.push_screen(NamingScreen(graph[image]), lambda path: self._snapshot(graph, image, path))

    def _snapshot(self, graph: ChainGraph, image: ImageId, path: Path | None) -> None:
        from backchain_tui.choice import SnapshotChoice

        if path is not None:
            self._begin(graph, SnapshotChoice(graph, image, path))

    def action_delete(self) -> None:
        """Begin the removal of an image; where overlays need it, compare the ways to get rid of it."""
        from backchain_tui.choice import DeleteChoice
        from backchain_tui.screens.advisor import AdvisorScreen

        image, graph = self.image(), self.graph
        if graph is None or image is None:
            return
        if graph.without_invalid_links().overlays_of(image):
            self.app.push_screen(AdvisorScreen(graph, image), lambda advice: self._follow_advice(graph, image, advice))
        else:
            self._begin(graph, DeleteChoice(graph, (image,)))

    def _follow_advice(self, graph: ChainGraph, image: ImageId, advice: Advice | None) -> None:
        """Preview the first of what was chosen; the others follow it."""
        from backchain_tui.agenda import Steps
        from backchain_tui.choice import choice_of

        if advice is not None:
            first, *rest = (plan.operation for plan in advice.plans)
            title = f"to get rid of {graph[image].label}"
            self._begin(graph, choice_of(graph, first), Steps(self.session.read, title, rest))

    def _begin(self, graph: ChainGraph, choice: Choice, agenda: Agenda | None = None) -> None:
        from backchain_tui.screens.operation import OperationScreen

        self.app.push_screen(OperationScreen(self.session, graph, choice, agenda), self._back)

    def _back(self, changed: bool | None) -> None:
        if changed:
            self._map_subject = ()
            self.action_reload()

    # --- repair ---------------------------------------------------------------------------------------------------

    def action_fix_link(self) -> None:
        """Look for what may repair the link of the image under the cursor."""
        from backchain.repair import suggestions

        image, graph = self.image(), self.graph
        if graph is None or image is None:
            return
        self.notify("Looking for what may repair it…", timeout=2, markup=False)
        in_background(
            self,
            lambda: suggestions(graph, image, self.session.folders),
            lambda found: self._offer_repairs(graph, image, found),
            self._complain,
        )

    def _offer_repairs(self, graph: ChainGraph, image: ImageId, found: Sequence[Suggestion]) -> None:
        from backchain_tui.screens.picker import Item, Picker
        from backchain_tui.screens.question import Answer, Question

        if self.app.screen is not self:
            return
        fault = describe.link_fault(graph, image)
        if not found:
            rows = [
                Row("", sentence(fault), Tone.WARN),
                Row("", "No image that was found can be what is meant. Name the folder where it may lie with --scan, "
                        "or choose a backing file yourself: r, then o and u."),
            ]  # fmt: skip
            self.app.push_screen(Question("Nothing found", rows, [Answer("ok", "Back")]))
            return
        items = [Item(str(n), _target(s), describe.suggestion_text(s)) for n, s in enumerate(found)]
        self.app.push_screen(
            Picker(f"Fix the link of {graph[image].label}: {fault}", items),
            lambda key: self._repair(found[int(key)]) if key else None,
        )

    def _repair(self, suggestion: Suggestion) -> None:
        """Preview the rebase that repairs a link."""
        from backchain_tui.agenda import Agenda
        from backchain_tui.choice import choice_of

        graph, operation = suggestion.graph, suggestion.operation
        paths = [graph[i].path for i in (operation.image, operation.backing) if i is not None]
        agenda = Agenda(lambda: self.session.around(paths, graph.surroundings.roots))
        self._begin(graph, choice_of(graph, operation), agenda)

    # --- going to an image -----------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Choose an image from a list that is narrowed down by what is typed, and put the cursor on it."""
        from backchain_tui.screens.picker import Item, Picker

        graph = self.graph
        if graph is not None and len(graph):
            items = [Item(i, graph[i].label, describe.place_text(graph, i)) for i in graph]
            hint = "a part of the name, the folder, or what it is"
            self.app.push_screen(Picker("Go to", items, hint=hint), self._go_to)

    def _go_to(self, key: str | None) -> None:
        if key and self.diagram is not None and self.graph is not None and ImageId(key) in self.graph:
            self.diagram.cursor = ImageId(key)
            self.action_focus_diagram()

    # --- interrupted jobs -----------------------------------------------------------------------------------------

    def action_unfinished(self) -> None:
        """Tell what an interrupted job has left, and offer the ways on."""
        from backchain_tui.screens.picker import Item, Picker

        records = self.graph.interrupted if self.graph is not None else ()
        if len(records) == 1:
            self._look_at(records[0])
        elif records:
            place = self.session.paths[0].absolute()
            items = [Item(str(n), r.intent.operation, whereabouts(r, place)) for n, r in enumerate(records)]
            self.app.push_screen(
                Picker("Interrupted jobs", items), lambda key: self._look_at(records[int(key)]) if key else None
            )

    def _look_at(self, record: Record) -> None:
        from backchain_tui.agenda import Recovery

        agenda = Recovery(record, self.session.known)
        in_background(
            self,
            agenda.first,
            lambda step: self._tell(record, agenda, step, ""),
            lambda error: self._tell(record, agenda, None, str(error)),
        )

    def _tell(
        self, record: Record, agenda: Recovery, step: tuple[ChainGraph, Operation] | None, problem: str
    ) -> None:  # fmt: skip
        from backchain_tui.screens.question import Answer, Question

        if self.app.screen is not self:
            return
        rows = [Row("", f"{headline(record)}.", Tone.STRONG)]
        rows += [Row("", problem, Tone.BAD)] if problem else []
        rows += [Row("", line) for line in story(record, step[1] if step is not None else None)]
        answers = [Answer("finish", "Finish", "primary")] if step is not None else []
        answers += [Answer("undo", "Undo" if step is not None else "Tidy up", "warning"), Answer("later", "Later")]
        self.app.push_screen(
            Question("An interrupted job", rows, answers), lambda answer: self._recover(agenda, step, answer)
        )

    def _recover(self, agenda: Recovery, step: tuple[ChainGraph, Operation] | None, answer: str | None) -> None:
        from backchain_tui.choice import choice_of

        if answer == "finish" and step is not None:
            self._begin(step[0], choice_of(*step), agenda)
        elif answer == "undo":
            self.run_worker(lambda: self._undo(agenda), thread=True, group="undo", exit_on_error=False)

    def _undo(self, agenda: Recovery) -> None:
        """Tidy up after an interrupted job; in a worker, as it writes."""
        try:
            tidied = agenda.undo()
        except BackchainError as error:
            self.call_later(self._complain, error)
        else:
            self.call_later(self._undone, tidied)

    def _undone(self, tidied: Tidied) -> None:
        self.notify(
            sentence(tidied_text(tidied)), title="Not tidied up" if tidied.kept else "Undone",
            severity="warning" if tidied.kept or tidied.mixed else "information", markup=False,
        )  # fmt: skip
        self.action_reload()

    def _complain(self, error: BackchainError) -> None:
        self.notify(str(error), title=error.title, severity="error", markup=False)


def _target(suggestion: Suggestion) -> str:
    backing = suggestion.operation.backing
    return suggestion.graph[backing].label if backing is not None else "none"
