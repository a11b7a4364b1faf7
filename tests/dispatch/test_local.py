from __future__ import annotations

from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.trial import Measurement
from milp_search.dispatch.jobs import Job, Outcome, Pack
from milp_search.dispatch.local import run_local

PLAN = TrialPlan("milp_logo", AdapterPlan((8, 0)))


class Countdown:
    """Hands out packs of two jobs, with nothing to hand out before each of them."""

    def __init__(self, count: int):
        self.waiting = [Job("search", n, 0, PLAN, seed=0) for n in range(count)]
        self.ended: list[tuple[int, float]] = []
        self._rest = False

    @property
    def finished(self) -> bool:
        return not self.waiting

    def next(self) -> Pack:
        self._rest = not self._rest
        return () if self._rest else tuple(self.waiting[:2])

    def done(self, job: Job, outcome: Outcome) -> None:
        assert job == self.waiting.pop(0)
        self.ended.append((job.trial, outcome.measurements["loss"].mean))


def double(pack: Pack) -> list[Outcome]:
    return [Outcome({"loss": Measurement(2.0 * job.trial)}) for job in pack]


def test_every_job_runs_once_in_order_and_its_outcome_comes_back() -> None:
    source = Countdown(3)
    run_local(source, double)
    assert source.ended == [(0, 0.0), (1, 2.0), (2, 4.0)]


def test_a_finished_source_runs_nothing() -> None:
    source = Countdown(0)
    run_local(source, double)
    assert source.ended == []
