"""A study by Optuna: processes that share one storage, as its documentation advises.

Chosen in Optuna's favour, from the documentation of 5.0.0:

- `--storage rdb`: SQLite with a heartbeat every second, the least that there is, and the default
  grace of two; stale trials are tried again up to 3 times (RetryHeartbeatStaleTrialCallback, in
  the place of the deprecated RetryFailedTrialCallback). SQLite waits 60 s for a lock.
- `--storage journal`: JournalFileBackend with its default lock, what Optuna recommends for
  processes of one machine. It has no heartbeat, and nothing documented takes its place: failing
  whatever is running at the start would fail the trials of another driver.
- `fail_stale_trials` before and after the search too, where `optimize` looks only before it asks.
- MaxTrialsCallback ends the study by its completed trials, whichever process ran them.
- `catch=Exception`: a trial that raises does not end its process.
- SIGINT and SIGTERM reach every process as one KeyboardInterrupt, which Optuna records as the
  trial's failure; without that, a terminated trial would be left running, and a second one would
  find Optuna in the middle of recording.

There is no limit on the time of a trial: `optimize(timeout=...)` looks at the clock between
trials only. A retry is a new trial of Optuna's: here it counts as the one that it repeats.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from inflict import parse_faults, subject_arguments
from peer_trial import PeerTrial

try:
    import optuna
except ModuleNotFoundError:
    raise SystemExit("expected optuna to be installed: pip install -e '.[peers]'") from None

from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

STUDY = "faults"
HEARTBEAT_S = 1
LOCK_WAIT_S = 60
STOP_S = 10


def storage_in(folder: Path, kind: str) -> BaseStorage:
    """Returns the storage in a folder, made where there is none."""
    if kind == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    return RDBStorage(
        f"sqlite:///{folder / 'study.db'}",
        engine_kwargs={"connect_args": {"timeout": LOCK_WAIT_S}},
        heartbeat_interval=HEARTBEAT_S,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
    )


def opened(options: Namespace, seed: int = 0) -> optuna.Study:
    """Returns the study in the folder; it may be new."""
    return optuna.create_study(
        storage=storage_in(options.folder, options.storage),
        study_name=STUDY,
        directions=["minimize", "minimize"],
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
    )


def original_number(trial: FrozenTrial) -> int:
    """Returns the number of the trial, or of the one that it tries again."""
    repeated = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if repeated is None else repeated


def optimize(options: Namespace, place: int) -> None:
    """Runs trials in this process until the study has enough of them."""
    quieten()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupt_once)
    study = opened(options, options.seed + place)
    work = PeerTrial(options.ledger, options.seconds, parse_faults(options.fault))

    def objective(trial: optuna.Trial) -> Sequence[float]:
        rate = trial.suggest_float("rate", 0.0, 1.0)
        rank = trial.suggest_int("rank", 1, 32)
        return work.run(original_number(study.trials[trial.number]), rate, rank)

    try:
        study.optimize(objective, catch=(Exception,), callbacks=[MaxTrialsCallback(options.trials)])
    except KeyboardInterrupt:
        sys.exit(130)


def interrupt_once(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, and is deaf to the signal afterwards."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(options: Namespace) -> int:
    """Returns 0 when the study has its trials, 1 when its processes ended before."""
    study = opened(options)
    fail_stale_trials(study)
    if missing(study, options.trials):
        run_processes(options)
        fail_stale_trials(study)
    return int(missing(study, options.trials) > 0)


def missing(study: optuna.Study, trials: int) -> int:
    """Returns how many completed trials a study is short of."""
    return trials - len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def run_processes(options: Namespace) -> None:
    """Runs the processes to their end; a signal that comes here ends them by SIGTERM."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=optimize, args=(options, place)) for place in range(options.parallel)
    ]
    signal.signal(signal.SIGTERM, exit_by_signal)
    signal.signal(signal.SIGINT, exit_by_signal)
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        stop(processes)


def stop(processes: Sequence[BaseProcess]) -> None:
    """Ends the processes, first by SIGTERM."""
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.terminate()
    for process in alive:
        process.join(STOP_S)
        process.kill()


def exit_by_signal(number: int, frame: FrameType | None) -> None:
    """Ends this process with the exit code of a signal."""
    sys.exit(128 + number)


def show(options: Namespace) -> dict[str, Any]:
    """Returns the study's state, trials by the numbers of their first tries."""
    study = optuna.load_study(storage=storage_in(options.folder, options.storage), study_name=STUDY)
    trials = study.get_trials(deepcopy=False)
    values = {original_number(t): t.values for t in trials if t.state == TrialState.COMPLETE}
    front = sorted(study.best_trials, key=lambda trial: trial.values[0])
    waiting = {TrialState.RUNNING, TrialState.WAITING}
    running = {original_number(t) for t in trials if t.state in waiting} - {*values}
    failed = {original_number(t) for t in trials if t.state == TrialState.FAIL}
    return {
        "completed": sorted(values),
        "failed": sorted(failed - running - {*values}),
        "running": sorted(running),
        "best": original_number(front[0]) if front else None,
        "front": sorted({original_number(trial) for trial in front}),
        "values": values,
    }


def quieten() -> None:
    """Leaves out the warnings that heartbeat and retry are experimental."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


if __name__ == "__main__":
    parser = subject_arguments(__doc__.splitlines()[0])
    parser.add_argument("--storage", choices=["rdb", "journal"], default="rdb")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    quieten()
    if arguments.show:
        print(json.dumps(show(arguments)))
    else:
        sys.exit(run(arguments))
