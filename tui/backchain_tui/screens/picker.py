"""A list to choose from, over the picture; what is typed narrows it down."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from backchain_tui import formatting as fmt
from backchain_tui.diagram.measure import cell_width, clean, shorten
from backchain_tui.widgets.scrollbars import keep_to_ascii

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

_LEAST_NAME, _MOST_NAME = 12, 30


class Item(NamedTuple):
    """A line of the list: a name, what is to be said of it, and the key that chooses it."""

    key: str
    name: str
    text: str


class Picker(ModalScreen[str]):
    """Gives the key of the item that was chosen, or "" for none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("pagedown", "move(8)", "Page down", show=False, priority=True),
        Binding("pageup", "move(-8)", "Page up", show=False, priority=True),
    ]

    def __init__(self, title: str, items: Sequence[Item], *, hint: str = "", current: str = "") -> None:
        """Offer a list.

        Args:
            title: Heading.
            items: What can be chosen.
            hint: What the line says in which is typed; empty for a list that cannot be narrowed down.
            current: Key of the item on which the cursor starts.
        """
        super().__init__()
        self._title, self._items, self._hint, self._current = title, items, hint, current
        self._shown: list[Item] = []

    def compose(self) -> ComposeResult:
        """A box in the middle."""
        with Vertical(id="picker") as box:
            box.border_title = Text(self._title)
            box.border_subtitle = "enter chooses, esc goes back"
            if self._hint:
                yield Input(placeholder=self._hint)
            yield OptionList(markup=False)
            yield Static("", markup=False, id="picker-count")

    def on_mount(self) -> None:
        """Show the whole list."""
        self._show("")
        self.query_one(Input if self._hint else OptionList).focus()
        keep_to_ascii(self.query_one(OptionList))

    def _show(self, typed: str) -> None:
        words = typed.casefold().split()
        found = [i for i in self._items if all(w in f"{i.name} {i.text}".casefold() for w in words)]
        self._shown = sorted(found, key=lambda i: not all(w in i.name.casefold() for w in words))
        width = max((cell_width(clean(i.name)) for i in self._items), default=0)
        width = max(_LEAST_NAME, min(width, _MOST_NAME))
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(self._line(item, width)) for item in self._shown])
        keys = [i.key for i in self._shown]
        if keys:
            options.highlighted = keys.index(self._current) if self._current in keys else 0
        count = f"{len(self._shown)} of {fmt.counted(len(self._items), 'image')}" if self._hint else ""
        self.query_one("#picker-count", Static).update(count, layout=False)

    def _line(self, item: Item, width: int) -> Text:
        plain = self.app.has_class("-ascii")
        name = shorten(clean(item.name), width, ".." if plain else "…")
        words = fmt.ascii_text(clean(item.text)) if plain else clean(item.text)
        text = Text(name + " " * (width - cell_width(name) + 2), style="bold", no_wrap=False)
        return text.append(words, style="not bold")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list down."""
        self._show(event.value)

    def on_input_submitted(self) -> None:
        """Enter takes the line under the cursor."""
        number = self.query_one(OptionList).highlighted
        if number is not None and number < len(self._shown):
            self.dismiss(self._shown[number].key)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click, or enter in the list, takes a line."""
        self.dismiss(self._shown[event.option_index].key)

    def action_move(self, step: int) -> None:
        """Move the cursor of the list, wherever the keyboard is."""
        options = self.query_one(OptionList)
        if self._shown:
            number = (options.highlighted or 0) + step
            options.highlighted = max(0, min(number, len(self._shown) - 1))

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss("")
