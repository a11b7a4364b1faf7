"""Multi-objective Bayesian search for the LoRA set-up that personalises a language model best."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milp_search.core.trial import Measurement, Objective
    from milp_search.search.ax_bridge import ax_experiment, saas_nehvi_generation_strategy
    from milp_search.search.presets import EngineOptions
    from milp_search.space.space_file import load_search_space
    from milp_search.study.study import Study

    __version__: str

__all__ = [
    "EngineOptions",
    "Measurement",
    "Objective",
    "Study",
    "__version__",
    "ax_experiment",
    "load_search_space",
    "saas_nehvi_generation_strategy",
]

# A GPU worker must not import Ax, nor a report torch: each name is loaded when first used.
_HOMES = {
    "EngineOptions": "milp_search.search.presets",
    "Measurement": "milp_search.core.trial",
    "Objective": "milp_search.core.trial",
    "Study": "milp_search.study.study",
    "ax_experiment": "milp_search.search.ax_bridge",
    "load_search_space": "milp_search.space.space_file",
    "saas_nehvi_generation_strategy": "milp_search.search.ax_bridge",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("milp-search")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'milp_search' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
