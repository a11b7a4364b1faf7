"""A small scorer that users share, with a linear head for each of them (HYDRA's factorisation)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, layer_norm

from milp_search.adapters.lora import generator

_WIDTH = 32  # ours: numbers that the shared layer hands to the heads
_STEPS = 25  # ours: whole-batch steps; 100 and 400 did no better on the quick start
_RATE = 1e-2  # ours: AdamW's, constant
_DECAY = 1e-2  # ours: AdamW's; it draws the users' own parts of the heads to nothing


@dataclass(frozen=True, eq=False)
class FactoredScorer:
    """What `train_scorer` learned; all float32 on the CPU.

    Attributes:
        layer: The shared layer's weights (width x features).
        bias: Its biases (width).
        head: What all users' heads have in common (width).
        own: What a user's head adds to it (width), by user.
    """

    layer: torch.Tensor = field(repr=False)
    bias: torch.Tensor = field(repr=False)
    head: torch.Tensor = field(repr=False)
    own: Mapping[str, torch.Tensor] = field(repr=False)

    def scores(self, features: torch.Tensor, users: Sequence[str]) -> torch.Tensor:
        """Returns a score per row of features (rows x features), by its user's head (rows).

        A user from whom nothing was learned has the common head.
        """
        nothing = torch.zeros_like(self.head)
        heads = torch.stack([self.own.get(user, nothing) for user in users]) + self.head
        return (torch.tanh(features @ self.layer.T + self.bias) * heads).sum(1)


def pair_features(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Returns features of pairs of text vectors (pairs x width each): pairs x 3 width.

    Both vectors, normalised to mean 0 and variance 1 each, and their product by element.
    """
    left, right = (layer_norm(vectors, vectors.shape[1:]) for vectors in (one, other))
    return torch.cat([left, right, left * right], dim=1)


def train_scorer(
    features: torch.Tensor,
    users: Sequence[str],
    labels: Sequence[bool],
    *key: object,
    steps: int = _STEPS,
) -> FactoredScorer:
    """Returns a scorer whose scores are the log-odds of the labels.

    All rows teach the shared layer and the common head, a user's rows alone that user's own part
    of the head. Heads start at 0, so that an untrained scorer prefers nothing.

    Args:
        features: rows x features, at least one row.
        users: Whose each row is.
        labels: What each row's label is.
        *key: What the start of the shared layer is drawn by, such as the seed.
        steps: Optimiser steps, each on all rows.

    Returns:
        The scorer.

    Source: Zhuang et al. 2024 (HYDRA), shared base and per-user heads, cross-entropy.
    """
    names = {user: place for place, user in enumerate(dict.fromkeys(users))}
    rows = torch.tensor([names[user] for user in users])
    targets = torch.tensor(labels, dtype=torch.float32)
    size = features.shape[1]
    start = 2 * torch.rand(_WIDTH, size, generator=generator(*key)) - 1
    layer = nn.Parameter(start / math.sqrt(size))
    bias, head = (nn.Parameter(torch.zeros(_WIDTH)) for _ in range(2))
    own, offset = nn.Parameter(torch.zeros(len(names), _WIDTH)), nn.Parameter(torch.zeros(()))
    weights = [layer, bias, head, own, offset]
    optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
    for _ in range(steps):
        shared = torch.tanh(features @ layer.T + bias)
        logits = (shared * (head + own[rows])).sum(1) + offset
        loss = binary_cross_entropy_with_logits(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    parts = own.detach().unbind()
    return FactoredScorer(
        layer.detach(), bias.detach(), head.detach(), dict(zip(names, parts, strict=True))
    )
