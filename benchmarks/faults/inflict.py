"""Faults inside a trial: written `KIND@TRIAL` for its first attempt, `KIND@TRIAL!` for each."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# ours: what a chatty trainer prints in a day.
PRINTED_MIB = 8


@dataclass(frozen=True)
class Fault:
    """What befalls a trial.

    Attributes:
        kind: A name in `STRIKES` or `VALUES`.
        always: At every attempt; else at the first only.
    """

    kind: str
    always: bool = False

    def strikes(self, attempt: int) -> bool:
        """Returns whether this attempt, from 0, meets the fault."""
        return self.always or attempt == 0


def parse_faults(texts: Iterable[str]) -> dict[int, Fault]:
    """Returns the faults by trial.

    Args:
        texts: `KIND@TRIAL`, or `KIND@TRIAL!`.

    Returns:
        One fault a trial, the last that is written.
    """
    faults = {}
    for text in texts:
        kind, at, trial = text.partition("@")
        if not at or kind not in {*STRIKES, *VALUES}:
            known = ", ".join(sorted({*STRIKES, *VALUES}))
            raise SystemExit(f"expected KIND@TRIAL with a kind of {known}, got {text!r}")
        faults[int(trial.removesuffix("!"))] = Fault(kind, trial.endswith("!"))
    return faults


def strike(faults: Mapping[int, Fault], trial: int, attempt: int) -> float | None:
    """Inflicts a trial's fault, if it has one.

    Args:
        faults: The faults by trial.
        trial: The trial's number.
        attempt: Which try it is, from 0.

    Returns:
        The value that the trial has to have in place of its own, if any; most faults return none,
        and some do not return at all.
    """
    fault = faults.get(trial)
    if fault is None or not fault.strikes(attempt):
        return None
    if fault.kind in VALUES:
        return VALUES[fault.kind]
    STRIKES[fault.kind]()
    return None


def _raise() -> None:
    raise RuntimeError("a trial that raises")


def _hang() -> None:
    while True:
        time.sleep(3600)


def _freeze() -> None:
    # The sum runs in C for ever and never lets go of the interpreter's lock.
    sum(range(1 << 62))


def _exit() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _out_of_memory() -> None:
    bytearray(1 << 60)


def _print() -> None:
    line = "x" * 127 + "\n"
    for stream in (sys.stdout, sys.stderr):
        for _ in range(PRINTED_MIB * 8192):
            stream.write(line)
        stream.flush()


STRIKES: Mapping[str, Callable[[], None]] = {
    "raise": _raise,
    "hang": _hang,
    "freeze": _freeze,
    "exit": _exit,
    "oom": _out_of_memory,
    "print": _print,
}
VALUES: Mapping[str, float] = {"nan": math.nan, "inf": math.inf}


def subject_arguments(description: str) -> argparse.ArgumentParser:
    """Returns a parser of the options that every subject takes.

    A subject is a script that starts a study of so many trials in a folder, or goes on with the
    one there, as a user of its system would write it; with `--show` it prints the study's state as
    one line of JSON instead.

    Args:
        description: The subject's, for `--help`.

    Returns:
        The parser; a subject may add its own.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="KIND@TRIAL[!]")
    parser.add_argument("--show", action="store_true")
    return parser
