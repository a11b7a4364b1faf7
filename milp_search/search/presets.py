"""The engine's settings, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from milp_search.core.errors import SpecError

Surrogate = Literal["saas", "map_saas", "gp"]
Acquisition = Literal["qlognehvi", "qnehvi"]
OutcomeTransform = Literal["standardize", "copula"]


@dataclass(frozen=True)
class EngineSettings:
    """Numbers of the surrogate and of the acquisition; the defaults are ours.

    Attributes:
        initial_trials: Trials of the initial design.
        batch: Proposals made at once (q).
        surrogate: The model of each measured objective.
        warmup_steps: NUTS steps before samples are kept.
        samples: NUTS steps after them.
        thinning: Every so many samples one is kept.
        max_tree_depth: NUTS doubles a trajectory at most so often.
        outcome_transform: How observed outcomes are brought to unit scale.
        acquisition: The acquisition function's name; with one objective its one-objective form.
        monte_carlo_samples: Joint posterior draws per kept NUTS sample.
        evaluations: Acquisition evaluations per proposal, at most about.
        restarts: Local searches per proposal.
    """

    initial_trials: int = 16
    batch: int = 1
    surrogate: Surrogate = "saas"
    warmup_steps: int = 256
    samples: int = 128
    thinning: int = 8
    max_tree_depth: int = 6
    outcome_transform: OutcomeTransform = "standardize"
    acquisition: Acquisition = "qlognehvi"
    monte_carlo_samples: int = 8
    evaluations: int = 600
    restarts: int = 4


PRESETS: dict[str, EngineSettings] = {
    "default": EngineSettings(),
    # AutoPEFT's numbers, which MiLP follows (PAPERS.md, section 1).
    "paper": EngineSettings(
        initial_trials=100,
        batch=4,
        warmup_steps=128,
        samples=64,
        thinning=4,
        outcome_transform="copula",
        monte_carlo_samples=128,
        evaluations=2000,
        restarts=10,
    ),
}


def engine_settings(preset: str) -> EngineSettings:
    """Returns a preset's settings.

    Args:
        preset: One of `PRESETS`.

    Returns:
        The settings.

    Raises:
        SpecError: There is no such preset.
    """
    if preset not in PRESETS:
        raise SpecError(
            f"expected a preset, got {preset!r}", remedy=f"choose one of: {', '.join(PRESETS)}"
        )
    return PRESETS[preset]
