"""The soak in short: many short trials through Ray Tune, with every misfortune; and its judges."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milp_search.core.trial import Measurement, Objective
from milp_search.study.study import Study
from search.small_space import small_space

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak"
TRIALS = 120


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Returns what imports the soak's modules, which lie in no package."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(SOAK)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(SOAK) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of the command, at small size."""
    out = tmp_path_factory.mktemp("soak") / "soak"
    command = [sys.executable, str(SOAK / "run.py"), "--trials", str(TRIALS), "--parallel", "1"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    run = subprocess.run(
        [*command, "--quiet", "--out", str(out)], env=clean, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    assert out.with_suffix(".json").exists(), run.stderr
    assert "## 120 trials, proposer `random`" in out.with_suffix(".md").read_text()
    (found,) = json.loads(out.with_suffix(".json").read_text())["runs"]
    result: dict[str, Any] = found
    return result


@pytest.mark.slow
def test_the_store_is_what_the_trials_noted_themselves(soaked: dict[str, Any]) -> None:
    store = soaked["store"]
    assert store["faults"] == []
    assert store["trials"] == store["completed"] + store["failed"] == TRIALS
    assert store["attempts"]["completed"] == store["completed"]


@pytest.mark.slow
def test_every_misfortune_was_met_and_each_lost_process_replaced(soaked: dict[str, Any]) -> None:
    attempts = soaked["store"]["attempts"]
    kinds = {"completed", "exception", "non_finite", "out_of_memory", "hang", "lost_worker"}
    assert attempts.keys() == kinds
    assert soaked["store"]["workers"] == 1 + attempts["hang"] + attempts["lost_worker"]


@pytest.mark.slow
def test_descriptors_and_threads_of_driver_and_worker_stay_as_many(soaked: dict[str, Any]) -> None:
    judged = {one["name"]: one["flat"] for one in soaked["figures"] if one["most"] is not None}
    counted = {name: flat for name, flat in judged.items() if "memory" not in name}
    assert len(counted) == 5
    assert all(counted.values())


# --- its judges -----------------------------------------------------------------------------


def test_the_draw_is_the_seeds_and_meets_each_misfortune_as_often_as_it_says(modules: Any) -> None:
    luck = modules("luck").Luck(seed=3)
    fates = [luck.fate(trial, 0) for trial in range(20_000)]
    assert fates[:100] == [modules("luck").Luck(seed=3).fate(trial, 0) for trial in range(100)]
    assert fates.count("exception") / len(fates) == pytest.approx(0.03, abs=0.005)
    assert fates.count("lost_worker") / len(fates) == pytest.approx(0.01, abs=0.003)


def test_a_line_has_its_rise_over_a_thousand_trials(modules: Any) -> None:
    line = modules("slopes").slope([0, 500, 1000, 2000], [7.0, 8.0, 9.0, 11.0])
    assert (line.per_thousand, line.mean) == pytest.approx((2.0, 8.75))
    assert line.error == pytest.approx(0.0, abs=1e-12)
    assert line.flat(2.1)
    assert not line.flat(1.9)


def test_what_scatters_without_rising_is_flat(modules: Any) -> None:
    line = modules("slopes").slope([0, 1000, 2000, 3000], [1.0, 9.0, 9.0, 1.0])
    assert line.per_thousand == pytest.approx(0.0)
    assert line.error > 1
    assert line.flat(0.0)


def test_the_first_quarter_does_not_count(modules: Any) -> None:
    assert modules("slopes").last_three_quarters([10, 20, 25, 60, 100]) == [2, 3, 4]


def test_a_process_has_vitals_and_one_that_is_gone_has_none(modules: Any) -> None:
    vitals = modules("vitals")
    mine = vitals.vitals(os.getpid())
    assert mine.resident_mib > 10
    assert mine.descriptors >= 3
    child = subprocess.Popen(["sleep", "600"])
    assert child.pid in vitals.descendants(os.getpid())
    child.kill()
    child.wait()
    assert vitals.vitals(child.pid) is None


@pytest.fixture
def told(tmp_path: Path, modules: Any) -> Path:
    """A study of one completed and one failed trial, and a ledger that agrees."""
    goals = [Objective("loss", "minimize", 9.0), Objective("rouge_l", "maximize", 0.0)]
    with Study.create(
        tmp_path / "study", space=small_space(), objectives=goals, proposer="random"
    ) as study:
        study.ask_batch(2)
        study.start(0)
        formula = modules("luck").formula(0)
        study.tell(0, {name: Measurement(value, 0.1) for name, value in formula.items()})
        study.start(1)
        study.fail(1, "nan", "non_finite")
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "1").write_text("made\nsearch-00000-0 completed\n")
    (tmp_path / "ledger" / "2").write_text("made\nsearch-00001-0 non_finite\n")
    return tmp_path


def test_a_ledger_that_agrees_has_no_faults(told: Path, modules: Any) -> None:
    verdict = modules("check").compared(told / "study", told / "ledger", 2)
    assert verdict.faults == []
    assert (verdict.completed, verdict.failed, verdict.workers) == (1, 1, 2)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("search-00001-0 completed", "trial 1: non_finite in the store, ['completed'] in the ledg"),
        ("search-00001-0 non_finite\nsearch-00000-0 completed", "search-00000-0 ran 2 times"),
        ("search-00001-1 non_finite", "trial 1: attempts [1], last 0"),
        ("", "trial 1: attempts [], last 0"),
    ],
    ids=["lost result", "run twice", "wrong attempt", "never run"],
)
def test_a_ledger_that_does_not_agree_is_told_of(
    told: Path, modules: Any, line: str, fault: str
) -> None:
    (told / "ledger" / "2").write_text(f"made\n{line}".strip())
    faults = modules("check").compared(told / "study", told / "ledger", 2).faults
    assert any(fault in one for one in faults)
    assert modules("check").compared(told / "study", told / "ledger", 3).faults[0].startswith("3 ")
