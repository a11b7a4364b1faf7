"""How much memory packed training takes, in closed form, and how much fits.

What the way back needs is kept explicitly, so that it can be counted: per token and layer the
hidden states before attention and before the feed-forward, queries, keys, values and attention's
shares (or output), gate, up and their product, and the low-rank inner states. Tests compare the
count with the peak of live tensors.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import torch

from milp_search.adapters.packed.head import LOGITS
from milp_search.adapters.packed.passes import Entry
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import SHORT

_MIB = 2**20
# ours: on a CPU larger passes leave its caches, and are no faster (benchmarks/trials).
_CPU_PASS = 1024
_CUDA_PASS = 32_768
# ours: generating keeps nothing for a way back, and long batches leave one after another.
_GENERATING = 8
# ours: share of the budget for the lanes' weights and optimiser states, and for prefixes.
_LANES_SHARE, _PREFIX_SHARE = 0.4, 0.1
_SAFETY = 0.8
# What torch says beside its own errors: the host's allocator, CUDA outside torch's, cuBLAS, cuDNN.
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
# Bytes of a token's ids, positions and places.
_PLACES = 64


class PassSize(NamedTuple):
    """How much goes through at most: tokens, and rows times the longest of them."""

    tokens: int
    slots: int


@dataclass(frozen=True)
class MemoryPlan:
    """What may be used.

    Attributes:
        bytes: The budget.
        device: `cpu` or `cuda`.
    """

    bytes: int
    device: str

    @property
    def prefix_mib(self) -> float:
        """Mebibytes of hidden states to keep in memory."""
        return self.bytes * _PREFIX_SHARE / _MIB

    def lanes(self, weights: int, below: int) -> int:
        """Returns how many lanes of so many trainable and frozen weights train side by side."""
        return max(int(self.bytes * _LANES_SHARE) // max(lane_bytes(weights, below), 1), 1)

    def training(
        self, stack: FrozenStack, entry: Entry, longest: int, ranks: int,
        supervised: float = 1.0, halvings: int = 0,
    ) -> PassSize:  # fmt: skip
        """Returns how much goes through in one pass with gradients; see `token_bytes`."""
        room = self._room - head_bytes(stack)
        fits = int(max(room, 0.0) / token_bytes(stack, entry, longest, ranks, supervised))
        return PassSize(max(min(fits, self._most) >> halvings, 1), max(fits >> halvings, 1))

    def generating(
        self, stack: FrozenStack, prompt: int, new_tokens: int, halvings: int = 0
    ) -> int:
        """Returns how many tokens, prompts and answers, are generated together."""
        fits = int(self._room / generation_bytes(stack, prompt, new_tokens))
        return max(min(fits, self._most * _GENERATING) >> halvings, 1)

    @property
    def _room(self) -> float:
        return self.bytes * (1 - _LANES_SHARE - _PREFIX_SHARE) * _SAFETY

    @property
    def _most(self) -> int:
        return _CUDA_PASS if self.device == "cuda" else _CPU_PASS


def memory_plan(device: torch.device, memory_mib: float | None = None) -> MemoryPlan:
    """Returns the budget given, or what is free now on the device."""
    if memory_mib is not None:
        return MemoryPlan(int(memory_mib * _MIB), device.type)
    if device.type == "cuda":
        return MemoryPlan(int(torch.cuda.mem_get_info(device)[0] * _SAFETY), device.type)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MemoryPlan(int(free * _SAFETY / 2), device.type)


def lane_bytes(weights: int, below: int) -> int:
    """Returns the bytes of a lane: weights, gradient, two moments, the result; what lies below."""
    return 4 * (5 * weights + below)


def head_bytes(stack: FrozenStack) -> int:
    """Returns the bytes of the head's part of a pass: logits and chances, float32."""
    return 3 * 4 * max(LOGITS, stack.head.weight.shape[0])


def token_bytes(
    stack: FrozenStack, entry: Entry, longest: int, ranks: int, supervised: float = 1.0
) -> int:
    """Returns the bytes that one token takes at the peak of a training pass.

    Args:
        stack: The base.
        entry: Where the pass begins.
        longest: Tokens of the longest row; rows are padded to it inside attention.
        ranks: The sum over layers and maps of the lanes' ranks, frozen ones included.
        supervised: The share of tokens that are targets; the last feed-forward sees no others.

    Returns:
        Bytes, counting every row as long as the longest.
    """
    size, width = stack.embedding.element_size(), stack.width
    block, inner = stack.blocks[0], stack.heads * stack.head_width
    ffn = block.maps["gate"].weight.shape[0]
    plain = stack.device.type == "cpu" and longest <= SHORT
    scores = stack.heads * longest if plain else 0
    raw = inner + stack.kv_heads * stack.head_width if block.q_norm is not None else 0
    attention = 2 * width + 4 * inner + raw + scores
    feed_forward = 2 * width + 3 * ffn
    whole = len(stack.blocks) - 1 - entry.layer
    attended = whole if entry.after_attention else whole + 1
    traces = attended * attention + (whole + supervised) * feed_forward
    # What one sublayer needs on its way back, on top of all traces.
    told = 1.0 if whole else supervised
    working = told * (4 * ffn + 6 * width)
    if stack.device.type == "cuda":
        # Lanes side by side are spread out in float32 for one batched product.
        working += told * 8 * ffn / size
    if attended:
        working = max(working, 6 * inner + 3 * width + max(2 * scores, 2 * inner + 3 * width))
    once = width + 4 * stack.head_width
    return int(size * (traces + working + once)) + 4 * ranks + _PLACES


def generation_bytes(stack: FrozenStack, prompt: int, new_tokens: int) -> int:
    """Returns the bytes that one token, of prompt or answer, takes at the peak of generation.

    Keys and values of all layers, those of one kind twice where rows leave; on top of them one
    layer's work on the prompts, the longest of which has `prompt` tokens.
    """
    size, block = stack.embedding.element_size(), stack.blocks[0]
    inner, kv = stack.heads * stack.head_width, stack.kv_heads * stack.head_width
    plain = stack.device.type == "cpu" and prompt <= SHORT
    scores = 2 * stack.heads * prompt if plain else 0
    working = 4 * stack.width + max(7 * inner + scores, 3 * block.maps["gate"].weight.shape[0])
    share = prompt / (prompt + new_tokens)
    return size * (3 * len(stack.blocks) * kv + int(share * working)) + _PLACES


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
