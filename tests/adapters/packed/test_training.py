from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adapters.making import EXAMPLES, llama
from adapters.packed.making import SETTINGS, furthest, paths_of, random_adapter, stack_of
from milp_search.adapters.encoding import Encoded, encode
from milp_search.adapters.jobs import Adapter
from milp_search.adapters.packed import training
from milp_search.adapters.packed.factors import Factors, trainable
from milp_search.adapters.packed.memory import PassSize
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.training import LaneJob, passes, train_lanes
from milp_search.core.plan import AdapterPlan

BASE = llama()
STACK, PATHS = stack_of(BASE), paths_of(BASE)
TEXTS = tuple(encode(BASE.tokenizer, example, 100) for example in EXAMPLES)
LARGE = PassSize(10**6, 10**6)
# Ranks, masks, maps, scalings and lengths that differ.
PLANS = (
    AdapterPlan((2, 0, 5), 2.0),
    AdapterPlan((0, 1, 1), 1.0, "q_v"),
    AdapterPlan((0, 0, 3), 0.5, "down"),
    AdapterPlan((4, 4, 0), 1.0, "up"),
)


def lane_jobs() -> list[LaneJob]:
    return [
        LaneJob(
            random_adapter(BASE, plan, n),
            (random_adapter(BASE, PLANS[n - 1], 9),) if n % 2 else (),
            tuple((TEXTS[(n + step) % 5], TEXTS[step % 5]) for step in range(2 + 2 * n)),
        )
        for n, plan in enumerate(PLANS)
    ]


def trained(jobs: list[LaneJob], size: PassSize = LARGE) -> tuple[list[Adapter], list[list[float]]]:
    return train_lanes(STACK, PATHS, PrefixCache(STACK, "print"), jobs, SETTINGS, size)


def test_lanes_of_different_ranks_and_masks_train_side_by_side_as_alone() -> None:
    adapters, losses = trained(lane_jobs())
    for job, adapter, mine in zip(lane_jobs(), adapters, losses, strict=True):
        (single,), (expected,) = trained([job])
        assert mine == pytest.approx(expected, abs=1e-5)
        assert furthest(adapter, single) < 1e-4
        assert furthest(adapter, job.start) > 1e-3


def test_zero_padding_stays_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Factors] = []

    def spy(*given: object) -> Factors:
        seen.append(trainable(*given))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(training, "trainable", spy)
    jobs = lane_jobs()
    trained(jobs)
    (factors,) = seen
    own = torch.zeros_like(factors.flat, dtype=torch.bool)
    for lane, job in enumerate(jobs):
        for path, (a, _) in job.start.tensors.items():
            for part in factors.like(own).matrices(path, lane, len(a)):
                part.fill_(True)
    assert own.float().mean() < 0.5
    assert factors.flat[own].all()
    assert not factors.flat[~own].any()


def test_the_adapters_given_stay_as_they_are() -> None:
    jobs = lane_jobs()
    before = [replace(job.start, tensors={p: (a.clone(), b.clone())
                      for p, (a, b) in job.start.tensors.items()}) for job in jobs]  # fmt: skip
    trained(jobs)
    assert max(furthest(job.start, copy) for job, copy in zip(jobs, before, strict=True)) == 0.0


def test_a_lane_that_is_through_takes_no_part_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = []

    def spy(rows: list[Row], device: torch.device) -> object:
        lanes.append({row.lane for row in rows})
        return pack_rows(rows, device)

    monkeypatch.setattr(training, "pack_rows", spy)
    _, losses = trained(lane_jobs())
    assert [len(mine) for mine in losses] == [2, 4, 6, 8]
    assert lanes == [{0, 1, 2, 3}] * 2 + [{1, 2, 3}] * 2 + [{2, 3}] * 2 + [{3}] * 2


def test_a_lane_without_steps_comes_back_as_it_went_in() -> None:
    jobs = [replace(lane_jobs()[0], steps=()), lane_jobs()[1]]
    adapters, losses = trained(jobs)
    assert furthest(adapters[0], jobs[0].start) == 0.0
    assert losses[0] == []


# --- how rows are cut into passes -----------------------------------------------------------


def rows(*lanes_and_lengths: tuple[int, int]) -> list[Row]:
    return [Row(lane, Encoded((), (1,) * length)) for lane, length in lanes_and_lengths]


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        (LARGE, None, [5]),
        (PassSize(9, 100), None, [2, 3]),
        (PassSize(7, 100), None, [2, 2, 1]),
        (PassSize(1, 100), None, [1, 1, 1, 1, 1]),
        (PassSize(100, 15), None, [2, 3]),
        (PassSize(100, 10), None, [2, 2, 1]),
        (LARGE, 2, [5]),
        (LARGE, 1, [3, 2]),  # a row of each lane, then what is left of two
    ],
)
def test_passes_hold_whole_lanes_or_parts_of_one(
    size: PassSize, most: int | None, expected: list[int]
) -> None:
    every = rows((0, 4), (0, 3), (1, 5), (1, 1), (2, 2))
    parts = [*passes(every, size, most)]
    assert [len(part) for part in parts] == expected
    found = [row for part in parts for row in part]
    assert sorted(found, key=lambda row: row.lane) == every


def test_a_lane_that_is_cut_shares_no_pass() -> None:
    parts = [*passes(rows((0, 1), (1, 4), (1, 4), (2, 1)), PassSize(6, 100))]
    assert [[row.lane for row in part] for part in parts] == [[0], [1], [1], [2]]


def test_no_rows_make_no_passes() -> None:
    assert [*passes([], LARGE)] == []
