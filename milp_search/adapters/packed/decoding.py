"""Greedy generation for many lanes together, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from milp_search.adapters.packed.factors import add_low_rank
from milp_search.adapters.packed.head import next_tokens
from milp_search.adapters.packed.passes import hidden_at
from milp_search.adapters.packed.rows import PackedRows, Row, Spans, lane_spans, pack_rows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import Lanes, feed_forward, heads, normed, rotated
from milp_search.core.heartbeat import beat

# ours: rows that have ended leave the batch once so large a share of it has.
_LEAVE = 0.25


@torch.no_grad()
def generate(
    stack: FrozenStack, rows: Sequence[Row], lanes: Lanes, new_tokens: int, ends: Sequence[int]
) -> list[list[int]]:
    """Returns each row's greedy continuation, at most `new_tokens`, before any of the end tokens.

    The rows hold prompts only and come in ascending order of their lanes.
    """
    packed = pack_rows(rows, stack.device)
    cache = _Cache(stack, packed, new_tokens)
    lengths = torch.tensor([len(row.text) for row in rows], device=stack.device)
    last = torch.cumsum(lengths, 0) - 1
    tokens = next_tokens(stack, hidden_at(stack, packed, lanes, last, cache.fill))
    found: list[list[int]] = [[] for _ in rows]
    batch = _Batch([row.lane for row in rows], list(range(len(rows))), lengths, stack.device)
    for step in range(new_tokens):
        beat()
        ended = []
        for place, (row, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
            if token in ends or place in batch.ended:
                ended.append(place)
            else:
                found[row].append(token)
        batch.ended = set(ended)
        if len(ended) == len(batch.rows) or step + 1 == new_tokens:
            break
        if len(ended) >= _LEAVE * len(batch.rows):
            stay = torch.tensor(
                [place for place in range(len(batch.rows)) if place not in batch.ended],
                device=stack.device,
            )
            batch = batch.kept(stay)
            cache.keep(stay)
            tokens = tokens.index_select(0, stay)
        h = _step(stack, tokens, batch, lanes, cache)
        tokens = next_tokens(stack, h)
        batch.positions += 1
    return found


class _Batch:
    """The rows still going: their lanes, their numbers, and the place of their next token."""

    def __init__(
        self, lanes: list[int], rows: list[int], positions: torch.Tensor, device: torch.device
    ):
        self.lanes, self.rows, self.positions = lanes, rows, positions
        self.ended: set[int] = set()
        self.spans: Spans = lane_spans(lanes, [1] * len(lanes), device, batched=True)

    def kept(self, stay: torch.Tensor) -> _Batch:
        places = stay.tolist()
        return _Batch(
            [self.lanes[place] for place in places],
            [self.rows[place] for place in places],
            self.positions.index_select(0, stay),
            self.positions.device,
        )


class _Cache:
    """Keys and values of every layer (rows x heads x length x head width)."""

    def __init__(self, stack: FrozenStack, rows: PackedRows, new_tokens: int):
        count, longest = rows.shape
        shape = (count, stack.kv_heads, longest + new_tokens, stack.head_width)
        like = stack.embedding
        # Zeros: what is masked is multiplied by 0, and 0 times not-a-number is no 0.
        self.keys = [like.new_zeros(shape) for _ in stack.blocks]
        self.values = [like.new_zeros(shape) for _ in stack.blocks]

    def fill(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Takes a layer's keys and values of the prompts."""
        self.keys[layer][:, :, : keys.shape[2]] = keys
        self.values[layer][:, :, : keys.shape[2]] = values

    def keep(self, stay: torch.Tensor) -> None:
        """Drops all other rows."""
        self.keys = [keys.index_select(0, stay) for keys in self.keys]
        self.values = [values.index_select(0, stay) for values in self.values]


def _step(
    stack: FrozenStack, tokens: torch.Tensor, batch: _Batch, lanes: Lanes, cache: _Cache
) -> torch.Tensor:
    """Returns the hidden states after one more token of each row (rows x d)."""
    h = stack.embedding[tokens]
    rotation = stack.rotate(batch.positions)
    length = int(batch.positions.max()) + 1
    places = torch.arange(length, device=h.device)
    # What a shorter row has not written yet must not be seen.
    unseen = (places > batch.positions.unsqueeze(1)).unsqueeze(1).unsqueeze(1)
    every = torch.arange(len(tokens), device=h.device)
    for layer, block in enumerate(stack.blocks):
        x, _ = block.attention_norm.forward(h)
        ys = {name: block.maps[name].forward(x) for name in "qkv"}
        for factors in lanes.both:
            add_low_rank(factors, layer, "attention", x, ys, batch.spans)
        q, _ = normed(block.q_norm, heads(ys["q"], stack))
        k, _ = normed(block.k_norm, heads(ys["k"], stack))
        keys, values = cache.keys[layer], cache.values[layer]
        keys[every, :, batch.positions] = rotated(k, rotation)
        values[every, :, batch.positions] = heads(ys["v"], stack)
        # Rows x kv heads x (queries that share them) x head width.
        q = rotated(q, rotation).view(len(h), stack.kv_heads, -1, stack.head_width)
        scores = torch.matmul(q, keys[:, :, :length].transpose(2, 3)).mul_(stack.scaling)
        shares = torch.softmax(scores.masked_fill_(unseen, float("-inf")).float(), -1).to(h.dtype)
        o = torch.matmul(shares, values[:, :, :length]).flatten(1)
        h = block.maps["o"].added(h, o)
        h, _ = feed_forward(stack, layer, h, batch.spans, lanes, trace=False)
    return h
