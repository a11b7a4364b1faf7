"""What came out of a search: front, hypervolume and its trace, as functions of the trials."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.constraints import OutcomeConstraint

# NumPy and BoTorch stand behind `milp_search.search`: a study that is only told does not load it.


def completed(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that have measurements."""
    return [trial for trial in trials if trial.status is TrialStatus.COMPLETED]


def eligible(trials: Sequence[Trial], constraints: Sequence[OutcomeConstraint]) -> list[Trial]:
    """Returns the completed trials whose measured means keep every constraint."""
    return [
        trial
        for trial in completed(trials)
        if all(one.holds(trial.measurements[one.metric].mean) for one in constraints)
    ]


def constraint_texts(
    trials: Sequence[Trial], constraints: Sequence[OutcomeConstraint]
) -> list[str]:
    """Returns each constraint in words, with the number of completed trials that break it."""
    done = completed(trials)
    return [
        f"{one}, broken by {len(done) - len(eligible(done, [one]))} of {len(done)} completed trials"
        for one in constraints
    ]


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Returns the completed trials that no other one dominates, by index."""
    from milp_search.search.pareto import front

    return front(trials, objectives) if completed(trials) else []


def dominated_hypervolume(trials: Sequence[Trial], objectives: Sequence[Objective]) -> float:
    """Returns the hypervolume of the completed trials, 0 where there are none.

    In the product of the objectives' natural units, relative to their references.
    """
    from milp_search.search.pareto import hypervolume, objective_values

    return hypervolume(objective_values(completed(trials), objectives), objectives)


def hypervolume_trace(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[OutcomeConstraint] = (),
) -> list[float]:
    """Returns one hypervolume per trial: that of the eligible ones up to and including it."""
    trace: list[float] = []
    front: list[Trial] = []
    for trial in trials:
        # Only the front counts, which keeps each step small however long the study.
        grown = pareto_front([*front, *eligible([trial], constraints)], objectives)
        if trace and grown == front:
            trace.append(trace[-1])
        else:
            trace.append(dominated_hypervolume(grown, objectives))
        front = grown
    return trace
