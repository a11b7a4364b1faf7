"""Losses and greedy generations of many lanes together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed.decoding import generate
from milp_search.adapters.packed.passes import entry_of, losses
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import Lanes


def row_losses(
    stack: FrozenStack, cache: PrefixCache, rows: Sequence[Row], lanes: Lanes, pass_tokens: int
) -> list[float]:
    """Returns each row's mean loss per target, 0 where it has none."""
    entry = entry_of(lanes, len(stack.blocks))
    found = [0.0] * len(rows)
    for places in buckets(rows, pass_tokens):
        part = [rows[place] for place in places]
        packed = pack_rows(part, stack.device)
        told = losses(stack, packed, lanes, entry, cache.states([row.text for row in part], entry))
        by_row = torch.split(told, list(packed.counts))
        means = torch.stack([loss.sum() / max(len(loss), 1) for loss in by_row]).tolist()
        for place, mean in zip(places, means, strict=True):
            found[place] = mean
    return found


def row_generations(
    stack: FrozenStack, rows: Sequence[Row], lanes: Lanes, new_tokens: int,
    ends: Sequence[int],
    pass_tokens: int,
) -> list[list[int]]:  # fmt: skip
    """Returns each row's greedy continuation; the rows hold prompts only."""
    found: list[list[int]] = [[] for _ in rows]
    for places in buckets(rows, pass_tokens, extra=new_tokens):
        part = [rows[place] for place in places]
        for place, tokens in zip(
            places, generate(stack, part, lanes, new_tokens, ends), strict=True
        ):
            found[place] = tokens
    return found


def buckets(rows: Sequence[Row], tokens: int, extra: int = 0) -> list[list[int]]:
    """Returns the rows' numbers in groups of similar length, each in the order of the rows.

    A group times its longest row (and `extra` tokens more) is at most so many tokens.
    """
    parts: list[list[int]] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place].text)):
        length = len(rows[place].text) + extra
        if not parts or (len(parts[-1]) + 1) * length > tokens:
            parts.append([])
        parts[-1].append(place)
    return [sorted(part) for part in parts]


def prompt_row(lane: int, text: Encoded) -> Row:
    """Returns a prompt to be continued as a row."""
    return Row(lane, Encoded(text.prompt, ()))
