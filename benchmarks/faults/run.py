"""The fault matrix: every fault on every subject, held against the ledgers of their trials.

    python benchmarks/faults/run.py --subjects milp_search optuna_rdb optuna_journal ray_tune
    python benchmarks/faults/run.py --faults kill-driver --kills 50 --studies 10
    python benchmarks/faults/run.py --table            # the table from what there is

It goes on where it stopped: a finished cell is kept in the results and not run again. It needs
Linux; a full disk and a read-only folder are mounts, which need root. Peers come with
`pip install -e '.[peers]'`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cell import Amount
from fault_table import key_of, machine, markdown
from matrix import FAULTS
from study_run import Size
from subjects import SUBJECTS

RESULTS = Path(__file__).parents[1] / "results" / "faults"


def main() -> None:
    """Runs what is missing and writes the table after each cell."""
    given = _arguments()
    amount = Amount(
        kills=given.kills,
        studies=given.studies,
        samples=given.samples,
        seed=given.seed,
        size=Size(trials=given.trials, seconds=given.seconds),
    )
    file = given.out.with_suffix(".json")
    kept = _kept(file)
    for fault, subject in () if given.table else _missing(given, kept["cells"]):
        start = time.monotonic()
        cell = _cell(fault, subject, amount)
        cell["seconds"] = round(time.monotonic() - start, 1)
        # Another run may have written others meanwhile.
        kept = _kept(file)
        kept["cells"][key_of(fault, subject)] = cell
        kept["machine"] = machine()
        _write(given.out, kept, amount)
        print(key_of(fault, subject), json.dumps(cell), flush=True)
    _write(given.out, kept, amount)


def _missing(given: Any, cells: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for fault in given.faults:
        for subject in given.subjects:
            if key_of(fault, subject) not in cells and FAULTS[fault].applies(SUBJECTS[subject]):
                yield fault, subject


def _cell(fault: str, subject: str, amount: Amount) -> dict[str, Any]:
    try:
        return FAULTS[fault].figures(SUBJECTS[subject], amount)
    except Exception as error:  # the matrix goes on; the cell says that it has none
        traceback.print_exc(file=sys.stderr)
        return {"error": f"{type(error).__name__}: {error}"}


def _kept(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {"machine": machine(), "cells": {}}
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept


def _write(out: Path, kept: dict[str, Any], amount: Amount) -> None:
    order = [key_of(fault, subject) for fault in FAULTS for subject in SUBJECTS]
    cells = {key: kept["cells"][key] for key in order if key in kept["cells"]}
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**kept, "cells": cells}, indent=1, ensure_ascii=False)
    out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    page = markdown(cells, kept["machine"], amount)
    out.with_suffix(".md").write_text(page, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=[*SUBJECTS])
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[*FAULTS])
    parser.add_argument("--kills", type=int, default=50, help="of each kind, in all")
    parser.add_argument("--studies", type=int, default=10, help="that the kills are spread over")
    parser.add_argument("--samples", type=int, default=12, help="of damage to a store")
    parser.add_argument("--trials", type=int, default=12, help="of a study")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a trial takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="without ending")
    parser.add_argument("--table", action="store_true", help="Run nothing, write the table.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
