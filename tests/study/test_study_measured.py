"""What a trial may be told."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Measurement
from milp_search.study.measured import checked_measurements


def test_a_bare_number_is_a_mean_without_standard_error() -> None:
    told: dict[str, Any] = {"a": 2, "b": 0.5, "c": np.float32(0.25), "d": Measurement(1.0, 0.1)}
    assert checked_measurements(told, required=["a"], known=None) == {
        "a": Measurement(2.0),
        "b": Measurement(0.5),
        "c": Measurement(0.25),
        "d": Measurement(1.0, 0.1),
    }


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    told = {"a": Measurement(np.float32(0.5), np.float32(0.25), (np.float32(1.0),))}  # type: ignore[arg-type]
    value = checked_measurements(told, required=[], known=None)["a"]
    assert value == Measurement(0.5, 0.25, (1.0,))
    assert [type(number) for number in (value.mean, value.sem, *value.per_user)] == [float] * 3


def test_a_missing_metric_is_named_beside_what_came() -> None:
    with pytest.raises(MeasurementError, match="expected loss, mae; got nothing"):
        checked_measurements({}, required=["mae", "loss"], known=None)


def test_an_unknown_metric_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(MeasurementError, match=r"got 'rouge_ll'\n  Did you mean 'rouge_l'"):
        checked_measurements({"rouge_ll": 0.1}, required=[], known=["loss", "rouge_l"])
    with pytest.raises(MeasurementError, match=r"got 'xyz'$"):
        checked_measurements({"xyz": 0.1}, required=[], known=["loss"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_what_is_not_finite_is_refused_by_name(value: float) -> None:
    with pytest.raises(MeasurementError, match="loss: expected a finite mean"):
        checked_measurements({"loss": value}, required=[], known=None)


@pytest.mark.parametrize("value", ["2.0", None, True, 1j, [1.0]])
def test_what_is_no_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(MeasurementError, match="number or Measurement for 'loss'"):
        checked_measurements({"loss": value}, required=[], known=None)  # type: ignore[dict-item]


def test_any_real_number_will_do() -> None:
    checked = checked_measurements({"loss": Fraction(1, 4)}, required=[], known=None)  # type: ignore[dict-item]
    assert checked == {"loss": Measurement(0.25)}
