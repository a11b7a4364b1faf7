"""A base model as plain arrays, which processes may share instead of reading it each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from milp_search.adapters.base_model import BaseModel, resolve_device
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import ModelShape


@dataclass(frozen=True, eq=False)
class PlacedBase:
    """What a base model can be rebuilt from.

    Attributes:
        name: What the user called it.
        kind: The transformer's class.
        config: Its configuration.
        tokenizer: Its tokenizer, with a padding token.
        shape: Its layers and linear maps.
        fingerprint: Its fingerprint.
        arrays: Its weights by name, tied ones once; numpy knows no bfloat16, so those stand as
            int16.
        halves: The names of the weights that are bfloat16.
    """

    name: str
    kind: type[Any] = field(repr=False)
    config: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    shape: ModelShape
    fingerprint: str
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    halves: frozenset[str] = field(repr=False)

    @property
    def size_mib(self) -> float:
        """The size of the weights, in MiB."""
        return sum(array.nbytes for array in self.arrays.values()) / 2**20


def place_base(base: BaseModel, *, half: bool = False) -> PlacedBase:
    """Returns the base as arrays, on the CPU; there they are the model's own memory.

    `half` makes bfloat16 of what is float32, for workers that load the base so.
    """
    # Each array would travel by itself, and the model ties them again when it is rebuilt.
    tied = base.model.all_tied_weights_keys
    weights = {
        name: _on_cpu(weight, half)
        for name, weight in base.model.state_dict().items()
        if name not in tied
    }
    halves = frozenset(name for name, w in weights.items() if w.dtype == torch.bfloat16)
    return PlacedBase(
        base.name,
        type(base.model),
        base.model.config,
        base.tokenizer,
        base.shape,
        base.fingerprint,
        {name: (w.view(torch.int16) if name in halves else w).numpy()
         for name, w in weights.items()},
        halves,
    )  # fmt: skip


def rebuild_base(placed: PlacedBase, device: str) -> BaseModel:
    """Returns the base model on a device; on the CPU its weights are the arrays themselves.

    They must not be written to, and a frozen base is not. The type is `load_base_model`'s:
    bfloat16 on CUDA, float32 on the CPU. Raises ModelError where weights are missing.
    """
    place = resolve_device(device)
    model, loading = placed.kind.from_pretrained(
        None,
        config=placed.config,
        state_dict={name: _tensor(placed, name) for name in placed.arrays},
        dtype=torch.bfloat16 if place.type == "cuda" else torch.float32,
        output_loading_info=True,
    )
    if loading["missing_keys"]:
        raise ModelError(
            f"expected all weights of base model {placed.name!r}, "
            f"got none for {sorted(loading['missing_keys'])[0]}",
            remedy="Run with --local: then the model is read from its folder.",
        )
    model.to(place).requires_grad_(False).eval()
    return BaseModel(
        placed.name, model, placed.tokenizer, placed.shape, model.device, placed.fingerprint
    )


def _on_cpu(weight: torch.Tensor, half: bool) -> torch.Tensor:
    halved = half and weight.dtype == torch.float32
    return weight.detach().to("cpu", torch.bfloat16 if halved else weight.dtype)


def _tensor(placed: PlacedBase, name: str) -> torch.Tensor:
    with warnings.catch_warnings():
        # Memory that several processes share is read-only; torch knows no such tensors.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensor = torch.from_numpy(placed.arrays[name])
    return tensor.view(torch.bfloat16) if name in placed.halves else tensor
