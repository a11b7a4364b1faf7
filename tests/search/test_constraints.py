from __future__ import annotations

import pytest

from milp_search.core.errors import SpecError
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint, parse_constraint


def test_a_text_states_a_constraint() -> None:
    expected = OutcomeConstraint("peak_memory_mib", "<=", 4000.0)
    assert parse_constraint("peak_memory_mib <= 4000") == expected
    assert parse_constraint("rouge_l>=0.05") == OutcomeConstraint("rouge_l", ">=", 0.05)


@pytest.mark.parametrize("text", ["loss < 3", "loss <=", "<= 3", "loss", "loss <= many", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="peak_memory_mib <= 4000"):
        parse_constraint(text)


def test_bounds_are_finite_and_relations_known() -> None:
    with pytest.raises(SpecError, match="finite"):
        OutcomeConstraint("loss", "<=", float("nan"))
    with pytest.raises(SpecError, match="<"):
        OutcomeConstraint("loss", "<", 1.0)  # type: ignore[arg-type]


def test_its_metric_is_better_where_it_holds() -> None:
    assert OutcomeConstraint("loss", "<=", 3.0).objective == Objective("loss", "minimize", 3.0)
    assert OutcomeConstraint("mae", ">=", 1.0).objective == Objective("mae", "maximize", 1.0)
