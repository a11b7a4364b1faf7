"""What a study file must say of an endpoint, and must not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from milp_search.core.errors import Location, SpecError
from milp_search.core.methods import CHAT_METHODS
from milp_search.core.settings import EndpointSettings
from milp_search.study.spec import StudySpec

Place = Callable[..., Location]

# Key to the least and the largest value; None where it may be left out.
_RANGES: dict[str, tuple[float, float]] = {
    "concurrency": (1, 1024),
    "attempts": (1, 100),
    "time_limit_s": (0.001, math.inf),
    "longest_wait_s": (0, math.inf),
    "token_budget": (1, math.inf),
    "prompt_price": (0, math.inf),
    "answer_price": (0, math.inf),
}


def check_endpoint(spec: StudySpec, place: Place) -> None:
    """Refuses a method that asks a model without one, or the reverse, and numbers out of range.

    Args:
        spec: The study.
        place: Finds the steps to a key in the file.

    Raises:
        SpecError: The first thing that does not fit.
    """
    for key, server in (("endpoint", spec.endpoint), ("judge", spec.judge)):
        if server is not None:
            _check_ranges(key, server, place)
    if spec.prompts is not None and not Path(spec.prompts).is_dir():
        raise SpecError(
            f"expected a folder of prompts, found none at {spec.prompts}",
            at=place("prompts"),
            remedy="correct `prompts`, or leave it out for those that ship",
        )
    asks = spec.method in CHAT_METHODS
    if asks and spec.endpoint is None:
        raise SpecError(
            f"method {spec.method!r} asks a model behind an endpoint, and there is none",
            at=place("method"),
            remedy="add `endpoint: {model: NAME, base_url: http://...}`",
        )
    if spec.endpoint is None:
        return
    if not asks:
        raise SpecError(
            f"method {spec.method!r} needs the model's weights, which no endpoint gives",
            at=place("endpoint"),
            remedy=f"choose one of {', '.join(CHAT_METHODS)}, or take `endpoint` out",
        )


def _check_ranges(part: str, server: EndpointSettings, place: Place) -> None:
    for key, (least, most) in _RANGES.items():
        value = getattr(server, key)
        if value is not None and not (least <= value <= most and math.isfinite(value)):
            limit = f" to {most:g}" if math.isfinite(most) else " or more"
            raise SpecError(
                f"{part}.{key}: expected {least:g}{limit}, got {value}",
                at=place(part, key),
                remedy=f"correct `{key}`",
            )
