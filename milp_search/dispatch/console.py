"""The console of the command line: it prints text as text, whoever wrote it."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, TextIO, cast

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
    """Returns a console on standard output; a terminal or pipe that goes away ends no study."""
    output = cast("IO[str]", _Output(sys.stdout))
    console = PlainConsole(file=output)
    if console.is_terminal:
        return console
    # A pipe or file has no width of its own; tables should not be folded for it.
    return PlainConsole(file=output, width=max(console.width, 160))


class _Output:
    """Standard output, which is closed to us at the first error: from then on nobody listens.

    What its encoding does not know, as an arrow in Latin-1, is shown by another sign.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        # Python's own flush at the end would fail too.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
