"""The engine's settings, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from milp_search.core.errors import SpecError

if TYPE_CHECKING:
    from milp_search.space.parameter import Parameter

# ours: fewer trials say too little of the scales of the objectives.
_LEAST_INITIAL = 5

Surrogate = Literal["saas", "map_saas", "gp"]
Acquisition = Literal["nehvi", "qlognehvi", "qnehvi"]
OutcomeTransform = Literal["standardize", "copula"]
InitialDesign = Literal["sobol", "random"]
Inputs = Literal["realised", "ordered", "placement", "raw"]


@dataclass(frozen=True)
class FitSettings:
    """Numbers of the fit; the defaults are ours, by measurement.

    Attributes:
        chains: Dispersed chains of each metric.
        windows: Steps of a cold start's windows; all but the first and last end with a new mass
            matrix.
        warmup: Steps of a warm start that are dropped.
        samples: Steps of each chain after that.
        draws: Hyperparameter draws kept of all chains together.
        max_tree_depth: NUTS doubles a trajectory at most so often.
        growth: Chains start cold again when there are so many times the observations that there
            were at the last cold start.
        warm: Whether chains start warm at all.
    """

    chains: int = 4
    windows: tuple[int, ...] = (20, 30, 60, 20)
    warmup: int = 8
    samples: int = 48
    draws: int = 32
    max_tree_depth: int = 6
    growth: float = 1.5
    warm: bool = True


@dataclass(frozen=True)
class EngineSettings:
    """Numbers of the surrogate and of the acquisition; the defaults are ours.

    Attributes:
        initial_trials: Trials of the initial design; at most, where it goes by the parameters.
        initial_by_parameters: Whether it has one trial for each searched parameter.
        initial_design: How they are drawn.
        batch: Proposals made at once (q).
        inputs: What the surrogate sees of a plan: the realised ranks and settings with features
            derived from them, those but for single levels of short lists (`ordered`), without all
            derived ones (`placement`), or the arm's values as they are.
        surrogate: The model of each measured objective.
        fit: Numbers of the SAAS fit.
        outcome_transform: How observed outcomes are brought to unit scale.
        acquisition: `nehvi`, ours in closed form, or BoTorch's by name; with one objective its
            one-objective form.
        monte_carlo_samples: Joint posterior draws per kept NUTS sample; of BoTorch's functions.
        evaluations: Acquisition evaluations per proposal, at most about.
        restarts: Local searches per proposal.
    """

    initial_trials: int = 16
    initial_by_parameters: bool = True
    initial_design: InitialDesign = "sobol"
    batch: int = 1
    inputs: Inputs = "realised"
    surrogate: Surrogate = "saas"
    fit: FitSettings = FitSettings()
    outcome_transform: OutcomeTransform = "standardize"
    acquisition: Acquisition = "nehvi"
    monte_carlo_samples: int = 8
    evaluations: int = 2400
    restarts: int = 4


PRESETS: dict[str, EngineSettings] = {
    "default": EngineSettings(),
    # AutoPEFT's numbers, which MiLP follows (PAPERS.md, section 1).
    "paper": EngineSettings(
        initial_trials=100,
        initial_by_parameters=False,
        initial_design="random",
        batch=4,
        # One chain of 128 + 64 steps, every fourth kept, always from the start.
        fit=FitSettings(chains=1, windows=(20, 30, 58, 20), samples=64, draws=16, warm=False),
        outcome_transform="copula",
        acquisition="qlognehvi",
        monte_carlo_samples=128,
        evaluations=2000,
        restarts=10,
    ),
}


def usual_initial_trials(preset: str, parameters: Sequence[Parameter]) -> int:
    """Returns the size of the initial design where nobody says.

    By default one trial for each parameter that has a choice, 5 at least and 16 at most: random
    plans tell a model what it needs to begin, and cost as much as those that it would choose.

    Args:
        preset: One of `PRESETS`.
        parameters: Those of the space.

    Returns:
        The number of trials.

    Raises:
        SpecError: There is no such preset.
    """
    settings = engine_settings(preset)
    if not settings.initial_by_parameters:
        return settings.initial_trials
    free = sum(len(one.values) > 1 for one in parameters)
    return min(max(free, _LEAST_INITIAL), settings.initial_trials)


@dataclass(frozen=True)
class EngineOptions:
    """What a study may say of the engine beside its preset; None leaves the preset's setting.

    The attributes are those of `EngineSettings`; `warm_start` is `FitSettings.warm`.
    """

    acquisition: Acquisition | None = None
    outcome_transform: OutcomeTransform | None = None
    inputs: Inputs | None = None
    initial_design: InitialDesign | None = None
    warm_start: bool | None = None
    evaluations: int | None = None
    restarts: int | None = None
    monte_carlo_samples: int | None = None

    # For pydantic, where a study file gives options: refuse unknown keys.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise SpecError(
                    f"expected a known {name}, got {value!r}",
                    remedy=f"choose one of: {', '.join(known)}",
                )
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise SpecError(
                    f"expected {name} to be a whole number of at least 1, got {value!r}",
                    remedy=f"correct `{name}`",
                )


_CHOICES: dict[str, tuple[str, ...]] = {
    "acquisition": get_args(Acquisition),
    "outcome_transform": get_args(OutcomeTransform),
    "inputs": get_args(Inputs),
    "initial_design": get_args(InitialDesign),
}
_COUNTS = ("evaluations", "restarts", "monte_carlo_samples")


def engine_settings(preset: str, options: EngineOptions | None = None) -> EngineSettings:
    """Returns a preset's settings, but for the options that are given.

    Args:
        preset: One of `PRESETS`.
        options: What differs from it; None is nothing.

    Returns:
        The settings.

    Raises:
        SpecError: There is no such preset.
    """
    if preset not in PRESETS:
        raise SpecError(
            f"expected a preset, got {preset!r}", remedy=f"choose one of: {', '.join(PRESETS)}"
        )
    settings = PRESETS[preset]
    if options is None:
        return settings
    changes = {name: value for name, value in asdict(options).items() if value is not None}
    fit = replace(settings.fit, warm=changes.pop("warm_start", settings.fit.warm))
    return replace(settings, fit=fit, **changes)


def filled_options(preset: str, options: EngineOptions | None = None) -> EngineOptions:
    """Returns options with those that are not given spelled out as the preset has them.

    Args:
        preset: One of `PRESETS`.
        options: Those that are given.

    Returns:
        The options, none of them None.

    Raises:
        SpecError: There is no such preset.
    """
    settings = engine_settings(preset, options)
    names = [field.name for field in fields(EngineOptions) if field.name != "warm_start"]
    shared = {name: getattr(settings, name) for name in names}
    return EngineOptions(**shared, warm_start=settings.fit.warm)


def changed_options(preset: str, options: EngineOptions) -> dict[str, str | int | bool]:
    """Returns the options that are given and not as the preset has them, by name.

    Args:
        preset: One of `PRESETS`.
        options: Those that are given.

    Returns:
        The changes.

    Raises:
        SpecError: There is no such preset.
    """
    usual = asdict(filled_options(preset))
    given = asdict(options).items()
    return {name: value for name, value in given if value not in (None, usual[name])}
