"""The benchmark of the surrogate, at small size: its one command measures fits and proposals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "search" / "surrogate.py"
SMALL = ("--small", "--seeds", "2", "--stock-seeds", "1", "--proposal-seeds", "1")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the results, without ending."""
    out: Path = tmp_path_factory.mktemp("results") / "surrogate"
    subprocess.run([sys.executable, SCRIPT, *SMALL, "--out", out], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    """What was measured."""
    found: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return found


def test_ours_is_fitted_cold_and_warm_and_so_is_the_stock_model(found: dict[str, Any]) -> None:
    kinds = [(row["size"], row["fit"], row["seed"]) for row in found["fits"]]
    warm = ("warm", "warm, a chain anew", "warm, two chains anew")
    ours = [(20, fit, seed) for seed in (0, 1) for fit in ("cold", *warm)]
    assert kinds == [*ours, (20, "stock BoTorch", 0), (12, "cold", 0), (12, "cold", 1)]
    assert all(row["cpu_s"] > 0 for row in found["fits"])


def test_errors_are_those_of_a_model_that_learned(found: dict[str, Any]) -> None:
    # The truth has unit variance, so that its mean has error 1.
    rows = [row for row in found["fits"] if row["size"] == 20]
    assert all(row["rmse"] < 0.95 and math.isfinite(row["nll"]) for row in rows)


def test_chains_that_start_anew_change_the_fit(found: dict[str, Any]) -> None:
    rows = [row for row in found["fits"] if row["size"] == 20 and row["seed"] == 0]
    assert len({row["rmse"] for row in rows}) == len(rows)


def test_proposals_are_timed_cold_and_warm_by_their_number(found: dict[str, Any]) -> None:
    kinds = [(row["batch"], row["fit"]) for row in found["proposals"]]
    after = ("warm", "warm, two chains anew")
    assert kinds == [(1, "cold"), *((batch, fit) for batch in (1, 2) for fit in after)]
    assert all(0 < row["fit_cpu_s"] < row["cpu_s"] for row in found["proposals"])


def test_the_table_says_where_it_was_measured(out: Path, found: dict[str, Any]) -> None:
    table = out.with_suffix(".md").read_text()
    assert found["machine"]["processor"] in table
    assert f"botorch {found['machine']['versions']['botorch']}" in table
    assert len([line for line in table.splitlines() if line.startswith("| sparse")]) == 6
