from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from milp_search.search.fit_state import FitState
from milp_search.search.orientation import Array
from milp_search.search.posterior import Draws, Surrogate
from milp_search.search.saas_fit import FitError, FitSettings, fit

SMALL = FitSettings(chains=2, windows=(6, 8, 12, 6), warmup=2, samples=8, draws=6, max_tree_depth=4)
RNG = np.random.default_rng(0)
INPUTS = RNG.random((24, 5))
TARGETS = np.sin(4.0 * INPUTS[:, 1]) + 0.05 * RNG.standard_normal(24)
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std()


def fitted(
    rows: int = 20, state: FitState | None = None, settings: FitSettings = SMALL, seed: int = 0
) -> tuple[Draws, FitState, str | None]:
    draws, after, reports = fit(INPUTS[:rows], [TARGETS[:rows]], [None], settings, seed, state)
    return draws[0], after, reports[0].cold


def same(one: Draws, other: Draws) -> bool:
    return np.array_equal(one.inverse_lengthscales, other.inverse_lengthscales)


def test_as_many_draws_come_back_as_were_asked_for() -> None:
    draws, _, _ = fitted()
    assert draws.inverse_lengthscales.shape == (6, 5)
    assert len(draws) == 6


def test_the_input_that_matters_is_found() -> None:
    settings = replace(SMALL, chains=4, samples=32, draws=32)
    draws, _, _ = fitted(settings=settings)
    assert np.median(draws.inverse_lengthscales, axis=0).argmax() == 1
    mean, _ = Surrogate(INPUTS[:20], TARGETS[:20], None, draws).predict(INPUTS[20:])
    errors = mean.mean(axis=0) - TARGETS[20:]
    assert np.sqrt((errors**2).mean()) < 0.3 * TARGETS.std()


def test_the_same_seed_gives_the_same_draws() -> None:
    assert same(fitted()[0], fitted()[0])
    assert not same(fitted()[0], fitted(seed=1)[0])


def test_the_order_of_the_rows_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(20)
    noise = np.linspace(0.01, 0.1, 20)
    straight, _, _ = fit(INPUTS[:20], [TARGETS[:20]], [noise], SMALL, 0)
    shuffled, _, _ = fit(INPUTS[:20][order], [TARGETS[:20][order]], [noise[order]], SMALL, 0)
    assert same(straight[0], shuffled[0])


def test_neither_does_the_order_of_repetitions() -> None:
    inputs, targets = np.tile(INPUTS[:10], (2, 1)), TARGETS[:20]
    straight, _, _ = fit(inputs, [targets], [None], SMALL, 0)
    shuffled, _, _ = fit(inputs[::-1].copy(), [targets[::-1].copy()], [None], SMALL, 0)
    assert same(straight[0], shuffled[0])


def test_metrics_are_fitted_side_by_side() -> None:
    noise = np.full(20, 0.01)
    targets = [TARGETS[:20], TARGETS[:20] ** 2]
    draws, state, reports = fit(INPUTS[:20], targets, [None, noise], SMALL, 0)
    assert len(draws) == len(state.metrics) == len(reports) == 2
    assert draws[0].noise is not None
    assert draws[1].noise is None
    assert same(draws[0], fitted()[0])


def test_a_fit_goes_on_where_the_last_one_ended() -> None:
    _, state, cold = fitted(20)
    assert cold == "first fit"
    _, after, cold = fitted(22, state)
    assert cold is None
    assert len(after.metrics[0].seen) == 22


def test_a_stored_state_continues_exactly_as_the_live_one() -> None:
    _, state, _ = fitted(20)
    stored = FitState.decoded(json.loads(json.dumps(state.encoded())))
    assert same(fitted(22, state)[0], fitted(22, stored)[0])


def restarts(sizes: Sequence[int], settings: FitSettings) -> list[list[bool]]:
    """Returns which chains started cold at each size of a growing study."""
    state, fresh = None, []
    for rows in sizes:
        _, state, reports = fit(INPUTS[:rows], [TARGETS[:rows]], [None], settings, 0, state)
        fresh.append(reports[0].fresh.tolist())
    return fresh


def test_one_chain_after_the_other_starts_cold_as_observations_come_in() -> None:
    # Two chains: due at 10 times the square root of 1.5, and at 15.
    found = restarts([10, 12, 13, 14, 15, 18, 19], SMALL)
    assert found == [
        [True, True], [False, False], [True, False], [False, False], [False, True],
        [False, False], [True, False],
    ]  # fmt: skip


def test_of_many_that_are_due_two_start_at_a_time() -> None:
    found = restarts([8, 20, 20, 20], replace(SMALL, chains=4))
    assert found == [
        [True] * 4,
        [True, True, False, False],
        [False, False, True, True],
        [False] * 4,
    ]


def test_chains_start_cold_when_new_observations_surprise_them() -> None:
    settings = replace(SMALL, chains=4, samples=16, growth=10.0)
    _, state, _ = fitted(12, settings=settings)
    targets = np.concatenate([TARGETS[:12], 9.0 + TARGETS[12:24]])
    _, state, reports = fit(INPUTS, [targets], [None], settings, 0, state)
    assert reports[0].cold is not None
    assert "probability" in reports[0].cold
    assert reports[0].improbability < 1e-3
    assert reports[0].fresh.tolist() == [True, True, False, False]
    assert (state.metrics[0].surprise, state.metrics[0].scored) == (0.0, 0.0)
    _, _, reports = fit(INPUTS, [targets], [None], settings, 0, state)
    assert reports[0].fresh.tolist() == [False, False, True, True]


def test_a_chain_starts_cold_from_impossible_hyperparameters() -> None:
    _, state, _ = fitted(20)
    positions = state.metrics[0].positions.copy()
    positions[1] = 800.0
    impossible = FitState((replace(state.metrics[0], positions=positions),))
    _, _, reports = fit(INPUTS[:20], [TARGETS[:20]], [None], SMALL, 0, impossible)
    assert reports[0].fresh.tolist() == [False, True]
    assert "finite" in str(reports[0].cold)


def test_expected_observations_do_not() -> None:
    settings = replace(SMALL, growth=10.0)
    _, state, _ = fitted(14, settings=settings)
    _, after, cold = fitted(20, state, settings)
    assert cold is None
    assert after.metrics[0].scored == 6.0


@pytest.mark.parametrize(
    "settings", [replace(SMALL, chains=3), replace(SMALL, warm=False)], ids=["chains", "never"]
)
def test_a_state_that_does_not_fit_is_not_used(settings: FitSettings) -> None:
    _, state, _ = fitted(20)
    assert fitted(21, state, settings)[2] == "first fit"


def test_a_state_of_other_inputs_is_not_used() -> None:
    _, state, _ = fitted(20)
    _, _, reports = fit(INPUTS[:20, :4], [TARGETS[:20]], [None], SMALL, 0, state)
    assert reports[0].cold == "first fit"


def test_a_chain_that_lags_is_left_out_and_moved() -> None:
    _, state, _ = fitted(20)
    metric = state.metrics[0]
    # All observations are noise of the wrong size, and the steps too small to leave.
    lost = np.array([-8.0, 3.0, -8.0, *[-8.0] * 5, -4.0])
    stuck = replace(
        metric,
        positions=np.array([metric.positions[0], lost]),
        step_sizes=np.array([metric.step_sizes[0], 1e-7]),
    )
    _, after, reports = fit(INPUTS[:20], [TARGETS[:20]], [None], SMALL, 0, FitState((stuck,)))
    assert reports[0].kept.tolist() == [True, False]
    assert np.abs(after.metrics[0].positions[1] - lost).max() > 1.0
    # The step size that was of no use goes as well.
    assert after.metrics[0].step_sizes[1] == after.metrics[0].step_sizes[0]


def _targets(kind: str) -> tuple[Array, Array]:
    if kind == "constant":
        return INPUTS[:10], np.zeros(10)
    if kind == "repeated":
        return np.tile(INPUTS[:5], (2, 1)), np.tile(TARGETS[:5], 2)
    return INPUTS[:1], np.zeros(1)


@pytest.mark.parametrize("kind", ["constant", "repeated", "single"])
@pytest.mark.parametrize("known", [True, False])
def test_odd_observations_do_not_crash_the_fit(kind: str, known: bool) -> None:
    inputs, targets = _targets(kind)
    noise = np.zeros(len(targets)) if known else None
    draws, state, _ = fit(inputs, [targets], [noise], SMALL, 0)
    assert np.isfinite(draws[0].inverse_lengthscales).all()
    _, _, reports = fit(inputs, [targets], [noise], SMALL, 1, state)
    assert reports[0].cold is None


def test_observations_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FitError, match="finite"):
        fit(INPUTS[:20], [np.full(20, np.nan)], [None], SMALL, 0)
