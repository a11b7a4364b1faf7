"""The proposers by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import numpy as np

from milp_search.core.arm import Arm
from milp_search.core.errors import SpecError
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Objective, Trial
from milp_search.search.constraints import OutcomeConstraint, checked_constraints
from milp_search.search.domain import Candidate, Domain
from milp_search.search.initial_design import (
    Draws,
    UnseenPlans,
    grid_points,
    random_points,
    sobol_points,
)
from milp_search.search.observations import usable
from milp_search.search.presets import (
    EngineOptions,
    EngineSettings,
    InitialDesign,
    engine_settings,
    usual_initial_trials,
)
from milp_search.search.problem import watched
from milp_search.search.proposal import Memory, Proposal, Proposer, SpaceExhausted
from milp_search.space.row_space import Space

if TYPE_CHECKING:
    from milp_search.search.fit_state import FitState

_logger = logging.getLogger(__name__)

_DESIGNS: dict[InitialDesign, Draws] = {"sobol": sobol_points, "random": random_points}

# These proposers go on the same way whatever the trials show, and whatever bounds there are.
_SEQUENCES = ("sobol", "random", "grid")


@dataclass(frozen=True)
class Setting:
    """What every proposer is made from.

    Attributes:
        domain: The space and what its arms build.
        objectives: What is optimised; a missing reference is inferred from the initial trials.
        seed: Seed of everything that is drawn.
        engine: The engine's numbers, the size of the initial design among them.
        constraints: Bounds on outcomes; only what is modelled heeds them.
    """

    domain: Domain
    objectives: tuple[Objective, ...]
    seed: int
    engine: EngineSettings
    constraints: tuple[OutcomeConstraint, ...] = ()


@final
class SequenceProposer:
    """Proposes the next plans of a seeded sequence, whatever the trials showed.

    `allowed` plans come first.
    """

    def __init__(
        self,
        name: str,
        draws: Draws,
        setting: Setting,
        allowed: Callable[[Candidate], bool] = lambda candidate: True,
    ):
        self.name = name
        self._draws, self._setting, self._allowed = draws, setting, allowed
        self.memory: Memory | None = None
        self._begin()

    def _begin(self) -> None:
        setting = self._setting
        self._plans = UnseenPlans(setting.domain, self._draws, setting.seed, self._allowed)
        self._arms: list[Arm] = []
        self._seen: set[str] = set()

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        """Replaces the trials known so far; a sequence remembers nothing."""
        arms = [trial.arm for trial in trials]
        if arms[: len(self._arms)] != self._arms:
            self._begin()
        fresh = map(self._setting.domain.describe, arms[len(self._arms) :])
        self._seen.update(candidate.fingerprint for candidate in fresh)
        self._arms = arms

    def propose(self, count: int) -> list[Proposal]:
        """Returns the next plans of the sequence.

        Args:
            count: How many are wanted.

        Returns:
            The proposals; fewer where the space has no more.

        Raises:
            SpaceExhausted: No unseen plan is left.
        """
        found = self._plans.first(count, self._seen)
        return [Proposal(candidate.arm, self.name) for candidate in found]


@final
class ModelProposer:
    """Proposes a space-filling design first, then what should improve the front most.

    The design's sequence goes on while fewer than two trials are completed with all metrics.
    """

    def __init__(self, name: str, setting: Setting):
        self.name, self._setting = name, setting
        design = setting.engine.initial_design
        self._design = SequenceProposer(design, _DESIGNS[design], setting, _allowed(setting))
        self._trials: tuple[Trial, ...] = ()
        self.memory: Memory | None = None

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        """Replaces the trials known so far, and where the surrogate's last fit ended."""
        self._trials, self.memory = tuple(trials), memory
        self._design.observe(trials)

    def propose(self, count: int) -> list[Proposal]:
        """Returns the rest of the design, and from then on the engine's candidates.

        Args:
            count: How many are wanted.

        Returns:
            The proposals; fewer where the space has no more.

        Raises:
            SpaceExhausted: No unseen plan is left.
        """
        designed = self._design_share(count)
        proposals = self._design.propose(designed) if designed > 0 else []
        missing = count - designed
        if missing == 0 or len(proposals) < designed:
            return proposals
        found = self._candidates(missing, proposals)
        return proposals + [Proposal(candidate.arm, self.name) for candidate in found]

    def _design_share(self, count: int) -> int:
        setting = self._setting
        metrics = watched(setting.objectives, setting.constraints, setting.domain)
        if len(usable(self._trials, setting.domain, metrics)) < 2:
            return count
        return min(count, max(0, setting.engine.initial_trials - len(self._trials)))

    def _candidates(self, count: int, before: Sequence[Proposal]) -> list[Candidate]:
        """Returns the engine's candidates; proposals made just before are pending points."""
        from milp_search.search.engine import suggest

        setting = self._setting
        first = 1 + max((trial.index for trial in self._trials), default=-1)
        asked = [Trial(first + place, one.arm) for place, one in enumerate(before)]
        trials = [*self._trials, *asked]
        suggestion = suggest(
            setting.domain,
            trials,
            setting.objectives,
            setting.engine,
            seed=_seed_of_ask(setting.seed, len(trials)),
            count=count,
            constraints=setting.constraints,
            state=_fit_state(self.memory),
        )
        self.memory = None if suggestion.state is None else suggestion.state.encoded()
        if suggestion.candidates:
            return suggestion.candidates
        # The local searches met none; the sequence may still know an unseen plan, or raises.
        seen = {setting.domain.describe(trial.arm).fingerprint for trial in trials}
        try:
            rest = UnseenPlans(setting.domain, sobol_points, setting.seed, _allowed(setting))
            return rest.first(count, seen)
        except SpaceExhausted:
            if before:
                return []
            raise


def make_proposer(
    name: str,
    *,
    space: Space,
    objectives: Sequence[Objective],
    seed: int,
    initial_trials: int | None = None,
    preset: str = "default",
    engine: EngineOptions | None = None,
    realise: Callable[[Arm], TrialPlan] | None = None,
    exact: Mapping[str, Callable[[Arm], float]] | None = None,
    constraints: Sequence[OutcomeConstraint] = (),
) -> Proposer:
    """Returns a proposer.

    Args:
        name: One of `PROPOSERS`.
        space: The search space.
        objectives: What is optimised, at least one of it measured.
        seed: Seed of everything that is drawn.
        initial_trials: Trials of the initial design; None goes by the preset and the space.
        preset: `default` or `paper`.
        engine: What of the engine differs from the preset.
        realise: What an arm builds; None is `space.plan`.
        exact: Closed forms of metrics, in natural units; they are never modelled.
        constraints: Bounds on outcomes to keep; `sobol`, `random` and `grid` do not heed
            them, and the initial design only those on closed forms.

    Returns:
        The proposer, which has observed no trials yet.

    Raises:
        SpecError: There is no such proposer or preset, nothing is left to measure, or the
            constraints do not go together or with the acquisition.
    """
    if name not in PROPOSERS:
        raise SpecError(
            f"expected a proposer, got {name!r}", remedy=f"choose one of: {', '.join(PROPOSERS)}"
        )
    check_heeded(constraints, name, preset, engine)
    kept = checked_constraints(constraints, objectives)
    metrics = [one.metric for one in objectives]
    known = dict.fromkeys([*metrics, *(one.metric for one in kept)])
    closed_forms = {metric: exact[metric] for metric in known if metric in exact} if exact else {}
    check_any_measured(metrics, closed_forms)
    settings = engine_settings(preset, engine)
    if initial_trials is None:
        initial_trials = usual_initial_trials(preset, space.parameters)
    settings = replace(settings, initial_trials=initial_trials)
    domain = Domain(space.parameters, realise or space.plan, closed_forms, settings.inputs)
    setting = Setting(domain, tuple(objectives), seed, settings, kept)
    return PROPOSERS[name](setting)


def check_any_measured(metrics: Sequence[str], closed_forms: Collection[str]) -> None:
    """Refuses objectives that need no trial.

    Args:
        metrics: The objectives' metrics.
        closed_forms: The metrics that are known of every arm.

    Raises:
        SpecError: All of them are known.
    """
    if all(metric in closed_forms for metric in metrics):
        raise SpecError(
            f"expected at least one objective that is measured, got {', '.join(metrics)}",
            remedy="add a metric whose value only a trial can tell",
        )


def check_heeded(
    constraints: Sequence[OutcomeConstraint],
    name: str,
    preset: str,
    engine: EngineOptions | None = None,
) -> None:
    """Refuses constraints where a model proposes that could not heed them.

    Args:
        constraints: The constraints, or none.
        name: The proposer's name.
        preset: Its preset's name.
        engine: What of the engine differs from the preset.

    Raises:
        SpecError: There are constraints, and the acquisition knows none.
    """
    acquisition = engine_settings(preset, engine).acquisition
    if constraints and name not in _SEQUENCES and acquisition != "nehvi":
        raise SpecError(
            f"expected no constraints with preset {preset!r} and acquisition {acquisition!r}, "
            f"which knows none, got '{constraints[0]}'",
            remedy="use the acquisition `nehvi` of the preset `default`, or take the constraints "
            "out",
        )


def _allowed(setting: Setting) -> Callable[[Candidate], bool]:
    """Returns whether a candidate keeps the bounds that need no trial to be checked."""
    places = {metric: place for place, metric in enumerate(setting.domain.exact)}
    known = [(places[one.metric], one) for one in setting.constraints if one.metric in places]
    return lambda candidate: all(one.holds(float(candidate.exact[place])) for place, one in known)


def _fit_state(memory: Memory | None) -> FitState | None:
    """Returns where the last fit ended, None where that cannot be read: the fit starts cold."""
    from milp_search.search.fit_state import FitState, FitStateError

    try:
        return None if memory is None else FitState.decoded(memory)
    except FitStateError as error:
        _logger.warning("%s; the surrogate is fitted anew", error)
        return None


def _seed_of_ask(seed: int, trials: int) -> int:
    """Returns a 31-bit seed for one ask, a function of the study's seed and its age."""
    return int(np.random.SeedSequence([seed, trials]).generate_state(1)[0] >> 1)


def _saas_nehvi(setting: Setting) -> Proposer:
    from milp_search.search.saas import nuts_available

    if setting.engine.acquisition != "nehvi" and not nuts_available():
        _logger.warning(
            "JAX or NumPyro is missing, and BoTorch makes no SAAS model: map_saas proposes instead "
            "(pip install 'botorch[fully-bayesian]' brings both)"
        )
        return _with_surrogate("map_saas", setting)
    return _with_surrogate("saas", setting)


def _with_surrogate(surrogate: str, setting: Setting) -> Proposer:
    name = {"saas": "saas_nehvi", "map_saas": "map_saas", "gp": "gp_nehvi"}[surrogate]
    engine = replace(setting.engine, surrogate=surrogate)  # type: ignore[arg-type]
    return ModelProposer(name, replace(setting, engine=engine))


PROPOSERS: dict[str, Callable[[Setting], Proposer]] = {
    "saas_nehvi": _saas_nehvi,
    "map_saas": lambda setting: _with_surrogate("map_saas", setting),
    "gp_nehvi": lambda setting: _with_surrogate("gp", setting),
    "sobol": lambda setting: SequenceProposer("sobol", sobol_points, setting),
    "random": lambda setting: SequenceProposer("random", random_points, setting),
    "grid": lambda setting: SequenceProposer("grid", grid_points, setting),
}
