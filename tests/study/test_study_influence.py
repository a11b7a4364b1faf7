"""Rank correlations against hand calculation."""

from __future__ import annotations

import pytest

from milp_search.study.influence import MIN_TRIALS, active_layers, influence, spearman
from study.making import Make, tell_many


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 500], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        # Without ties 1 - 6 sum(d^2) / (n (n^2 - 1)): d = (0, 1, 1, 0).
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),
        # Ranks 3, 3, 3, 1, 5 against 5, 2, 3, 1, 4; from 3: (4 + 2) / sqrt(8 * 10).
        ([7, 7, 7, 1, 9], [5, 2, 3, 1, 4], 6 / 80**0.5),
        # The tie takes rank 1.5 twice: 1.5 / sqrt(1.5 * 2).
        ([1, 1, 2], [1, 2, 3], 1.5 / 3**0.5),
    ],
)
def test_spearman_is_the_correlation_of_ranks(
    a: list[float], b: list[float], expected: float
) -> None:
    assert spearman(a, b) == pytest.approx(expected)


def test_what_never_varies_has_no_correlation() -> None:
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_the_layer_mask_counts_as_one_choice(make: Make) -> None:
    study = make()
    tell_many(study, MIN_TRIALS + 1)
    names, table = influence(study)
    assert names == ["lora_count", "lora_rank", "FFN layers on", "retrieved_items"]
    done = [trial for trial in study.trials if trial.measurements]
    layers = [float(active_layers(trial)) for trial in done]
    losses = [trial.measurements["loss"].mean for trial in done]
    assert table[2][0] == spearman(layers, losses)


def test_few_trials_say_nothing(make: Make) -> None:
    study = make()
    tell_many(study, MIN_TRIALS)
    assert influence(study) == ([], [])
