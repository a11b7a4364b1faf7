"""A study by Ray Tune with its own restore, as its documentation advises.

Chosen in Tune's favour, from the documentation and the sources of 2.60:

- `Tuner.can_restore` chooses between a new study and `Tuner.restore(resume_errored=True)`, the
  documented pattern for a script that is started again. The space is given again: Tune begins
  anew by itself where its state cannot be read, and without the space it would then try nothing.
- TUNE_GLOBAL_CHECKPOINT_S=0: a snapshot of the study at every turn of Tune's loop and not, as by
  itself, every 10 s or more; it loses least. `--snapshot-s auto` is Tune's own choice.
- FailureConfig(max_failures=1): a trial that raises, or whose worker dies, is tried once more.
- A class with `reset_config` and `reuse_actors=True`: a worker starts once, not for each trial.
- The trials are a grid over a drawn list, which a restored study continues as it was. A trial is
  one step, so that there is nothing to checkpoint between its start and its end, and the
  shortest way from its end into a snapshot is without (`checkpoint_at_end=False`).
- Workers at nice 0, no dashboard, loopback only, a session folder of its own.

There is no limit on the time of a trial that reports nothing. SIGINT is Tune's: it saves a last
snapshot and `fit` returns as if it had finished. The exit code here is 1 where the results hold
errors, which is what they tell. Tune has no front: the one shown is made here from its results.
"""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from inflict import parse_faults, subject_arguments
from peer_trial import PeerTrial

# Ray reads some of these when it is imported. Without a token it writes one into the home folder.
os.environ |= {
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}

import ray
from ray import tune

NAME = "faults"
OBJECT_STORE_BYTES = 100 * 2**20


class Worker(tune.Trainable):  # type: ignore[misc]
    """Runs one trial after another in one process."""

    def setup(self, config: dict[str, Any], work: PeerTrial) -> None:
        """Keeps the trial that comes first."""
        self._work = work
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Returns whether the process can take the next trial: always."""
        self._arm = new_config["arm"]
        return True

    def step(self) -> dict[str, Any]:
        """Returns the two values of the trial, which is then done."""
        arm = self._arm
        loss, size = self._work.run(arm["index"], arm["rate"], arm["rank"])
        return {"loss": loss, "size": size, "done": True}


def arms(trials: int, seed: int) -> list[dict[str, Any]]:
    """Returns what the trials are to try, numbered."""
    drawn = random.Random(seed)
    return [
        {"index": index, "rate": drawn.random(), "rank": drawn.randint(1, 32)}
        for index in range(trials)
    ]


def tuner(options: Namespace) -> tune.Tuner:
    """Returns a tuner that starts the study, or goes on with the one in the folder."""
    work = PeerTrial(options.ledger.absolute(), options.seconds, parse_faults(options.fault))
    trainable = tune.with_resources(tune.with_parameters(Worker, work=work), {"cpu": 1})
    space = {"arm": tune.grid_search(arms(options.trials, options.seed))}
    path = str(options.folder.absolute() / NAME)
    if tune.Tuner.can_restore(path):
        return tune.Tuner.restore(path, trainable, param_space=space, resume_errored=True)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            max_concurrent_trials=options.parallel,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(options.folder.absolute()),
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


def run(options: Namespace) -> int:
    """Returns 0 when no result is an error."""
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = options.snapshot_s
    with tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True) as session:
        ray.init(
            address="local",
            num_cpus=options.parallel,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=session,
        )
        try:
            return int(tuner(options).fit().num_errors > 0)
        finally:
            ray.shutdown()


def show(options: Namespace) -> dict[str, Any]:
    """Returns the study's state by its last snapshot."""
    study = tune.ExperimentAnalysis(str(options.folder.absolute() / NAME))
    by_status: dict[str, list[int]] = {}
    for trial in study.trials:
        by_status.setdefault(trial.status, []).append(trial.config["arm"]["index"])
    values = {
        trial.config["arm"]["index"]: [trial.last_result["loss"], trial.last_result["size"]]
        for trial in study.trials
        if "loss" in (trial.last_result or {})
    }
    best = study.get_best_trial("loss", "min")
    return {
        "completed": sorted(by_status.pop("TERMINATED", [])),
        "failed": sorted(by_status.pop("ERROR", [])),
        "running": sorted(index for indices in by_status.values() for index in indices),
        "best": None if best is None else best.config["arm"]["index"],
        "front": front(values),
        "values": values,
    }


def front(values: dict[int, list[float]]) -> list[int]:
    """Returns the trials of which no other is as good in both values and better in one."""
    points = {trial: tuple(pair) for trial, pair in values.items() if not math.isnan(pair[0])}
    return sorted(
        trial
        for trial, (loss, size) in points.items()
        if not any(a <= loss and b <= size and (a, b) != (loss, size) for a, b in points.values())
    )


if __name__ == "__main__":
    parser = subject_arguments(__doc__.splitlines()[0])
    parser.add_argument("--snapshot-s", default="0", help="seconds, or auto")
    arguments = parser.parse_args()
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    if arguments.show:
        print(json.dumps(show(arguments)))
    else:
        sys.exit(run(arguments))
