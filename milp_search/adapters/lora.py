"""Puts LoRA on a base model as a plan says, through PEFT, and takes it off again."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer, LoraModel
from torch import nn

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.jobs import Adapter
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.plan import AdapterPlan


def lora_config(plan: AdapterPlan, shape: ModelShape) -> LoraConfig:
    """Returns PEFT's configuration of a plan: full module names, one rank and alpha each.

    Raises ModelError if the plan has other layers than the model, or the model lacks the maps.
    """
    if len(plan.ranks) != shape.layers:
        raise ModelError(f"the plan has {len(plan.ranks)} layers, the base model {shape.layers}")
    if not shape.targets(plan.target_maps):
        raise ModelError(f"the base model has no linear maps for target_maps={plan.target_maps!r}")
    ranks = {
        module_path(shape, layer, linear): plan.ranks[layer]
        for layer, linear in placed(plan, shape)
    }
    # Rank patterns are regular expressions; `$`-anchored full paths match one module each.
    patterns = {path.replace(".", r"\.") + "$": rank for path, rank in ranks.items()}
    return LoraConfig(
        r=max(ranks.values()),
        lora_alpha=plan.alpha_over_rank * max(ranks.values()),
        target_modules=sorted(ranks),
        rank_pattern=patterns,
        alpha_pattern={key: plan.alpha_over_rank * rank for key, rank in patterns.items()},
        task_type="CAUSAL_LM",
    )


def module_path(shape: ModelShape, layer: int, linear: LinearMap) -> str:
    """Returns the full path of one linear map of one layer."""
    return f"{shape.layers_path}.{layer}.{linear.path}"


def fresh_adapter(key: str, plan: AdapterPlan, shape: ModelShape, seed: int) -> Adapter:
    """Returns an untrained adapter: A Kaiming-uniform as in PEFT, B zero.

    Each A is drawn from a generator of its own, keyed by seed, key and module, so that neither
    the order of training nor the other layers of the plan change it.
    """
    tensors = {}
    for layer, linear in placed(plan, shape):
        path = module_path(shape, layer, linear)
        bound = 1 / math.sqrt(linear.d_in)  # kaiming_uniform_ with a = sqrt(5)
        uniform = torch.rand(plan.ranks[layer], linear.d_in, generator=generator(seed, key, path))
        a = (2 * uniform - 1) * bound
        tensors[path] = (a, torch.zeros(linear.d_out, plan.ranks[layer]))
    return Adapter(key, plan, tensors)


def generator(*parts: object) -> torch.Generator:
    """Returns a random generator that is a function of the parts alone."""
    text = "\x1f".join(map(str, parts))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def attached(base: BaseModel, plans: Sequence[AdapterPlan]) -> Iterator[list[str]]:
    """Attaches one empty LoRA per plan, all active and frozen, and yields their PEFT names.

    Plans without any rank are left out. LoRA is float32 whatever the base is. The base is as
    before afterwards, also where attaching fails halfway.
    """
    plans = [plan for plan in plans if plan.total_rank > 0]
    configs = {f"stack{place}": lora_config(plan, base.shape) for place, plan in enumerate(plans)}
    try:
        if configs:
            _attach(base.model, configs)
        yield [*configs]
    finally:
        _detach(base.model)


def load_weights(model: Any, name: str, adapter: Adapter) -> None:
    """Copies an adapter's tensors into the attached LoRA of that name."""
    for path, (a, b) in adapter.tensors.items():
        layer = model.get_submodule(path)
        with torch.no_grad():
            layer.lora_A[name].weight.copy_(a)
            layer.lora_B[name].weight.copy_(b)


def read_weights(
    model: Any, name: str, key: str, plan: AdapterPlan, paths: Sequence[str]
) -> Adapter:
    """Returns the attached LoRA of that name as an adapter (copies on the CPU)."""

    def copy(weight: torch.Tensor) -> torch.Tensor:
        return weight.detach().float().cpu().clone()

    layers = {path: model.get_submodule(path) for path in paths}
    tensors = {
        path: (copy(layer.lora_A[name].weight), copy(layer.lora_B[name].weight))
        for path, layer in layers.items()
    }
    return Adapter(key, plan, tensors)


def parameters(model: Any, name: str, paths: Sequence[str]) -> list[nn.Parameter]:
    """Returns the attached LoRA's trainable parameters, in a fixed order."""
    layers = [model.get_submodule(path) for path in paths]
    return [
        weight
        for layer in layers
        for weight in (layer.lora_A[name].weight, layer.lora_B[name].weight)
    ]


def _attach(model: Any, configs: Mapping[str, LoraConfig]) -> None:
    first, *others = configs
    with warnings.catch_warnings():
        # PEFT warns of a second adapter on one model, which is the purpose here, and of Conv1D's
        # transposed weights (GPT-2), which it then handles by itself.
        warnings.simplefilter("ignore", UserWarning)
        tuner = LoraModel(model, configs[first], first)
        for name in others:
            tuner.peft_config[name] = configs[name]
            tuner.inject_adapter(model, name)
        tuner.set_adapter([*configs], inference_mode=True)
    for layer in _lora_layers(model).values():
        # PEFT gives LoRA the base's type; AdamW's small steps would be lost in bfloat16.
        layer.lora_A.float()
        layer.lora_B.float()


def _detach(model: Any) -> None:
    for path, layer in _lora_layers(model).items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _lora_layers(model: Any) -> dict[str, Any]:
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLayer)}


def placed(plan: AdapterPlan, shape: ModelShape) -> Iterator[tuple[int, LinearMap]]:
    """Yields the layer and map of each LoRA of a plan, in the order of an adapter's tensors."""
    for layer in plan.active_layers:
        for linear in shape.targets(plan.target_maps):
            yield layer, linear
