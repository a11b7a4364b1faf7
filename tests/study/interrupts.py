"""Interrupts that come at a certain step of a call into the study."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from milp_search import study

_PACKAGE = str(Path(study.__file__).parent)


def interrupt_after(steps: int) -> None:
    """Raises KeyboardInterrupt once, when so many calls in the study's code began or returned.

    Python looks for signals at just these moments, and as a loop goes round.
    """
    left = steps

    def step(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        left -= event != "c_call" and frame.f_code.co_filename.startswith(_PACKAGE)
        if left == 0:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(step)


def interrupted(do: Callable[[], object], steps: int) -> bool:
    """Calls a function and returns whether it took so many steps, and was interrupted then."""
    interrupt_after(steps)
    try:
        do()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False
