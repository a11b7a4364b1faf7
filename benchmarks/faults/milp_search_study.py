"""A study of milp-search whose trials are a formula: the subject of the fault benchmark.

    python benchmarks/faults/milp_search_study.py --folder DIR --ledger FILE --trials 16

Command line, store, dispatch, workers, result files and signals are the product's own; trials take
as long as they are told, and meet the faults that they are told to.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from inflict import parse_faults, subject_arguments

# A final test is a run of its own in the ledger, told from its trial by this.
FINAL_TEST = 100_000

# Many times a trial's length, also on a busy machine: the formula gives no sign of life.
HANG_AFTER_S = 20

STUDY = """\
name: faults
space: space.yaml
data:
  targets: 3
  population: {{users: 4, communities: 2, topics: 3, longest: 8, shortest: 8}}
objectives:
  - {{metric: loss, direction: minimize, reference: 10.0}}
  - {{metric: trainable_params, direction: minimize, reference: 1000000}}
proposer: random
initial_trials: 2
batch: {batch}
budget: {{trials: {trials}}}
dispatch: {{parallel: {parallel}, device: cpu, local: {local}, hang_after_s: {hang_s}{more}}}
seed: {seed}
test_seeds: [7]
"""

SPACE = """\
name: faults
layers: auto
dimensions:
  lora_rank: [1, 2, 4, 8]
  ffn_layer_mask: [0, 0, 0, 0, 1, 1, 1, 1]
  time_splits: [1, 2, 4]
  retrieved_items: [0, 1, 2]
  communities: [1, 2]
"""


def main() -> None:
    """Runs the study to its end, from wherever it stands, or shows it."""
    parser = subject_arguments(__doc__.splitlines()[0])
    parser.add_argument("--local", action="store_true", help="In this process, without Ray.")
    parser.add_argument("--dispatch", default="", help="More of the study file's `dispatch`.")
    given = parser.parse_args()
    if given.show:
        print(json.dumps(shown(given.folder)))
        return
    replace_training(given.ledger.absolute(), given.seconds, parse_faults(given.fault))
    from milp_search import cli

    sys.argv = ["milp-search", *command(given)]
    cli.main()


def command(given: Any) -> list[str]:
    """Returns what a user types: `run` at first, `resume` where there is a study."""
    from milp_search.study.store import begun

    if begun(given.folder / "study.sqlite3"):
        return ["resume", str(given.folder)]
    inputs = given.folder.with_name(given.folder.name + "-inputs")
    inputs.mkdir(parents=True, exist_ok=True)
    (inputs / "space.yaml").write_text(SPACE)
    study = STUDY.format(
        batch=2 * given.parallel,
        trials=given.trials,
        parallel=given.parallel,
        local=str(given.local).lower(),
        more=f", {given.dispatch}" if given.dispatch else "",
        seed=given.seed,
        hang_s=HANG_AFTER_S,
    )
    (inputs / "study.yaml").write_text(study)
    return ["run", str(inputs / "study.yaml"), "--out", str(given.folder)]


def replace_training(ledger: Path, seconds: float, faults: Any) -> None:
    """Makes workers of this process' studies compute the formula.

    Args:
        ledger: Where trials say what happens to them.
        seconds: How long a trial takes.
        faults: What befalls which trial.
    """
    from formula import FormulaFactory

    from milp_search.dispatch import drive

    # Ray's workers find these modules as this process does.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    given = {"ledger": ledger, "seconds": seconds, "faults": faults}
    drive.RunnerFactory = partial(FormulaFactory, **given)  # type: ignore[assignment, misc]


def shown(folder: Path) -> dict[str, Any]:
    """Returns a study's state as its own API tells it; final tests are runs of their own.

    Args:
        folder: The study's.

    Returns:
        Trials by state, the best by loss, the front, and the values.
    """
    from milp_search.core.trial import TrialStatus
    from milp_search.study.study import Study

    with Study.open(folder, read_only=True) as study:
        trials = {
            status: [trial.index for trial in study.trials if trial.status is status]
            for status in TrialStatus
        }
        losses = {
            trial.index: trial.measurements["loss"].mean
            for trial in study.trials
            if trial.status is TrialStatus.COMPLETED
        }
        tested = [FINAL_TEST + trial for trial in losses if study.tests(trial)]
        pending = [trial.index for trial in study.pending]
        return {
            "completed": trials[TrialStatus.COMPLETED] + tested,
            "failed": trials[TrialStatus.FAILED],
            "running": pending,
            "best": min(losses, key=losses.__getitem__, default=None),
            "front": [trial.index for trial in study.front()],
            "values": {str(trial): [loss] for trial, loss in losses.items()},
            "finished": study.finished,
        }


if __name__ == "__main__":
    main()
