"""What storing a trial costs: ours, Optuna's storages, and SQLite by itself.

    python benchmarks/store_cost.py

A trial is three events: asked, started, ended; a third of a trial's time is given as an event's.
Optuna writes each of the four parameters of a trial by itself. All are on disk when the call
returns; SQLite by itself commits a row per event with synchronous=FULL, which is the least that a
store of this kind can take. Random proposals are part of the time wherever trials are asked.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.trial import Objective
from milp_search.space.space_file import load_search_space
from milp_search.study.study import Study

RESULTS = Path(__file__).parent / "results"
TRIALS = 100
REPEATS = 5
EVENTS = 3  # asked, started, ended

_SHAPE = ModelShape(8, "model.layers", (LinearMap("up", "mlp.up", 8, 24),))


def ours(folder: Path) -> float:
    """Returns the seconds of a study's trials in our store."""
    with Study.create(
        folder / "study",
        space=load_search_space("milp", layers=8),
        objectives=(Objective("loss", "minimize", 9.0),),
        proposer="random",
        shape=_SHAPE,
    ) as study:
        start = time.perf_counter()
        for _ in range(TRIALS):
            trial = study.ask()
            study.start(trial.index)
            study.tell(trial.index, {"loss": 1.0}, 1.0)
        return time.perf_counter() - start


def optuna_rdb(folder: Path) -> float:
    """Returns the seconds of a study's trials in Optuna's SQLite database."""
    return _optuna(RDBStorage(f"sqlite:///{folder / 'study.db'}"))


def optuna_journal(folder: Path) -> float:
    """Returns the seconds of a study's trials in Optuna's journal."""
    return _optuna(JournalStorage(JournalFileBackend(str(folder / "journal.log"))))


def _optuna(storage: RDBStorage | JournalStorage) -> float:
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(0))
    start = time.perf_counter()
    for _ in range(TRIALS):
        trial = study.ask()
        for number in range(4):
            trial.suggest_int(f"x{number}", 0, 8)
        study.tell(trial, 1.0)
    return time.perf_counter() - start


def bare_sqlite(folder: Path) -> float:
    """Returns the seconds of as many commits of a row of SQLite, each on disk."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, payload TEXT)")
        start = time.perf_counter()
        for _ in range(EVENTS * TRIALS):
            connection.execute("INSERT INTO events (payload) VALUES (?)", ("x" * 300,))
        return time.perf_counter() - start


STORES: dict[str, Callable[[Path], float]] = {
    "milp-search": ours,
    "Optuna, SQLite": optuna_rdb,
    "Optuna, journal": optuna_journal,
    "SQLite by itself": bare_sqlite,
}


def measured(store: Callable[[Path], float]) -> float:
    """Returns milliseconds per event in a new folder beside the results' own disk."""
    with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
        return 1000 * store(Path(folder)) / (EVENTS * TRIALS)


def table(costs: dict[str, list[float]], machine: str) -> str:
    """Returns the result as Markdown."""
    lines = ["| Store | ms per event, median | lowest | highest |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {statistics.median(all_):.2f} | {min(all_):.2f} | {max(all_):.2f} |"
        for name, all_ in costs.items()
    ]
    said = f"{TRIALS} trials of {EVENTS} events, {REPEATS} repeats in turn. {machine}"
    return "# What storing a trial costs\n\n" + "\n".join(lines) + f"\n\n{said}\n"


def main() -> None:
    """Measures all stores in turn and writes `results/store.{json,md}`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    costs: dict[str, list[float]] = {name: [] for name in STORES}
    for _ in range(REPEATS):
        for name, store in STORES.items():
            costs[name].append(measured(store))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes wanting "
        f"them; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"Optuna {optuna.__version__}."
    )
    text = json.dumps({"machine": machine, "ms_per_event": costs}, indent=2)
    (RESULTS / "store.json").write_text(text + "\n")
    (RESULTS / "store.md").write_text(table(costs, machine))
    print(table(costs, machine))


if __name__ == "__main__":
    main()
