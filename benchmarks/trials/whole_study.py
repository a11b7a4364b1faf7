"""A study end to end, by the real driver: packed with reuse and packs, against plain PEFT.

The packed study goes first and proposes by itself. Every later one is given the very arms that it
proposed, and is charged for each as long as the first one's proposer took: so all do the same work,
and their seconds can be compared as they stand. In this process they are the seconds that it
computed, through Ray wall-clock seconds.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from setting import Setting

from milp_search.core.trial import Trial
from milp_search.dispatch.drive import prepare, run_study
from milp_search.dispatch.jobs import Outcome, job_from_dict, outcome_from_dict
from milp_search.search.proposal import Memory, Proposal, Proposer
from milp_search.search.proposers import PROPOSERS
from milp_search.search.proposers import Setting as ProposerSetting
from milp_search.study.spec import Budget, StudySpec
from milp_search.study.study import Study

_WAYS: dict[str, dict[str, Any]] = {
    "packed": {"trainer": "packed", "reuse": True, "pack": "auto"},
    "plain": {"trainer": "plain", "reuse": False, "pack": 1},
}


@dataclass
class Asks:
    """What a proposer was asked: per ask the number of trials before it, proposals and seconds.

    `clock` tells the seconds; where it counts what is computed only, nobody has to wait.
    """

    clock: Callable[[], float]
    found: dict[int, tuple[list[Proposal], float]] = field(default_factory=dict)

    def wait(self, seconds: float) -> None:
        """Lets time pass where it is told by the wall."""
        if self.clock is time.perf_counter:
            time.sleep(seconds)

    @property
    def seconds(self) -> float:
        """The seconds of all asks."""
        return sum(seconds for _, seconds in self.found.values())


class Recording:
    """Proposes as another proposer does, and notes what and how long."""

    def __init__(self, inner: Proposer, asks: Asks):
        self.name, self._inner, self._asks = inner.name, inner, asks
        self._trials = 0
        self._observing_s = 0.0

    @property
    def memory(self) -> Memory | None:
        """What the inner proposer remembers."""
        return self._inner.memory

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        """Hands on the trials known so far."""
        self._trials = len(trials)
        start = self._asks.clock()
        self._inner.observe(trials, memory)
        self._observing_s = self._asks.clock() - start

    def propose(self, count: int) -> list[Proposal]:
        """Returns the inner proposals."""
        start = self._asks.clock()
        proposals = self._inner.propose(count)
        seconds = self._asks.clock() - start + self._observing_s
        self._asks.found[self._trials] = (proposals, seconds)
        return proposals


class Replaying:
    """Proposes what was recorded, and takes as long."""

    memory: Memory | None = None

    def __init__(self, name: str, asks: Asks):
        self.name, self._asks = name, asks
        self._trials = 0

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        """Notes how many trials there are."""
        self._trials = len(trials)

    def propose(self, count: int) -> list[Proposal]:
        """Returns the recorded proposals of the ask after so many trials."""
        proposals, seconds = self._asks.found[self._trials]
        assert len(proposals) == count, "expected the recorded study's batches"
        self._asks.wait(seconds)
        return proposals


def whole_studies(
    setting: Setting, trials: int, repeats: int, *, ray: bool
) -> list[dict[str, Any]]:
    """Returns a row per study, in the order in which they ran; `packed` and `plain` by turns.

    Each plain row tells how it differs from the packed study before it.
    """
    rows = []
    for parallel in (0, 2) if ray else (0,):
        asks = Asks(time.perf_counter if parallel else time.process_time)
        with tempfile.TemporaryDirectory() as place:
            # Imports and the first look at the data are nobody's to pay.
            _ran(setting, Path(place) / "first", "plain", 1, parallel, _sobol, asks.clock)
            for repeat in range(repeats):
                folders = {way: Path(place) / f"{way}-{repeat}" for way in _WAYS}
                for way, folder in folders.items():
                    replayed = bool(asks.found)
                    make = _replaying(asks) if replayed else _recording(setting, asks)
                    seconds = _ran(setting, folder, way, trials, parallel, make, asks.clock)
                    if replayed and not parallel:
                        seconds += asks.seconds
                    row: dict[str, Any] = {
                        "setting": setting.name,
                        "way": way,
                        "parallel": parallel,
                    }
                    row |= {"proposals": "replayed" if replayed else "its own"}
                    row |= {"seconds": seconds, "proposals_s": asks.seconds}
                    rows.append(row | _account(folder))
                rows[-1] |= compared(folders["packed"], folders["plain"])
    return rows


def _ran(
    setting: Setting, folder: Path, way: str, trials: int, parallel: int,
    make: Callable[[ProposerSetting], Proposer], clock: Callable[[], float],
) -> float:  # fmt: skip
    """Returns the seconds of a study from its creation to its report."""
    spec = _spec(setting, way, trials, parallel)
    prepared = prepare(spec)
    console = Console(file=io.StringIO())
    with _proposing(spec.proposer, make):
        start = clock()
        code = run_study(prepared, folder, console)
        seconds = clock() - start
    if code != 0:
        raise SystemExit(f"the {way} study ended with code {code}; see {folder / 'log.txt'}")
    return seconds


def _spec(setting: Setting, way: str, trials: int, parallel: int) -> StudySpec:
    spec, gpu = setting.spec, setting.device.startswith("cuda")
    where: dict[str, Any] = {"local": parallel == 0, "parallel": max(parallel, 1)}
    where |= {"device": "cuda" if gpu else "cpu"}
    if gpu and parallel:
        where |= {"gpus_per_trial": 1.0 / parallel}
    # Recorded asks have to come at the same places: after as many trials as before.
    dispatch = spec.dispatch.model_copy(update={**where, **_WAYS[way], "look_ahead": False})
    first = min(spec.initial_trials or trials, trials)
    update = {"budget": Budget(trials=trials), "initial_trials": first, "dispatch": dispatch}
    return spec.model_copy(update=update)


@contextmanager
def _proposing(name: str, make: Callable[[ProposerSetting], Proposer]) -> Iterator[None]:
    """Puts a proposer in another one's place."""
    before = PROPOSERS[name]
    PROPOSERS[name] = make
    try:
        yield
    finally:
        PROPOSERS[name] = before


def _recording(setting: Setting, asks: Asks) -> Callable[[ProposerSetting], Proposer]:
    inner = PROPOSERS[setting.spec.proposer]
    return lambda given: Recording(inner(given), asks)


def _replaying(asks: Asks) -> Callable[[ProposerSetting], Proposer]:
    return lambda _: Replaying("replayed", asks)


def _sobol(given: ProposerSetting) -> Proposer:
    return PROPOSERS["sobol"](given)


def _account(folder: Path) -> dict[str, Any]:
    """Returns where a study's seconds went, its reuse and its packs."""
    seconds = {"search": 0.0, "test": 0.0}
    jobs = {"search": 0, "test": 0}
    reused: dict[str, list[int]] = {}
    packs: list[int] = []
    for kind, outcome in _outcomes(folder):
        if outcome.failure is not None:
            raise SystemExit(f"a trial failed: {outcome.failure}")
        seconds[kind] += outcome.duration_s or 0.0
        jobs[kind] += 1
        packs.append(outcome.pack)
        for name, (hits, asked) in outcome.reused.items():
            total = reused.setdefault(name, [0, 0])
            total[0] += hits
            total[1] += asked
    return {
        "trials": jobs["search"],
        "trials_s": seconds["search"],
        "tests": jobs["test"],
        "tests_s": seconds["test"],
        "reused": reused,
        "largest_pack": max(packs),
    }


def _outcomes(folder: Path) -> list[tuple[str, Outcome]]:
    contents = [json.loads(file.read_text()) for file in sorted(folder.glob("results/*.json"))]
    return [(job_from_dict(c["job"]).kind, outcome_from_dict(c["outcome"])) for c in contents]


def compared(one: Path, other: Path) -> dict[str, Any]:
    """Returns whether two studies have the same arms and front, and how far their values differ."""
    with Study.open(one, read_only=True) as a, Study.open(other, read_only=True) as b:
        differences = {
            objective.metric: max(
                abs(mine.measurements[objective.metric].mean - theirs.mean)
                for mine, theirs in zip(
                    a.trials, (t.measurements[objective.metric] for t in b.trials), strict=True
                )
            )
            for objective in a.objectives
        }
        fronts = [[trial.index for trial in study.front()] for study in (a, b)]
        return {
            "same_arms": [t.arm for t in a.trials] == [t.arm for t in b.trials],
            "same_front": fronts[0] == fronts[1],
            "front": fronts[0],
            "other_front": fronts[1],
            "differences": differences,
        }
