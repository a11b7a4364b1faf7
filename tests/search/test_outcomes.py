from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.search.outcomes import OUTCOME_TRANSFORMS, normal_copula, standardized


def test_standardized_outcomes_have_zero_mean_and_unit_variance() -> None:
    scale = standardized(np.array([1.0, 3.0, 5.0]))
    assert scale(np.array([1.0, 3.0, 5.0])) == pytest.approx([-1.0, 0.0, 1.0])
    assert scale(np.array(9.0)) == pytest.approx(3.0)
    assert scale.noise_factor == pytest.approx(0.25)


def test_constant_outcomes_are_only_centred() -> None:
    assert standardized(np.full(4, 7.0))(np.array([7.0, 8.0])) == pytest.approx([0.0, 1.0])
    assert normal_copula(np.full(4, 7.0))(np.array([7.0])) == pytest.approx([0.0])
    assert standardized(np.array([7.0]))(np.array([6.0])) == pytest.approx([-1.0])


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1e9])
def test_standardized_outcomes_do_not_depend_on_the_unit(unit: float) -> None:
    scale = standardized(unit * np.array([1.0, 3.0, 5.0]))
    assert scale(unit * np.array([1.0, 3.0, 5.0])) == pytest.approx([-1.0, 0.0, 1.0])
    assert scale.noise_factor == pytest.approx(0.25 / unit**2)


@pytest.mark.parametrize("size", [0.3, 1e17, -1e17])
def test_outcomes_that_differ_by_rounding_are_constant(size: float) -> None:
    outcomes = np.array([size, np.nextafter(size, np.inf), size])
    assert standardized(outcomes)(outcomes) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_outcomes_too_small_to_be_squared_are_only_centred() -> None:
    assert standardized(np.array([1e-200, 3e-200])).noise_factor == 1.0


def test_the_copula_maps_ranks_to_normal_quantiles() -> None:
    # Quantiles (rank - 1/2) / 2 of two outcomes are 1/4 and 3/4.
    scale = normal_copula(np.array([100.0, 1.0]))
    assert scale(np.array([1.0, 100.0])) == pytest.approx([-0.6744898, 0.6744898])
    assert scale.noise_factor is None


def test_ties_share_a_rank_under_the_copula() -> None:
    # Ranks 1.5, 1.5, 3 of three: quantiles 1/3, 1/3, 5/6.
    scale = normal_copula(np.array([2.0, 2.0, 5.0]))
    assert scale(np.array([2.0, 5.0])) == pytest.approx([-0.4307273, 0.9674216])


@given(
    name=st.sampled_from(sorted(OUTCOME_TRANSFORMS)),
    outcomes=st.lists(st.integers(-50, 50), min_size=1, max_size=12),
)
def test_scales_keep_the_order_beyond_the_observed_too(name: str, outcomes: list[int]) -> None:
    scale = OUTCOME_TRANSFORMS[name](np.array(outcomes, dtype=float))
    assert (np.diff(scale(np.arange(-60.0, 61.0))) > 0).all()
