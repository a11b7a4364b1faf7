from __future__ import annotations

import pytest

from milp_search.search import domain as domain_module
from milp_search.search.domain import Domain

from .small_space import parameters_of, plan_of, small_space


def small_domain() -> Domain:
    return Domain(small_space().parameters, plan_of, {"trainable_params": parameters_of})


def test_steps_are_powers_of_two_along_one_parameter() -> None:
    domain = small_domain()
    # n from 0 to 6, r of three values, three layer bits, T, k and c of 2, 3 and 2 values.
    assert domain.sizes == (7, 3, 2, 2, 2, 2, 3, 2)
    steps = [*domain.steps((0, 1, 0, 0, 1, 0, 2, 0))]
    assert sorted(point[0] for point in steps if point[0] != 0) == [1, 2, 4]
    assert sorted(point[1] for point in steps if point[1] != 1) == [0, 2]
    assert sorted(point[6] for point in steps if point[6] != 2) == [0, 1]
    assert len(steps) == len({*steps}) == 3 + 2 + 3 + 1 + 2 + 1


def test_every_step_is_a_neighbour() -> None:
    domain = small_domain()
    point = (3, 0, 1, 0, 1, 1, 1, 0)
    assert {*domain.steps(point)} <= {*domain.neighbours(point)}


def test_a_point_is_described_once() -> None:
    domain = small_domain()
    first = domain.candidate((3, 0, 1, 0, 1, 1, 1, 0))
    assert domain.candidate((3, 0, 1, 0, 1, 1, 1, 0)) is first
    assert domain.describe(first.arm) is first
    assert first.fingerprint == plan_of(first.arm).fingerprint()


def test_not_more_candidates_are_kept_than_a_search_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_module, "_KEPT", 3)
    domain = small_domain()
    points = [(count, 1, 1, 1, 1, 0, 0, 0) for count in range(7)]
    before = [domain.candidate(point).plan for point in points]
    assert len(domain._made) <= 3
    assert len(domain._placed) <= 3
    assert [domain.candidate(point).plan for point in points] == before
