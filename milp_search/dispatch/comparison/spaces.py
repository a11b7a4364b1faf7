"""MiLP's search space with only some of its factors searched (MiLP, Table 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from milp_search.space.search_space import SearchSpace, configure

# MiLP, Table 6.
_PAPER: Mapping[str, Any] = {
    "lora_count": {"low": 0, "high": "auto"},
    "lora_rank": [8, 16, 32, 64, 96],
    "ffn_layer_mask": "search",
}

# As in the shipped ablations.
_FIXED: Mapping[str, Any] = {"lora_count": "auto", "ffn_layer_mask": "all"}


def narrowed(space: SearchSpace, searched: Sequence[str]) -> SearchSpace:
    """Returns the space with only these of MiLP's factors searched, and nothing else.

    A factor is searched over what the space searches it, or over the paper's values where the
    space fixes it. The others are fixed: one module per layer, the smallest rank, every layer.
    """
    wide = {**_PAPER, **_searched(space)}
    fixed = {**_FIXED, "lora_rank": min(wide["lora_rank"])}
    settings = {name: wide[name] if name in searched else fixed[name] for name in _PAPER}
    return _with_dimensions(space, "+".join(searched), settings)


def largest(space: SearchSpace) -> SearchSpace:
    """Returns the one set-up with a module of the largest rank in every layer."""
    ranks = {**_PAPER, **_searched(space)}["lora_rank"]
    return _with_dimensions(space, "all layers", {**_FIXED, "lora_rank": max(ranks)})


def _searched(space: SearchSpace) -> dict[str, Any]:
    return {
        one.name: one.setting()
        for one in space.dimensions
        if any(len(axis.values) > 1 for axis in one.parameters())
    }


def _with_dimensions(space: SearchSpace, name: str, settings: Mapping[str, Any]) -> SearchSpace:
    # Where the mask decides the count, there is no count to be set.
    left_out = "lora_count" if space.count_reading == "derived" else ""
    kept = {key: value for key, value in settings.items() if key != left_out}
    return replace(space, name=name, dimensions=configure(kept, space.layers))
