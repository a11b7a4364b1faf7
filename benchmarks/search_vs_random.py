"""Hypervolume on the quick-start study by proposer: real trainings, several seeds.

    python benchmarks/search_vs_random.py --out benchmarks/results/search_vs_random

Each proposer runs the quick-start study with each seed to the same budget; the training seed is
the same for all, so that equal plans measure equally and are trained once (the cache beside the
results lets an interrupted run go on). Hypervolumes are relative to one fixed reference point and
divided by the hypervolume of the front of everything that was ever measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement, Objective
from milp_search.dispatch.drive import installed_versions
from milp_search.dispatch.jobs import Job, Outcome, outcome_from_dict
from milp_search.dispatch.worker import write_outcome
from milp_search.search.pareto import hypervolume
from milp_search.study.spec import StudySpec
from milp_search.study.spec_file import load_study_spec
from milp_search.study.study import Study

STUDY = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
TRAINING_SEED = 0


@cache
def runner(folder: str) -> Any:
    """Returns this process's trial runner, loaded once."""
    import torch

    from milp_search.dispatch.worker import TrialRunner

    torch.set_num_threads(1)
    return TrialRunner(Path(folder), load_study_spec(STUDY))


def evaluated(plan: TrialPlan, folder: Path) -> Mapping[str, Measurement]:
    """Returns a plan's validation metrics: from the cache, else by training."""
    job = Job("search", int(plan.fingerprint(), 16), 0, plan, TRAINING_SEED)
    file = folder / "results" / f"{job.name}.json"
    if not file.exists():
        # Not `run`: another process may train the same plan, and adapters are not needed.
        measurements, _ = runner(str(folder)).evaluate(plan, TRAINING_SEED, "validation")
        write_outcome(folder, job, Outcome(measurements))
    return outcome_from_dict(json.loads(file.read_text())["outcome"]).measurements


def searched(proposer: str, seed: int, trials: int, folder: Path) -> dict[str, Any]:
    """Runs one study and returns its trials' values in order, with the proposer's seconds."""
    host = runner(str(folder))
    spec: StudySpec = host.spec
    ask_s = 0.0
    with (
        tempfile.TemporaryDirectory() as place,
        Study.create(
            place,
            space=_space(host),
            objectives=spec.objectives,
            seed=seed,
            initial_trials=spec.initial_trials,
            proposer=proposer,
            shape=host.base.shape,
            max_communities=len(host.task.targets),
        ) as study,
    ):
        while len(study.trials) < trials:
            start = time.process_time()
            asked = study.ask_batch(min(spec.batch, trials - len(study.trials)))
            ask_s += time.process_time() - start
            for trial in asked:
                assert trial.plan is not None
                study.tell(trial.index, evaluated(trial.plan, folder))
        names = [objective.metric for objective in study.objectives]
        values = [{n: trial.measurements[n].mean for n in names} for trial in study.trials]
    return {"proposer": proposer, "seed": seed, "values": values, "ask_cpu_s": ask_s}


def _space(host: Any) -> Any:
    from milp_search.space.space_file import load_search_space

    return load_search_space(host.spec.space, layers=host.base.shape.layers)


def traces(
    runs: list[dict[str, Any]], objectives: tuple[Objective, ...], at: list[int]
) -> dict[str, dict[int, list[float]]]:
    """Returns the normalised hypervolumes by proposer and number of trials, one per seed."""
    everything = [row for run in runs for row in run["values"]]
    best = volume(everything, objectives)
    table: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        for count in at:
            share = volume(run["values"][:count], objectives) / best
            table.setdefault(run["proposer"], {}).setdefault(count, []).append(share)
    return table


def volume(values: list[dict[str, float]], objectives: tuple[Objective, ...]) -> float:
    """Returns the hypervolume of rows of objective values."""
    rows = [[row[objective.metric] for objective in objectives] for row in values]
    return hypervolume(np.array(rows), objectives)


def markdown(runs: list[dict[str, Any]], objectives: tuple[Objective, ...], at: list[int]) -> str:
    """Returns the table: mean and standard deviation over seeds, and the cost of proposing."""
    versions = installed_versions()
    seeds = sorted({run["seed"] for run in runs})
    lines = [
        f"Quick-start study, real trainings, seeds {seeds}; share of the hypervolume of everything "
        f"measured, mean ± standard deviation over seeds. {platform.machine()}, "
        f"{os.cpu_count()} cores, torch {versions['torch']}, botorch {versions['botorch']}. "
        "References: " + ", ".join(f"{o.metric} {o.reference}" for o in objectives) + ".",
        "",
        "| proposer | " + " | ".join(f"{n} trials" for n in at) + " | CPU s per proposal |",
        "|---|" + "---|" * (len(at) + 1),
    ]
    for proposer, by_count in traces(runs, objectives, at).items():
        cells = [
            f"{statistics.fmean(v):.3f} ± {statistics.stdev(v) if len(v) > 1 else 0:.3f}"
            for v in by_count.values()
        ]
        cost = statistics.fmean(
            run["ask_cpu_s"] / len(run["values"]) for run in runs if run["proposer"] == proposer
        )
        lines.append(f"| {proposer} | {' | '.join(cells)} | {cost:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs every proposer with every seed, then prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_vs_random"))
    parser.add_argument("--cache", type=Path, default=Path("runs/search_vs_random"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--proposers", nargs="+", default=["saas_nehvi", "sobol", "random"])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments.cache.mkdir(parents=True, exist_ok=True)
    jobs = [(p, s) for s in range(arguments.seeds) for p in arguments.proposers]
    runs = []
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(searched, *job, arguments.trials, arguments.cache) for job in jobs]
        for future in as_completed(futures):
            runs.append(future.result())
            print(f"{runs[-1]['proposer']} seed {runs[-1]['seed']} done", flush=True)
    runs.sort(key=lambda run: (arguments.proposers.index(run["proposer"]), run["seed"]))
    objectives = load_study_spec(STUDY).objectives
    text = markdown(runs, objectives, sorted({20, 30, arguments.trials}))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(text)
    arguments.out.with_suffix(".json").write_text(json.dumps(runs) + "\n")
    print(text)


if __name__ == "__main__":
    main()
