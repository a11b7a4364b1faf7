"""What is added to the outputs of a frozen base's linear maps for a while, as LoRA is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from milp_search.adapters.base_model import BaseModel

Addition = Callable[[torch.Tensor], torch.Tensor]
"""A linear map's inputs (... x d_in, float32) to what is added to its outputs (... x d_out)."""


@contextmanager
def added(base: BaseModel, additions: Mapping[str, Addition]) -> Iterator[None]:
    """Adds to the outputs of linear maps, by module path; the base is as before afterwards."""
    handles = []
    try:
        for path, addition in additions.items():
            module = base.model.get_submodule(path)
            handles.append(module.register_forward_hook(_hook(addition)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(addition: Addition) -> Callable[..., torch.Tensor]:
    def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        # As with LoRA, what is added is float32 whatever the base is.
        return output + addition(inputs[0].float()).to(output.dtype)

    return hook
