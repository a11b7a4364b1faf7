"""Peak memory of a packed training pass: measured, and by the closed form that sizes passes."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import torch
from live_tensors import peak_bytes
from setting import Setting, masks

from milp_search.adapters.encoding import Encoded, encode
from milp_search.adapters.jobs import Adapter, Example
from milp_search.adapters.lora import fresh_adapter, module_path
from milp_search.adapters.packed.factors import frozen, trainable
from milp_search.adapters.packed.memory import head_bytes, token_bytes
from milp_search.adapters.packed.passes import Entry, entry_of, losses_and_gradients
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack, frozen_stack
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.adapters.prompt import answer_text, prompt_text
from milp_search.core.plan import AdapterPlan

_MIB = 2**20


def peak_memories(setting: Setting, tokens: tuple[int, ...]) -> list[dict[str, Any]]:
    """Returns a row per mask and number of tokens in a pass."""
    stack = frozen_stack(setting.base, setting.spec.training.max_length)
    if isinstance(stack, str):
        raise SystemExit(f"this base is not packed: {stack}")
    return [
        _row(setting, stack, mask, ranks, count)
        for mask, ranks in masks(setting.base.shape.layers, 0).items()
        for count in tokens
    ]


def _row(
    setting: Setting, stack: FrozenStack, mask: str, ranks: tuple[int, ...], tokens: int
) -> dict[str, Any]:
    rows = _rows(setting, tokens)
    count, longest = sum(len(row.text) for row in rows), max(len(row.text) for row in rows)
    stacks = [_adapters(setting, ranks, lane) for lane in range(rows[-1].lane + 1)]
    paths = {
        module_path(setting.base.shape, layer, linear): (layer, stack.paths[linear.path])
        for layer in range(setting.base.shape.layers)
        for linear in setting.base.shape.maps
        if linear.path in stack.paths
    }
    trained = trainable([own for _, own in stacks], paths, stack.device)
    lanes = Lanes(trained, frozen([(below,) for below, _ in stacks], paths, stack.device))
    gradients = trained.like(torch.zeros_like(trained.flat))
    entry = entry_of(lanes, len(stack.blocks))
    texts = [row.text for row in rows]
    cache = PrefixCache(stack, setting.base.fingerprint, memory_mib=4096)
    cache.states(texts, entry)

    def one_pass() -> None:
        packed = pack_rows(rows, stack.device)
        h = cache.states(texts, entry)
        losses_and_gradients(stack, packed, lanes, entry, h, gradients)

    one_pass()
    total = sum(a.shape[0] for adapter in stacks[0] for a, _ in adapter.tensors.values())
    first = next(layer for layer, rank in enumerate(ranks) if rank)
    share = sum(row.text.supervised for row in rows) / count
    each = token_bytes(stack, Entry(first, True), longest, total, share)
    return {
        "setting": setting.name,
        "mask": mask,
        "tokens": count,
        "longest": longest,
        "lanes": len(stacks),
        "measured_mib": peak_bytes(one_pass, stack.device) / _MIB,
        "predicted_mib": (each * len(rows) * longest + head_bytes(stack)) / _MIB,
    }


def _rows(setting: Setting, tokens: int) -> list[Row]:
    """Returns examples of the target users in turn, up to so many tokens, by lane."""
    texts = {lane: _texts(setting, lane) for lane in range(len(setting.task.targets))}
    shortest = min(map(len, texts.values()))
    endless = cycle(Row(lane, texts[lane][place]) for place in range(shortest) for lane in texts)
    chosen: list[Row] = []
    for row in islice(endless, tokens):
        if chosen and sum(len(one.text) for one in chosen) + len(row.text) > tokens:
            break
        chosen.append(row)
    chosen.sort(key=lambda row: row.lane)
    return chosen


def _texts(setting: Setting, user: int) -> list[Encoded]:
    history = setting.task.targets[user].history
    examples = [Example(prompt_text(item.query), answer_text(item.response)) for item in history]
    length = setting.spec.training.max_length
    return [encode(setting.base.tokenizer, example, length) for example in examples]


def _adapters(setting: Setting, ranks: tuple[int, ...], lane: int) -> tuple[Adapter, Adapter]:
    """Returns a frozen adapter and one to be trained on top of it."""
    plan, shape = AdapterPlan(ranks, alpha_over_rank=4.0), setting.base.shape
    return (
        fresh_adapter(f"global:{lane}", plan, shape, 0),
        fresh_adapter(f"local:{lane}", plan, shape, 0),
    )
