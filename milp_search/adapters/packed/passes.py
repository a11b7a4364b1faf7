"""Whole passes over the layers: up to an entry, from there to the losses, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from milp_search.adapters.packed.factors import Factors
from milp_search.adapters.packed.head import target_losses
from milp_search.adapters.packed.rows import PackedRows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import (
    AttentionTrace,
    FfnTrace,
    Lanes,
    Remember,
    attention,
    attention_backward,
    feed_forward,
    feed_forward_backward,
)
from milp_search.core.heartbeat import beat


class Entry(NamedTuple):
    """A place between sublayers: before a layer's attention, or after it (before its FFN).

    Everything below an entry is the bare base, the same for all lanes.
    """

    layer: int
    after_attention: bool


START = Entry(0, False)


def entry_of(lanes: Lanes, layers: int) -> Entry:
    """Returns the highest entry below which no lane has LoRA."""
    first = lanes.first_layer
    if first is None:
        return Entry(layers - 1, True)
    return Entry(first, not lanes.has(first, "attention"))


@torch.no_grad()
def hidden_at(
    stack: FrozenStack, rows: PackedRows, lanes: Lanes, places: torch.Tensor, remember: Remember
) -> torch.Tensor:
    """Returns the last layer's output at some tokens (n x d); all keys and values are told."""
    rotation, last = stack.rotate(rows.positions), len(stack.blocks) - 1
    spans, h = rows.spans, stack.embedding[rows.ids]
    for layer in range(last + 1):
        kept = places if layer == last else None
        h, _ = attention(
            stack, layer, h, rows, lanes, rotation, trace=False, kept=kept, remember=remember
        )
        if layer == last:
            spans = rows.spans.at(places)
        h, _ = feed_forward(stack, layer, h, spans, lanes, trace=False)
    return h


@dataclass
class _Traces:
    attention: dict[int, AttentionTrace]
    ffn: dict[int, FfnTrace]


@torch.no_grad()
def prefix(
    stack: FrozenStack, rows: PackedRows, start: Entry, h: torch.Tensor | None, end: Entry
) -> torch.Tensor:
    """Returns the bare base's hidden states at an entry (N x d), from those at a lower one.

    `h` is None for the start of the model.
    """
    beat()
    rotation = stack.rotate(rows.positions)
    h = stack.embedding[rows.ids] if h is None else h
    for layer in range(start.layer, end.layer + 1):
        if not (layer == start.layer and start.after_attention) and (
            layer < end.layer or end.after_attention
        ):
            h, _ = attention(stack, layer, h, rows, Lanes(), rotation, trace=False)
        if layer < end.layer:
            h, _ = feed_forward(stack, layer, h, rows.spans, Lanes(), trace=False)
    return h


@torch.no_grad()
def losses(
    stack: FrozenStack, rows: PackedRows, lanes: Lanes, entry: Entry, h: torch.Tensor
) -> torch.Tensor:
    """Returns the targets' losses (S), from the hidden states at the entry (N x d)."""
    beat()
    top, _ = _forward(stack, rows, lanes, entry, h, trace=False)
    return target_losses(stack, top, rows.targets)[0]


@torch.no_grad()
def losses_and_gradients(
    stack: FrozenStack, rows: PackedRows, lanes: Lanes, entry: Entry, h: torch.Tensor,
    gradients: Factors,
) -> torch.Tensor:  # fmt: skip
    """Returns the targets' losses (S); adds their weighted sum's gradients to `gradients`."""
    top, traces = _forward(stack, rows, lanes, entry, h, trace=True)
    loss, dh = target_losses(stack, top, rows.targets, rows.weights)
    last = len(stack.blocks) - 1
    # Frozen lanes may lie lower than trained ones.
    floor = entry_of(Lanes(lanes.trained), last + 1)
    for layer in range(last, floor.layer - 1, -1):
        assert dh is not None
        spans = rows.target_spans if layer == last else rows.spans
        inside = layer > floor.layer
        dh = feed_forward_backward(
            stack, layer, dh, traces.ffn.pop(layer), spans, lanes, gradients,
            deeper=inside or not floor.after_attention,
        )  # fmt: skip
        if dh is not None:
            dh = attention_backward(
                stack, layer, dh, traces.attention.pop(layer), rows, lanes, gradients, deeper=inside
            )
    return loss


def _forward(
    stack: FrozenStack, rows: PackedRows, lanes: Lanes, entry: Entry, h: torch.Tensor, *,
    trace: bool,
) -> tuple[torch.Tensor, _Traces]:  # fmt: skip
    """Returns the last layer's output at the supervised positions (S x d), and the traces."""
    traces = _Traces({}, {})
    last = len(stack.blocks) - 1
    rotation = stack.rotate(rows.positions)
    if entry == Entry(last, True):
        h = h.index_select(0, rows.supervised)
    for layer in range(entry.layer, last + 1):
        kept = rows.supervised if layer == last else None
        if layer > entry.layer or not entry.after_attention:
            h, seen = attention(stack, layer, h, rows, lanes, rotation, trace=trace, kept=kept)
            if seen is not None:
                traces.attention[layer] = seen
        spans = rows.target_spans if layer == last else rows.spans
        h, told = feed_forward(stack, layer, h, spans, lanes, trace=trace)
        if told is not None:
            traces.ffn[layer] = told
    return h, traces
