"""The ledger that trials write, and the faults that they are told to meet."""

from __future__ import annotations

import importlib
import math
import os
from pathlib import Path
from typing import Any

import pytest

ledger: Any = importlib.import_module("ledger")
inflict: Any = importlib.import_module("inflict")


def test_a_trial_that_ends_leaves_two_lines(tmp_path: Path) -> None:
    with ledger.ledgered(tmp_path / "ledger", 3, attempt=1):
        pass
    entries = ledger.read_ledger(tmp_path / "ledger")
    assert [(e.trial, e.event, e.pid, e.attempt) for e in entries] == [
        (3, "begin", os.getpid(), 1),
        (3, "end", os.getpid(), 1),
    ]
    assert entries[0].t <= entries[1].t


def test_a_trial_that_raises_has_no_end(tmp_path: Path) -> None:
    with pytest.raises(KeyError), ledger.ledgered(tmp_path / "ledger", 0):
        raise KeyError
    entries = ledger.read_ledger(tmp_path / "ledger")
    assert (ledger.begun(entries), ledger.ended(entries)) == ({0: 1}, {})


def test_a_torn_line_is_left_out_and_swallows_no_other(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    ledger.write_entry(file, 0, "begin")
    whole = file.read_bytes()
    for cut in (1, 2, 30, len(whole) - 2):
        file.write_bytes(whole + whole[: -1 - cut])
        assert [entry.trial for entry in ledger.read_ledger(file)] == [0]
        ledger.write_entry(file, 1, "end")
        assert [entry.trial for entry in ledger.read_ledger(file)] == [0, 1]


def test_a_missing_ledger_has_no_lines(tmp_path: Path) -> None:
    assert ledger.read_ledger(tmp_path / "none") == []


def test_a_fault_strikes_the_first_attempt_or_with_a_mark_each() -> None:
    faults = inflict.parse_faults(["raise@2", "nan@3!", "inf@4"])
    with pytest.raises(RuntimeError, match="a trial that raises"):
        inflict.strike(faults, 2, 0)
    assert inflict.strike(faults, 2, 1) is None
    assert math.isnan(inflict.strike(faults, 3, 5))
    assert inflict.strike(faults, 4, 0) == math.inf
    assert inflict.strike(faults, 0, 0) is None


def test_memory_runs_out_for_real() -> None:
    with pytest.raises(MemoryError):
        inflict.strike(inflict.parse_faults(["oom@0"]), 0, 0)


@pytest.mark.parametrize("text", ["raise", "melt@1"])
def test_an_unknown_fault_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="expected KIND@TRIAL"):
        inflict.parse_faults([text])
