"""Where progress is printed; a terminal or pipe that goes away ends no study."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, cast

from rich.console import Console


def make_console() -> Console:
    """Returns a console on standard output, as wide as its tables need."""
    output = cast("IO[str]", _Output(sys.stdout))
    console = Console(file=output)
    # A pipe or file has no width of its own; tables should not be folded for it.
    return console if console.is_terminal else Console(file=output, width=max(console.width, 160))


class _Output:
    """Standard output, which is closed to us at the first error: from then on nobody listens."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
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
