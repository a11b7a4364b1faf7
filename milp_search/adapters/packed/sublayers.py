"""Attention and feed-forward of one layer over packed rows: forward, and backward by hand.

The base is frozen, so that the way back needs the gradient of the hidden states and of the low-rank
matrices only. N tokens, d width, f feed-forward width, R rows of at most L tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention, silu

from milp_search.adapters.packed.factors import Factors, add_low_rank, low_rank_gradients
from milp_search.adapters.packed.rows import PackedRows, Spans
from milp_search.adapters.packed.stack import FrozenStack, Norm

# ours: up to so many tokens a row, plain products are quicker on a CPU than the fused kernel.
SHORT = 128


@dataclass(frozen=True, eq=False)
class Lanes:
    """What lies on the base: trainable matrices (or none), and frozen ones below (or none)."""

    trained: Factors | None = None
    below: Factors | None = None

    @property
    def both(self) -> tuple[Factors, ...]:
        """Those that there are."""
        return tuple(factors for factors in (self.below, self.trained) if factors is not None)

    @property
    def first_layer(self) -> int | None:
        """The lowest layer with LoRA in any lane, None where there is none."""
        found = [f.first_layer for f in self.both if f.first_layer is not None]
        return min(found, default=None)

    def has(self, layer: int, name: str) -> bool:
        """Whether any lane has LoRA on that group of that layer."""
        return any((layer, name) in factors.groups for factors in self.both)


Remember = Callable[[int, torch.Tensor, torch.Tensor], None]
"""Is given a layer's keys and values (R x heads x L x head width)."""

Inner = tuple[torch.Tensor | None, ...]
"""Per entry of `Lanes.both` what `add_low_rank` returned."""


@dataclass(frozen=True, eq=False)
class AttentionTrace:
    """What attention keeps for the way back."""

    h: torch.Tensor
    inverse: torch.Tensor
    x: torch.Tensor | None
    inner: Inner
    rotated: tuple[torch.Tensor, torch.Tensor]
    raw: tuple[torch.Tensor | None, ...]
    qk_inverse: tuple[torch.Tensor | None, torch.Tensor | None]
    core: Core
    kept: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class FfnTrace:
    """What the feed-forward keeps for the way back."""

    h: torch.Tensor
    inverse: torch.Tensor
    x: torch.Tensor | None
    gate: torch.Tensor
    up: torch.Tensor
    activated: torch.Tensor
    inner: Inner
    inner_down: Inner


def attention(
    stack: FrozenStack, layer: int, h: torch.Tensor, rows: PackedRows, lanes: Lanes,
    rotation: tuple[torch.Tensor, torch.Tensor], *, trace: bool, kept: torch.Tensor | None = None,
    remember: Remember | None = None,
) -> tuple[torch.Tensor, AttentionTrace | None]:  # fmt: skip
    """Returns h plus attention (N x d), and the trace if asked for.

    With `kept`, only those tokens come out (S x d): nothing above needs the others. `remember` is
    given the layer's padded keys and values.
    """
    block = stack.blocks[layer]
    x, inverse = block.attention_norm.forward(h)
    ys = {name: block.maps[name].forward(x) for name in "qkv"}
    inner = _add(lanes, layer, "attention", x, ys, rows.spans)
    q, q_inverse = normed(block.q_norm, heads(ys["q"], stack))
    k, k_inverse = normed(block.k_norm, heads(ys["k"], stack))
    keys, values = _padded(rotated(k, rotation), rows), _padded(heads(ys["v"], stack), rows)
    if remember is not None:
        remember(layer, keys, values)
    core = Core(_padded(rotated(q, rotation), rows), keys, values, stack.scaling, trace=trace)
    o = _flat(core.out, rows)
    if kept is not None:
        o, out_h = o.index_select(0, kept), h.index_select(0, kept)
    else:
        out_h = h
    out = block.maps["o"].added(out_h, o)
    if not trace:
        return out, None
    x_kept = x if lanes.has(layer, "attention") else None
    raw = tuple(
        heads(ys[name], stack) if norm is not None else None
        for name, norm in (("q", block.q_norm), ("k", block.k_norm))
    )
    return out, AttentionTrace(
        h, inverse, x_kept, inner, rotation, raw, (q_inverse, k_inverse), core, kept
    )


def attention_backward(
    stack: FrozenStack, layer: int, dh: torch.Tensor, t: AttentionTrace, rows: PackedRows,
    lanes: Lanes, gradients: Factors | None, *, deeper: bool,
) -> torch.Tensor | None:  # fmt: skip
    """Returns the gradient of attention's input (N x d); None where nothing below needs it."""
    block = stack.blocks[layer]
    do = block.maps["o"].backward(dh)
    if t.kept is not None:
        do = do.new_zeros((len(t.h), do.shape[1])).index_copy_(0, t.kept, do)
        dh = dh.new_zeros(t.h.shape).index_copy_(0, t.kept, dh)
    dq, dk, dv = t.core.backward(_zero_padded(heads(do, stack), rows))
    cosine, sine = t.rotated
    turn = (cosine, -sine)
    q = _un_normed(block.q_norm, rotated(_tokens(dq, rows), turn), t.raw[0], t.qk_inverse[0])
    k = _un_normed(block.k_norm, rotated(_tokens(dk, rows), turn), t.raw[1], t.qk_inverse[1])
    dys = {"q": q.flatten(1), "k": k.flatten(1), "v": _tokens(dv, rows).flatten(1)}
    dx = None
    if deeper:
        dx = block.maps["q"].backward(dys["q"])
        for name in "kv":
            dx.addmm_(dys[name], block.maps[name].weight)
    _back(lanes, gradients, layer, "attention", t.x, t.inner, dys, dx, rows.spans)
    if dx is None:
        return None
    return block.attention_norm.backward(dx, t.h, t.inverse).add_(dh)


def feed_forward(
    stack: FrozenStack, layer: int, h: torch.Tensor, spans: Spans, lanes: Lanes, *, trace: bool
) -> tuple[torch.Tensor, FfnTrace | None]:
    """Returns h plus the feed-forward (n x d), and the trace if asked for."""
    block = stack.blocks[layer]
    x, inverse = block.ffn_norm.forward(h)
    ys = {name: block.maps[name].forward(x) for name in ("gate", "up")}
    inner = _add(lanes, layer, "ffn", x, ys, spans)
    activated = silu(ys["gate"], inplace=not trace)
    middle = activated * ys["up"] if trace else activated.mul_(ys["up"])
    out = block.maps["down"].added(h, middle)
    inner_down = _add(lanes, layer, "middle", middle, {"down": out}, spans)
    if not trace:
        return out, None
    x_kept = x if lanes.has(layer, "ffn") else None
    return out, FfnTrace(h, inverse, x_kept, ys["gate"], ys["up"], activated, inner, inner_down)


def feed_forward_backward(
    stack: FrozenStack, layer: int, dh: torch.Tensor, t: FfnTrace, spans: Spans, lanes: Lanes,
    gradients: Factors | None, *, deeper: bool,
) -> torch.Tensor | None:  # fmt: skip
    """Returns the gradient of the feed-forward's input (n x d); None where nothing needs it."""
    block = stack.blocks[layer]
    dmiddle = block.maps["down"].backward(dh)
    middle = t.activated * t.up if lanes.has(layer, "middle") else None
    _back(lanes, gradients, layer, "middle", middle, t.inner_down, {"down": dh}, dmiddle, spans)
    dup = dmiddle * t.activated
    dgate = torch.ops.aten.silu_backward(dmiddle.mul_(t.up), t.gate)
    dx = None
    if deeper:
        dx = block.maps["gate"].backward(dgate).addmm_(dup, block.maps["up"].weight)
    _back(lanes, gradients, layer, "ffn", t.x, t.inner, {"gate": dgate, "up": dup}, dx, spans)
    if dx is None:
        return None
    return block.ffn_norm.backward(dx, t.h, t.inverse).add_(dh)


class Core:
    """Causal attention between padded queries, keys and values (R x heads x L x head width)."""

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, *, trace: bool
    ):
        self._scaling = scaling
        self._groups = q.shape[1] // k.shape[1]
        k, v = (z.repeat_interleave(self._groups, 1) if self._groups > 1 else z for z in (k, v))
        self._plain = q.device.type == "cpu" and q.shape[2] <= SHORT
        if self._plain:
            self.out = self._forward(q, k, v, trace=trace)
            return
        self._leaves = tuple(z.detach().requires_grad_(trace) for z in (q, k, v))
        with torch.set_grad_enabled(trace):
            lq, lk, lv = self._leaves
            self.out = scaled_dot_product_attention(lq, lk, lv, is_causal=True, scale=scaling)

    def backward(self, do: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the gradients of queries, keys and values, given that of the output."""
        if self._plain:
            dq, dk, dv = self._backward(do)
        else:
            dq, dk, dv = torch.autograd.grad(self.out, self._leaves, do)
        return dq, self._summed(dk), self._summed(dv)

    def _forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, trace: bool
    ) -> torch.Tensor:
        scores = torch.matmul(q, k.transpose(2, 3)).mul_(self._scaling)
        future = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu_(1)
        shares = torch.softmax(scores.masked_fill_(future, float("-inf")), dim=-1)
        if trace:
            self._kept = (q, k, v, shares)
        return torch.matmul(shares, v)

    def _backward(self, do: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v, shares = self._kept
        dv = torch.matmul(shares.transpose(2, 3), do)
        dshares = torch.matmul(do, v.transpose(2, 3))
        dscores = torch.ops.aten._softmax_backward_data(dshares, shares, -1, shares.dtype)
        dscores.mul_(self._scaling)
        return torch.matmul(dscores, k), torch.matmul(dscores.transpose(2, 3), q), dv

    def _summed(self, dz: torch.Tensor) -> torch.Tensor:
        """Adds up the gradients of the query heads that share a key and value head."""
        if self._groups == 1:
            return dz
        count, _, longest, width = dz.shape
        return dz.view(count, -1, self._groups, longest, width).sum(2)


def _add(
    lanes: Lanes, layer: int, name: str, x: torch.Tensor, ys: dict[str, torch.Tensor], spans: Spans
) -> Inner:
    return tuple(add_low_rank(factors, layer, name, x, ys, spans) for factors in lanes.both)


def _back(
    lanes: Lanes, gradients: Factors | None, layer: int, name: str, x: torch.Tensor | None,
    inner: Inner, dys: dict[str, torch.Tensor], dx: torch.Tensor | None, spans: Spans,
) -> None:  # fmt: skip
    for factors, mine in zip(lanes.both, inner, strict=True):
        into = gradients if factors is lanes.trained else None
        if into is not None or dx is not None:
            low_rank_gradients(factors, into, layer, name, x, mine, dys, dx, spans)


def heads(y: torch.Tensor, stack: FrozenStack) -> torch.Tensor:
    """Returns tokens x width as tokens x heads x head width."""
    return y.view(len(y), -1, stack.head_width)


def normed(norm: Norm | None, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns z normed per head where the family does so."""
    return (z, None) if norm is None else norm.forward(z)


def _un_normed(
    norm: Norm | None, dz: torch.Tensor, raw: torch.Tensor | None, inverse: torch.Tensor | None
) -> torch.Tensor:
    return dz if norm is None or raw is None or inverse is None else norm.backward(dz, raw, inverse)


def rotated(z: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Returns tokens x heads x head width turned by their positions."""
    cosine, sine = rotation
    return torch.addcmul(z * cosine, z.roll(z.shape[-1] // 2, -1), sine)


def _padded(z: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    """Returns tokens x heads x width as rows x heads x longest x width, anything in the padding."""
    return _by_head(z.flatten(1).index_select(0, rows.gather), z, rows)


def _zero_padded(z: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    """The same with zeros in the padding, as gradients need it: what stands there has no say."""
    count, longest = rows.shape
    spread = z.new_zeros((count * longest, z.shape[1] * z.shape[2]))
    return _by_head(spread.index_copy_(0, rows.slots, z.flatten(1)), z, rows)


def _by_head(spread: torch.Tensor, z: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    return spread.view(*rows.shape, z.shape[1], z.shape[2]).transpose(1, 2)


def _tokens(z: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    """Returns rows x heads x longest x width as tokens x heads x width."""
    count, width = z.shape[1], z.shape[3]
    flat = z.transpose(1, 2).reshape(-1, count * width)
    return flat.index_select(0, rows.slots).view(-1, count, width)


def _flat(z: torch.Tensor, rows: PackedRows) -> torch.Tensor:
    return _tokens(z, rows).flatten(1)
