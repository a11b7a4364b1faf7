"""Runs one method on one problem, in a process of its own; prints a line of JSON per run.

python benchmarks/search/single_run.py --method optuna_tpe --problem sparse --seeds 0 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import numpy as np
from families import FAMILIES, Family
from lookup import Lookup
from method import Method
from methods import PEERS, make_peer, versions
from ours import OUR_PACKAGES, OURS, Ours
from problem import Problem

from milp_search.core.errors import MilpSearchError
from milp_search.core.trial import Objective
from milp_search.search.pareto import hypervolume

FOLDER = Path(__file__).parent
# Where the volumes of the families' best fronts are kept, beside other runs.
KEPT = FOLDER.parents[1] / "runs" / "best_known"
LOOKUP = "trainings"
PROBLEMS = (*FAMILIES, LOOKUP)


def make_problem(name: str, instance: int) -> Problem:
    """Returns a problem; the table of trainings is one and the same for every instance."""
    return Lookup() if name == LOOKUP else Family(name, instance)


def make_method(name: str, problem: Problem, seed: int) -> Method:
    """Returns a method, ours or a peer."""
    if name in OURS:
        return Ours(problem, OURS[name], seed)
    return make_peer(name, problem.task, seed)


def best_volume(problem: Problem, name: str, instance: int) -> float:
    """Returns the hypervolume that counts as 1; a family's is kept, since its search is long."""
    if name == LOOKUP:
        return hypervolume(problem.best_front(), problem.task.objectives)
    code = b"".join((FOLDER / one).read_bytes() for one in ("families.py", "best_known.py"))
    file = KEPT / f"{name}-{instance}-{hashlib.sha256(code).hexdigest()[:12]}.json"
    if not file.exists():
        best = hypervolume(problem.best_front(), problem.task.objectives)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(best))
        part.replace(file)
    return float(json.loads(file.read_text()))


def run(
    method_name: str, problem_name: str, seed: int, budget: int | None = None
) -> dict[str, Any]:
    """Returns what one run found.

    Trial number t of a seed has the same noise whatever the method.

    Args:
        method_name: One of ours or a peer.
        problem_name: One of `PROBLEMS`.
        seed: The problem's instance and the method's seed.
        budget: Trials; the problem's where left out.

    Returns:
        The share of the best known hypervolume after each trial, by the truth of what was tried;
        processor seconds of all asks and tells; how many trials failed or repeated an arm.
    """
    problem = make_problem(problem_name, seed)
    objectives = problem.task.objectives
    budget = budget or problem.task.budget
    batch = 1 if method_name in OURS else PEERS[method_name].batch
    best = best_volume(problem, problem_name, seed)
    start = time.process_time()
    method = make_method(method_name, problem, seed)
    asked_s = time.process_time() - start
    truths: list[tuple[float, ...]] = []
    shares: list[float] = []
    arms = []
    while len(arms) < budget:
        start = time.process_time()
        fresh = method.ask(min(batch, budget - len(arms)))
        asked_s += time.process_time() - start
        outcomes = []
        for arm in fresh:
            outcomes.append(problem.measure(arm, np.random.default_rng([seed, len(arms)])))
            arms.append(arm)
            truth = problem.truth(arm)
            truths += [] if truth is None else [truth]
            shares.append(_volume(truths, objectives) / best)
        start = time.process_time()
        for arm, outcome in zip(fresh, outcomes, strict=True):
            method.tell(arm, outcome)
        asked_s += time.process_time() - start
    return {
        "problem": problem_name,
        "method": method_name,
        "seed": seed,
        "shares": [round(share, 5) for share in shares],
        "cpu_s": round(asked_s, 3),
        "failed": len(arms) - len(truths),
        "repeated": len(arms) - len({*arms}),
        "versions": versions(OUR_PACKAGES if method_name in OURS else PEERS[method_name].packages),
    }


def _volume(truths: list[tuple[float, ...]], objectives: tuple[Objective, ...]) -> float:
    return hypervolume(np.array(truths), objectives) if truths else 0.0


def main() -> None:
    """Runs the seeds one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True)
    parser.add_argument("--problem", choices=PROBLEMS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--budget", type=int)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        for seed in arguments.seeds:
            found = run(arguments.method, arguments.problem, seed, arguments.budget)
            print(json.dumps(found), flush=True)
    except MilpSearchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
