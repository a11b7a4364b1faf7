from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective
from milp_search.search.constraints import (
    OutcomeConstraint,
    Relation,
    checked_constraints,
    parse_constraint,
)

LOSS = Objective("loss", "minimize", 3.0)


def test_a_text_states_a_constraint() -> None:
    expected = OutcomeConstraint("trainable_params", "<=", 4000.0)
    assert parse_constraint("trainable_params <= 4000") == expected
    part = OutcomeConstraint("rouge_l@cold_start", ">=", 0.1)
    assert parse_constraint("rouge_l@cold_start >= 0.1") == part
    assert str(part) == "rouge_l@cold_start >= 0.1"
    assert parse_constraint("rouge_l>=0.05") == OutcomeConstraint("rouge_l", ">=", 0.05)


@pytest.mark.parametrize(
    "text",
    [
        *("loss < 3", "loss <=", "<= 3", "loss", "loss <= many", ""),
        *("0 <= loss <= 3", "loss >= 0 <= 3", "loss == 3", "loss <= nan"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="trainable_params <= 100000"):
        parse_constraint(text)


def test_bounds_are_finite_and_relations_known() -> None:
    with pytest.raises(SpecError, match="finite"):
        OutcomeConstraint("loss", "<=", float("nan"))
    with pytest.raises(SpecError, match="<"):
        OutcomeConstraint("loss", "<", 1.0)  # type: ignore[arg-type]


def test_its_metric_is_better_where_it_holds() -> None:
    assert OutcomeConstraint("loss", "<=", 3.0).objective == Objective("loss", "minimize", 3.0)
    assert OutcomeConstraint("mae", ">=", 1.0).objective == Objective("mae", "maximize", 1.0)


def test_a_bound_is_itself_allowed() -> None:
    most, least = OutcomeConstraint("loss", "<=", 3.0), OutcomeConstraint("mae", ">=", 3.0)
    assert [most.holds(value) for value in (2.9, 3.0, 3.1)] == [True, True, False]
    assert [least.holds(value) for value in (2.9, 3.0, 3.1)] == [False, True, True]


def test_it_is_written_as_people_write_it() -> None:
    assert (
        str(OutcomeConstraint("trainable_params", "<=", 100000.0)) == "trainable_params <= 100000"
    )
    assert str(OutcomeConstraint("rouge_l", ">=", 0.3)) == "rouge_l >= 0.3"


@given(
    bound=st.floats(allow_nan=False, allow_infinity=False),
    relation=st.sampled_from(["<=", ">="]),
)
def test_what_is_written_reads_back(bound: float, relation: Relation) -> None:
    constraint = OutcomeConstraint("loss", relation, bound)
    assert parse_constraint(str(constraint)) == constraint


def test_texts_and_constraints_may_be_mixed() -> None:
    least = OutcomeConstraint("rouge_l", ">=", 0.3)
    expected = (least, OutcomeConstraint("rouge_l", "<=", 0.5), OutcomeConstraint("loss", "<=", 2))
    assert checked_constraints([least, "rouge_l <= 0.5", "loss <= 2"], [LOSS]) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["mae <= 2", "mae <= 1"], "expected one bound <= on 'mae', got 'mae <= 2' and 'mae <= 1'"),
        (["mae >= 2", "mae <= 1"], "some value of 'mae' keeps, got 'mae >= 2' and 'mae <= 1'"),
        (["mae <= 1", "mae >= 1"], "some value of 'mae' keeps, got 'mae >= 1' and 'mae <= 1'"),
        (["loss >= 2"], "'loss' keeps by getting better, got 'loss >= 2' with direction minimize"),
    ],
)
def test_constraints_that_do_not_go_together_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        checked_constraints(texts, [LOSS])
