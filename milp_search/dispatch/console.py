"""The console of the command line: it prints text as text, whoever wrote it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from milp_search.core.printable import printable


class PlainConsole(Console):
    """A console for which no text is markup, and none steers the terminal.

    Every text that is printed, alone or in a table, comes through `render_str`.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns the text as it is shown."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def plain_console() -> Console:
    """Returns a console on standard output."""
    console = PlainConsole()
    # A pipe or file has no width of its own; tables should not be folded for it.
    return console if console.is_terminal else PlainConsole(width=max(console.width, 160))
