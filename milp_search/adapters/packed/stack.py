"""The frozen weights of a base model whose blocks have Llama's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.quantised import is_quantised

# Families whose block is h += attention(norm(h)); h += down(silu(gate(norm(h))) * up(norm(h))).
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_MAPS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@dataclass(frozen=True, eq=False)
class Linear:
    """A frozen linear map: weight (d_out x d_in) and bias (d_out) or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the map of x (n x d_in)."""
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def added(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Returns h plus the map of x."""
        total = torch.addmm(h, x, self.weight.T)
        return total if self.bias is None else total.add_(self.bias)

    def backward(self, dy: torch.Tensor) -> torch.Tensor:
        """Returns the gradient of the input, given that of the output."""
        return dy @ self.weight


@dataclass(frozen=True, eq=False)
class Norm:
    """RMSNorm over the last dimension; statistics in float32."""

    weight: torch.Tensor
    eps: float

    def forward(self, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the normed h, and the inverse root mean squares (... x 1) for the way back."""
        wide = h.float()
        inverse = torch.linalg.vecdot(wide, wide).div_(h.shape[-1]).add_(self.eps).rsqrt_()
        inverse = inverse.unsqueeze(-1)
        return (wide * inverse).to(h.dtype).mul_(self.weight), inverse

    def backward(self, dy: torch.Tensor, h: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
        """Returns the gradient of h, given that of the normed h."""
        wide, dx = h.float(), (dy * self.weight).float()
        share = torch.linalg.vecdot(dx, wide).unsqueeze(-1) * inverse.pow(3) / h.shape[-1]
        return (dx * inverse).addcmul_(wide, share, value=-1.0).to(dy.dtype)


@dataclass(frozen=True, eq=False)
class Block:
    """One layer: its maps by short name (q, k, v, o, gate, up, down) and its norms."""

    maps: dict[str, Linear]
    attention_norm: Norm
    ffn_norm: Norm
    q_norm: Norm | None
    k_norm: Norm | None


@dataclass(frozen=True, eq=False)
class FrozenStack:
    """A base model as plain weights.

    Attributes:
        blocks: The layers, bottom first.
        embedding: Token embeddings (vocabulary x width).
        norm: The norm before the head.
        head: The head.
        rotate: Positions (n) to cosine and signed sine (n x 1 x head width): rotating x is
            `x * cosine + roll(x, head width / 2) * sine`.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_width: Width of a head.
        scaling: Factor of the attention scores.
        paths: Short names of the maps by path in the layer.
    """

    blocks: tuple[Block, ...]
    embedding: torch.Tensor
    norm: Norm
    head: Linear
    rotate: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    heads: int
    kv_heads: int
    head_width: int
    scaling: float
    paths: dict[str, str]

    @property
    def width(self) -> int:
        """The width d of the hidden states."""
        return int(self.embedding.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embedding.device


def frozen_stack(base: BaseModel, longest: int) -> FrozenStack | str:
    """Returns the base's weights, or in a word why its blocks cannot be packed.

    `longest` is the number of positions that will be used: a sliding attention window that is at
    least as long is no window.
    """
    model, config = base.model, base.model.config
    reason = unknown_blocks(config, longest)
    if reason is not None:
        return reason
    body = model.model
    attention = body.layers[0].self_attn
    return FrozenStack(
        blocks=tuple(_block(layer) for layer in body.layers),
        embedding=body.embed_tokens.weight.detach(),
        norm=_norm(body.norm),
        head=_linear(model.lm_head),
        rotate=_rotation(body.rotary_emb, body.embed_tokens.weight),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=attention.head_dim,
        scaling=attention.scaling,
        paths={path: name for name, path in _MAPS.items()},
    )


def unknown_blocks(config: Any, longest: int) -> str | None:
    """Returns in a word what about a model's configuration is unknown here, None if nothing is."""
    if is_quantised(config):
        return "quantised weights"
    if config.model_type not in FAMILIES:
        return f"model type {config.model_type}"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) and window is not None and window < longest:
        return f"attention window of {window} tokens"
    return None


def _block(layer: Any) -> Block:
    attention = layer.self_attn
    return Block(
        {name: _linear(layer.get_submodule(path)) for name, path in _MAPS.items()},
        _norm(layer.input_layernorm),
        _norm(layer.post_attention_layernorm),
        _norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        _norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
    )


def _linear(module: Any) -> Linear:
    return Linear(module.weight.detach(), None if module.bias is None else module.bias.detach())


def _norm(module: Any) -> Norm:
    return Norm(module.weight.detach(), float(module.variance_epsilon))


def _rotation(
    rotary: Any, like: torch.Tensor
) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    def rotate(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cosine, sine = rotary(like, position_ids=positions.unsqueeze(0))
        sine = sine[0].clone()
        sine[:, : sine.shape[1] // 2].neg_()
        return cosine[0].unsqueeze(1), sine.unsqueeze(1)

    return rotate
