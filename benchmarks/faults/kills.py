"""SIGKILL at random moments: of the driver, of a worker, of both at once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from cell import Amount
from process import kill, kill_group, wait_until
from study_run import Driver, Ending, Size, StudyRun, study_run
from subjects import SUBJECTS, Subject
from verdict import Verdict, judge

# ours: so many of the kills come while a driver still starts, the others while trials run.
EARLY = 0.2
# A worker that is between two trials is waited for.
WAIT_S = 60.0

Strike = Callable[[Driver], bool]


def driver_kills(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of each study whose driver was killed again and again."""
    return _killed(subject, amount, Driver.kill)


def group_kills(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of each study whose driver was killed with its whole process group."""

    def strike(driver: Driver) -> bool:
        kill_group(driver.pid, signal.SIGKILL)
        return driver.kill()

    return _killed(subject, amount, strike)


def worker_kills(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of each study whose workers were killed while they worked."""
    return _killed(subject, amount, kill_worker)


def kills_of_both(subject: Subject, amount: Amount) -> Iterator[Verdict]:
    """Yields what became of each study whose driver and a worker were killed at once."""

    def strike(driver: Driver) -> bool:
        return kill_worker(driver) and driver.kill()

    return _killed(subject, amount, strike)


def kill_worker(driver: Driver) -> bool:
    """Kills the process of a trial as soon as one is under way; returns whether one came."""
    struck: list[int] = []

    def strike() -> bool:
        struck.extend(pid for pid in _at_work(driver) if kill(pid))
        return bool(struck) or not driver.alive()

    wait_until(strike, WAIT_S)
    driver.run.kills += [time.monotonic()] * len(struck)
    return bool(struck)


def _at_work(driver: Driver) -> list[int]:
    """Returns the process of the trial that began last and has not ended, if there is one."""
    entries = driver.news()
    over = {(entry.trial, entry.pid) for entry in entries if entry.event == "end"}
    working = [
        entry.pid
        for entry in entries
        if entry.event == "begin" and (entry.trial, entry.pid) not in over
    ]
    return working[-1:]


@cache
def undisturbed(subject: Subject, size: Size) -> Mapping[str, Any] | None:
    """Returns the values of a study to which nothing happens, where they are its seed's alone."""
    if subject.twin is None:
        return None
    with study_run(SUBJECTS[subject.twin], size) as run:
        run.finish()
        values: Mapping[str, Any] = run.show()["values"]
        return values


def _killed(subject: Subject, amount: Amount, strike: Strike) -> Iterator[Verdict]:
    chance = random.Random(amount.seed)
    size = amount.size
    reference = undisturbed(subject, size)
    # A study is killed at an even pace, on the whole over all of its trials.
    pace_s = size.trials * size.seconds / size.parallel / (amount.kills_a_study + 1)
    for _ in range(amount.studies):
        with study_run(subject, size) as run:
            ending = _kill_again_and_again(run, amount.kills_a_study, pace_s, strike, chance)
            yield judge(run, ending, reference)


def _kill_again_and_again(
    run: StudyRun, kills: int, pace_s: float, strike: Strike, chance: random.Random
) -> Ending:
    """Returns how the driver ended that was left alone at last."""
    driver = run.start()
    start_up_s, may_be_early = pace_s, strike is not kill_worker
    for _ in range(kills):
        if may_be_early and chance.random() < EARLY:
            time.sleep(chance.uniform(0.0, start_up_s))
        elif driver.wait_for_trials():
            start_up_s = max(start_up_s, time.monotonic() - driver.started)
            time.sleep(chance.uniform(0.0, 2 * pace_s))
        if not driver.alive():
            break
        strike(driver)
        if not driver.alive():
            driver = run.start()
        else:
            driver.entries_before = len(run.entries())
    if not driver.alive() and driver.process.returncode != 0:
        driver = run.start()
    return driver.ending()
