"""A study as it is after a day: trials of all ends, tests, and what the proposer remembers."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from milp_search.core.trial import Failure, Measurement, Objective, Trial
from milp_search.search.proposal import Proposal, Proposer
from milp_search.space.space_file import load_search_space
from milp_search.study.events import Event
from milp_search.study.store import EventStore
from milp_search.study.study import STORE_NAME, Study
from study.conftest import SPACE

GOALS = (Objective("loss", "minimize"), Objective("rouge_l", "maximize"))


class Remembering:
    """A proposer that leaves a memory beside its proposals, as the surrogate's last fit is one."""

    def __init__(self, inner: Proposer):
        self._inner, self.name = inner, inner.name
        self.memory: Mapping[str, Any] | None = None

    def observe(self, trials: Sequence[Trial], memory: Mapping[str, Any] | None = None) -> None:
        self._inner.observe(trials, memory)

    def propose(self, count: int) -> list[Proposal]:
        made = self._inner.propose(count)
        self.memory = {
            "chain": [0.125 * number for number in range(300)],
            "of": made[0].arm["lora_rank"],
        }
        return made


def day_old_study(folder: Path, trials: int = 40) -> list[Event]:
    """Makes a study through its public names and returns its events."""
    (folder.parent / "space.yaml").write_text(SPACE)
    space = load_search_space(folder.parent / "space.yaml")
    with Study.create(
        folder, space=space, objectives=GOALS, proposer="random", initial_trials=5
    ) as study:
        for number in range(trials):
            live_through(study, number)
        return study.events()


def live_through(study: Study, number: int) -> None:
    """Asks a trial and ends it in one of the ways in which trials end."""
    look = study.look(ahead=1 if number % 3 == 0 else None)
    look = replace(look, proposer=Remembering(look.proposer))
    trial = study.take(look, look.propose(1))[0]
    study.start(trial.index)
    if number % 7 == 4:
        study.start(trial.index, 1, after=Failure("lost_worker", "its process was killed"))
    if number % 10 == 9:
        study.fail(trial.index, "ValueError at run.py:7", "exception", 1.5)
        return
    users = tuple(2.5 - number / 50 + user / 16 for user in range(20))
    loss = Measurement(sum(users) / 20, 0.125, users)
    study.tell(trial.index, {"loss": loss, "rouge_l": Measurement(number % 8 / 16, 0.01)}, 2.5)
    if number % 8 == 7:
        study.record_test(trial.index, 7, {"loss": loss})


def with_live_log(folder: Path, to: Path) -> list[Event]:
    """Goes on with a study and copies its files while its last events are in the log only."""
    with Study.open(folder) as study, closing(sqlite3.connect(folder / STORE_NAME)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM events").fetchone()
        for number in range(2):
            live_through(study, number)
        shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*-shm"))
        return study.events()


def read(path: Path, *, read_only: bool = True) -> list[Event]:
    """Returns what a store gives."""
    with closing(EventStore.open(path, read_only=read_only)) as store:
        return store.read()
