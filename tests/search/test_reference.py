from __future__ import annotations

import pytest

from milp_search.core.arm import Arm
from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Measurement, Objective, Trial, TrialStatus
from milp_search.search.reference import infer_reference

LOSS, ROUGE = Objective("loss", "minimize"), Objective("rouge_l", "maximize")


def trials(*pairs: tuple[float, float]) -> list[Trial]:
    return [
        Trial(
            index,
            Arm({}),
            status=TrialStatus.COMPLETED,
            measurements={"loss": Measurement(loss), "rouge_l": Measurement(rouge)},
        )
        for index, (loss, rouge) in enumerate(pairs)
    ]


def test_the_worst_values_are_pushed_out_by_a_tenth_of_the_range() -> None:
    inferred = infer_reference(trials((1.0, 0.5), (2.0, 0.1), (3.0, 0.3)), [LOSS, ROUGE])
    assert inferred[0].reference == pytest.approx(3.2)
    assert inferred[1].reference == pytest.approx(0.06)


def test_a_given_reference_stays() -> None:
    given = Objective("loss", "minimize", 9.0)
    inferred = infer_reference(trials((1.0, 0.5), (2.0, 0.1)), [given, ROUGE])
    assert inferred[0] is given
    assert infer_reference([], [given]) == (given,)


def test_a_constant_metric_still_leaves_room() -> None:
    inferred = infer_reference(trials((2.0, 0.0), (2.0, 0.0)), [LOSS, ROUGE])
    assert inferred[0].reference == pytest.approx(2.2)
    assert inferred[1].reference == pytest.approx(-0.1)


def test_a_metric_that_varies_by_rounding_is_constant() -> None:
    # 0.1 + 0.2 is not quite 0.3.
    inferred = infer_reference(trials((0.1 + 0.2, 1e-9), (0.3, 3e-9)), [LOSS, ROUGE])
    assert inferred[0].reference == pytest.approx(0.33)
    assert inferred[1].reference == pytest.approx(0.8e-9)


def test_unfinished_trials_do_not_count() -> None:
    running = Trial(0, Arm({}), status=TrialStatus.RUNNING)
    with pytest.raises(MeasurementError, match="completed"):
        infer_reference([running], [LOSS])
