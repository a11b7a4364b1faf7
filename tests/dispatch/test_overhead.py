"""What a trial costs that trains nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from milp_search.dispatch.overhead import measure_overhead
from milp_search.study.spec import DispatchSettings
from milp_search.study.study import Study


@pytest.mark.parametrize("pack", [1, 4])
def test_a_trial_in_this_process_costs_less_than_50_ms(tmp_path: Path, pack: int) -> None:
    overhead = measure_overhead(tmp_path, DispatchSettings(local=True, pack=pack), trials=20)
    assert 0 < overhead.per_trial_s < 0.05
    with Study.open(tmp_path, read_only=True) as study:
        assert [trial.pack for trial in study.trials] == [pack] * 20


@pytest.mark.slow
def test_a_trial_through_ray_costs_less_than_50_ms(tmp_path: Path) -> None:
    overhead = measure_overhead(tmp_path, DispatchSettings(), trials=40)
    assert 0 < overhead.per_trial_s < 0.05 < overhead.first_s
