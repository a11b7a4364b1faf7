from __future__ import annotations

import json

import numpy as np
import pytest

from milp_search.search.fit_state import FitState, FitStateError, MetricState, fingerprints

RNG = np.random.default_rng(0)
FACTOR = np.tril(RNG.random((5, 5))).astype(np.float32).astype(np.float64)
STATE = FitState(
    (
        MetricState(
            RNG.normal(size=(2, 5)),
            np.array([0.1, 0.2]),
            FACTOR,
            np.array([-3.5, -4.5]),
            np.array([3, 2**63 + 1], dtype=np.uint64),
            np.array([18.5, np.inf]),
            2.5,
            3.25,
        ),
    )
)


def test_json_loses_nothing() -> None:
    restored = FitState.decoded(json.loads(json.dumps(STATE.encoded()))).metrics[0]
    before = STATE.metrics[0]
    for name in ("positions", "step_sizes", "factor", "log_densities", "seen", "due"):
        assert np.array_equal(getattr(restored, name), getattr(before, name)), name
        assert getattr(restored, name).dtype == getattr(before, name).dtype
    assert (restored.surprise, restored.scored) == (2.5, 3.25)


def test_another_version_is_refused() -> None:
    with pytest.raises(FitStateError, match="version"):
        FitState.decoded({"version": 1})


@pytest.mark.parametrize("damage", [{"positions": "!"}, {"factor": "AAAA"}, {"scored": "x"}])
def test_damage_is_refused(damage: dict[str, str]) -> None:
    data = STATE.encoded()
    data["metrics"][0] |= damage
    with pytest.raises(FitStateError, match="damaged"):
        FitState.decoded(data)


def test_equal_rows_have_equal_fingerprints() -> None:
    first, second, third = fingerprints(np.array([[0.1, 0.2], [0.1, 0.3], [0.1, 0.2]]))
    assert first == third
    assert first != second
