"""The wall clock set on or back while a study runs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cell import Amount
from kills import undisturbed
from study_run import study_run
from subjects import HERE, Subject
from verdict import Verdict, judge

HOUR_S = 3600


def clock_set(seconds: int) -> Callable[[Subject, Amount], Iterator[Verdict]]:
    """Returns a function that yields what became of a study through which the clock was set.

    Args:
        seconds: By how much.

    Returns:
        The function; the study's driver is killed after that, and resumed by the new clock.
    """

    def inflicted(subject: Subject, amount: Amount) -> Iterator[Verdict]:
        reference = undisturbed(subject, amount.size)
        with tempfile.TemporaryDirectory(prefix="mf-") as folder:
            clock = Path(folder, "clock")
            clock.write_text("0")
            variables = {"LD_PRELOAD": str(built(Path(folder))), "FAULTS_CLOCK": str(clock)}
            with study_run(subject, amount.size, environment=variables, fresh=True) as run:
                driver = run.start()
                driver.wait_for_trials(2)
                clock.write_text(str(seconds))
                driver.wait_for_trials(5)
                driver.kill()
                yield judge(run, run.finish(), reference)

    return inflicted


def built(folder: Path) -> Path:
    """Returns the library that sets the clock of a process, compiled."""
    library = folder / "clock.so"
    source = HERE / "clock_shim.c"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library
