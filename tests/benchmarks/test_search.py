"""The benchmark of search methods: its problems, its runs and its table."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "search"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmark by name."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in [path.stem for path in FOLDER.glob("*.py")]:
        sys.modules.pop(name, None)


def some_arms(problem: Any, count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    core = importlib.import_module("milp_search.core.arm")
    return [
        core.Arm({one.name: one.values[rng.integers(len(one.values))] for one in parameters})
        for parameters in [problem.task.parameters] * count
    ]


@pytest.mark.parametrize("name", ["sparse", "dense", "count", "interacting", "infeasible"])
def test_a_family_measures_its_truth_with_noise(modules: Any, name: str) -> None:
    families = modules("families")
    problem = families.Family(name, 3)
    assert len(problem.task.parameters) == 37
    arm = next(arm for arm in some_arms(problem, 20) if problem.truth(arm) is not None)
    loss, size = problem.truth(arm)
    outcomes = [problem.measure(arm, np.random.default_rng(seed)) for seed in range(200)]
    losses = [one["loss"].mean for one in outcomes]
    assert np.mean(losses) == pytest.approx(loss, abs=4 * families.NOISE / 200**0.5)
    assert np.std(losses) == pytest.approx(families.NOISE, rel=0.25)
    assert {one["trainable_params"].mean for one in outcomes} == {size}
    assert problem.exact["trainable_params"](arm) == size


def test_instances_differ_and_repeat(modules: Any) -> None:
    families = modules("families")
    arms = some_arms(families.Family("sparse", 0), 30)
    truths = [
        [families.Family("sparse", instance).truth(arm) for arm in arms] for instance in (0, 0, 1)
    ]
    assert truths[0] == truths[1] != truths[2]


def test_four_in_ten_random_arms_run_out_of_memory_in_one_family_only(modules: Any) -> None:
    families = modules("families")
    for name in families.FAMILIES:
        problem = families.Family(name, 0)
        failed = sum(problem.measure(arm, np.random.default_rng(0)) is None
                     for arm in some_arms(problem, 400))  # fmt: skip
        assert (120 <= failed <= 200) if name == "infeasible" else failed == 0


def fabricated(method: str, problem: str, seed: int, early: float, late: float) -> dict[str, Any]:
    return {
        "problem": problem,
        "method": method,
        "seed": seed,
        "shares": [early] * 60 + [late] * 40,
        "cpu_s": 50.0,
        "failed": 2,
        "repeated": 1,
        "versions": {"optuna": "5.0.0"},
        "machine": "a machine",
    }


def test_the_verdict_compares_our_60_trials_with_the_best_peers_100(modules: Any) -> None:
    runs = [
        fabricated("milp_search", "sparse", 0, 0.7, 0.99),
        fabricated("milp_search", "sparse", 1, 0.9, 0.99),
        fabricated("optuna_tpe", "sparse", 0, 0.1, 0.79),
        fabricated("sobol", "sparse", 0, 0.1, 0.2),
        fabricated("milp_search", "dense", 0, 0.7, 0.99),
        fabricated("optuna_gp", "dense", 0, 0.6, 0.71),
    ]
    text = modules("summary").markdown(runs)
    assert "| sparse | 0.800 | 0.790 | optuna_tpe | 1 | yes |" in text
    assert "| dense | 0.700 | 0.710 | optuna_gp | 1 | NO |" in text
    assert "| milp_search | 2 | 0.800 ± 0.141 | 0.800 ± 0.141 | 0.990 ± 0.000 | 0.50 |" in text
    root = ElementTree.fromstring(modules("curves").curves(runs))
    assert root.tag.endswith("svg")


def test_an_ablation_is_compared_seed_by_seed(modules: Any) -> None:
    runs = [
        fabricated("milp_search", "sparse", 0, 0.9, 0.99),
        fabricated("milp_search", "sparse", 1, 0.5, 0.99),
        fabricated("milp_search", "sparse", 2, 0.1, 0.99),
        fabricated("plain GP", "sparse", 0, 0.8, 0.99),
        fabricated("plain GP", "sparse", 1, 0.6, 0.99),
        fabricated("milp_search", "dense", 0, 0.5, 0.99),
        fabricated("plain GP", "dense", 0, 0.8, 0.99),
    ]
    text = modules("summary").markdown(runs)
    assert "| plain GP | +0.000 ± 0.141 (2) | -0.300 (1) |  |  |  |  | -0.150 |" in text
    assert "| raw inputs |" not in text


def test_finished_runs_are_not_run_again(modules: Any) -> None:
    benchmark = modules("run")
    done = {("sobol", "sparse", 0), ("sobol", "sparse", 1), ("random", "sparse", 1)}
    left = [*benchmark.blocks(["sobol", "random"], ["sparse"], range(3), done)]
    assert left == [("random", "sparse", [0]), ("sobol", "sparse", [2]), ("random", "sparse", [2])]


@pytest.mark.slow
def test_one_command_runs_methods_and_writes_table_and_plot(tmp_path: Path) -> None:
    out = tmp_path / "search"
    command: list[str | Path] = [sys.executable, FOLDER / "run.py", "--out", out]
    command += ["--problems", "count"]
    command += ["--methods", "milp_search", "sobol", "--seeds", "1", "--budget", "23"]
    subprocess.run(command, check=True, capture_output=True)
    lines = out.with_suffix(".jsonl").read_text().splitlines()
    runs = {run["method"]: run for run in map(json.loads, lines)}
    assert {*runs} == {"milp_search", "sobol"}
    for run in runs.values():
        assert len(run["shares"]) == 23
        assert run["shares"] == sorted(run["shares"])
        assert 0.0 < run["shares"][-1] < 1.0
    assert "| milp_search | 1 |" in out.with_suffix(".md").read_text()
