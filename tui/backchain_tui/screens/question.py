"""Questions and messages over the picture: run, quit, confirm by typing a hazard's code, what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from backchain_tui.widgets.answer import AnswerButton
from backchain_tui.widgets.rows import RowsPanel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from textual.app import ComposeResult

    from backchain_tui.describe import Row


class Answer(NamedTuple):
    """A button: what it gives, what is written on it, and how it is meant."""

    name: str
    text: str
    variant: Literal["default", "primary", "success", "warning", "error"] = "default"


class Question(ModalScreen[str]):
    """A dialog with buttons; gives the name of the one that was pressed, or "" for escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "answer('')", "Back", show=False),
        Binding("y", "answer_by_key('y')", "Go on", show=False),
        Binding("n", "answer_by_key('n')", "The safe answer", show=False),
        Binding("left", "next_answer(-1)", "Previous", show=False),
        Binding("right", "next_answer(1)", "Next", show=False),
        Binding("up", "text('scroll_up')", "Scroll up", show=False),
        Binding("down", "text('scroll_down')", "Scroll down", show=False),
        Binding("pageup", "text('page_up')", "Page up", show=False),
        Binding("pagedown", "text('page_down')", "Page down", show=False),
        Binding("home", "text('scroll_home')", "Begin of the text", show=False),
        Binding("end", "text('scroll_end')", "End of the text", show=False),
    ]

    def __init__(
        self, title: str, rows: Sequence[Row], answers: Sequence[Answer], *, code: str = "", ready: str = ""
    ) -> None:  # fmt: skip
        """Ask.

        Args:
            title: Heading.
            rows: What it is about.
            answers: Buttons: what goes on first, the safe one last.
            code: What has to be typed before the first answer counts; empty for nothing.
            ready: Name of the answer that has the keyboard, so that Enter gives it; empty for the safe one.
        """
        super().__init__()
        self._title, self._rows, self._answers, self._code = title, rows, answers, code
        self._ready = ready or answers[-1].name
        by_key = {} if code or len(answers) == 1 else {"y": answers[0].name, "n": answers[-1].name}
        self._by_key = by_key  # where something is typed, its letters are no keys
        self.set_class(bool(code), "-typed")

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="question") as box:
            box.border_title = self._title
            yield RowsPanel("", id="question-rows")
            if self._code:
                yield Static(f"Type {self._code} to confirm:", markup=False)
                yield Input(placeholder=self._code)
            with Horizontal(id="answers"):
                keys = {name: key for key, name in self._by_key.items()}
                for answer in self._answers:
                    yield AnswerButton(
                        answer.text, key=keys.get(answer.name, ""), variant=answer.variant, id=f"answer-{answer.name}"
                    )

    def on_mount(self) -> None:
        """Show the rows; the keyboard goes to what has to be typed, else to an answer."""
        panel = self.query_one("#question-rows", RowsPanel)
        panel.can_focus = False  # nothing would show that the keyboard is there, and no answer would be lit
        panel.show(self._rows)
        if self._code:
            self.query_one(f"#answer-{self._answers[0].name}", Button).disabled = True
            self.query_one(Input).focus()
        else:
            self.query_one(f"#answer-{self._ready}", Button).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Allow the first answer once the code is there."""
        self.query_one(f"#answer-{self._answers[0].name}", Button).disabled = event.value.strip() != self._code

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter after the whole code is the first answer."""
        if event.value.strip() == self._code:
            self.dismiss(self._answers[0].name)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Give the answer."""
        self.dismiss((event.button.id or "").removeprefix("answer-"))

    def action_answer(self, name: str) -> None:
        """Give an answer by key."""
        self.dismiss(name)

    def action_answer_by_key(self, key: str) -> None:
        """Give the answer whose button shows the key, if one does."""
        if key in self._by_key:
            self.dismiss(self._by_key[key])

    def action_next_answer(self, step: int) -> None:
        """Put the keyboard on the next button to the right (1) or to the left (-1), if there is one."""
        buttons = [b for b in self.query(Button) if not b.disabled]
        if isinstance(self.focused, Button) and self.focused in buttons:
            place = buttons.index(self.focused) + step
            buttons[max(0, min(place, len(buttons) - 1))].focus()

    async def action_text(self, name: str) -> None:
        """Scroll the text, when it is long; `name` is an action of its panel."""
        panel = self.query_one("#question-rows", RowsPanel)
        await panel.run_action(name)
