"""The shape of a base model, as far as the search needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from milp_search.core.plan import AdapterPlan

# ours: the deepest language models have a few hundred layers.
MAX_LAYERS = 1024


@dataclass(frozen=True)
class LinearMap:
    """One linear map: its role (`up`, `down`, `q`, `v`, `qkv`), path in the layer and sizes."""

    role: str
    path: str
    d_in: int
    d_out: int


@dataclass(frozen=True)
class ModelShape:
    """A stack of equal layers: its number and the linear maps that each holds.

    Attributes:
        layers: The number of layers L.
        layers_path: The module path of the layer list (`model.layers`).
        maps: The linear maps of one layer that may carry LoRA.
    """

    layers: int
    layers_path: str
    maps: tuple[LinearMap, ...]

    def targets(self, target_maps: str) -> tuple[LinearMap, ...]:
        """Returns the maps that carry LoRA under a plan's `target_maps`.

        `all` and `up_down` are every feed-forward map, where gate and fused maps count as up;
        `q_v` includes the one map (role `qkv`) in which some models fuse query, key and value.
        """
        roles = {
            "all": ("up", "down"),
            "up_down": ("up", "down"),
            "up": ("up",),
            "down": ("down",),
            "q_v": ("q", "v", "qkv"),
        }[target_maps]
        return tuple(linear for linear in self.maps if linear.role in roles)


def trainable_parameters(plan: AdapterPlan, maps: Sequence[LinearMap]) -> int:
    """Returns the exact number of trainable parameters of one adapter.

    `sum_l r_l * sum_W (d_in + d_out)`, which for n modules of rank r is `n r sum_W (d_in + d_out)`.

    Source: MiLP, Eq. 1 and Table 7, by the reading of PAPERS.md, section 1.
    """
    return plan.total_rank * sum(linear.d_in + linear.d_out for linear in maps)
