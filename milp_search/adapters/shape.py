"""Finds the layers of a transformer and the linear maps in them that may carry LoRA."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

from milp_search.core.errors import ModelError
from milp_search.core.model_shape import LinearMap, ModelShape

_QUERY_VALUE = {"q_proj": "q", "v_proj": "v", "query": "q", "value": "v",
                "c_attn": "qkv", "qkv_proj": "qkv", "query_key_value": "qkv",
                "Wqkv": "qkv"}  # fmt: skip


def model_shape(model: nn.Module) -> ModelShape:
    """Returns the shape of the model's largest stack of equal layers.

    Feed-forward maps are the linear maps of a layer whose path holds no `attn` or `attention`;
    a map back to the model's width is `down`, any other (gate, up, fused gate and up) is `up`.
    Raises ModelError if there is no such stack, if its layers differ, or if they have no such map
    or no attention, as in models of experts and state-space models.
    """
    path, layers = _layer_list(model)
    maps = tuple(_linear_maps(layers[0]))
    kind = type(layers[0]).__name__
    if not any(linear.role in ("up", "down") for linear in maps):
        raise ModelError(
            f"found no feed-forward linear maps in {kind}",
            remedy="Models whose feed-forward is a set of experts cannot be searched yet.",
        )
    if not any(linear.role in ("q", "qkv") for linear in maps):
        raise ModelError(
            f"found no query map of an attention in {kind}, by whose width feed-forward maps are "
            "told apart",
            remedy="State-space and recurrent layers cannot be searched; use a transformer.",
        )
    for number, layer in enumerate(layers):
        if tuple(_linear_maps(layer)) != maps:
            raise ModelError(
                f"expected equal layers, but layer {number} of {path} has other linear maps than "
                "layer 0",
                remedy="Models that mix kinds of layers cannot be searched; use a dense one.",
            )
    return ModelShape(layers=len(layers), layers_path=path, maps=maps)


def _layer_list(model: nn.Module) -> tuple[str, nn.ModuleList]:
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(child) for child in module}) == 1
    ]
    if not lists:
        raise ModelError(
            f"found no stack of equal layers in {type(model).__name__}",
            remedy="A decoder-only or encoder-only transformer is needed.",
        )
    return max(lists, key=lambda pair: len(pair[1]))


def _linear_maps(layer: nn.Module) -> Iterator[LinearMap]:
    named = [(path, sizes) for path, module in layer.named_modules() if (sizes := _sizes(module))]
    width = next((sizes[0] for path, sizes in named if _reads_queries(path)), None)
    for path, (d_in, d_out) in named:
        role = _role(path, d_in, d_out, width)
        if role is not None:
            yield LinearMap(role, path, d_in, d_out)


def _role(path: str, d_in: int, d_out: int, width: int | None) -> str | None:
    if _in_attention(path):
        return _QUERY_VALUE.get(path.rsplit(".", 1)[-1])
    return "down" if d_out == width and d_in != width else "up"


def _reads_queries(path: str) -> bool:
    return _in_attention(path) and _QUERY_VALUE.get(path.rsplit(".", 1)[-1]) in ("q", "qkv")


def _in_attention(path: str) -> bool:
    return "attn" in path or "attention" in path


def _sizes(module: nn.Module) -> tuple[int, int] | None:
    """Returns (d_in, d_out) of a linear map, None for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return None
