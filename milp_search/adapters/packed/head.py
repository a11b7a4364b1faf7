"""The head at supervised positions: losses, and the gradient of what it reads."""

from __future__ import annotations

import torch

from milp_search.adapters.packed.stack import FrozenStack

# ours: so many logits at once (positions x vocabulary) stay in a processor's cache.
LOGITS = 2**20


def target_losses(
    stack: FrozenStack, h: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns each target's negative log-likelihood in nats (S), and the gradient of h.

    Args:
        stack: The base.
        h: Hidden states that predict the targets (S x d).
        targets: Token ids (S).
        weights: The weight of each target in the loss that the gradient is of; None for no
            gradient.

    Returns:
        The losses (S), and the gradient of their weighted sum (S x d) or None.
    """
    x, inverse = stack.norm.forward(h)
    dx = None if weights is None else torch.empty_like(x)
    losses = torch.empty(len(h), device=h.device)
    # Even parts: products of very few rows round otherwise, and results would depend on the rest.
    parts = -(-len(h) * stack.head.weight.shape[0] // LOGITS)
    for number in range(parts):
        part = slice(len(h) * number // parts, len(h) * (number + 1) // parts)
        logits = stack.head.forward(x[part]).float()
        places = torch.arange(len(logits), device=h.device)
        largest, at = logits.max(1)
        chances = torch.softmax(logits, 1)
        # Not log(chance of the target): that may be 0 in float32, the largest never is.
        losses[part] = largest - chances[places, at].log() - logits[places, targets[part]]
        if dx is not None and weights is not None:
            chances[places, targets[part]] -= 1.0
            dlogits = chances.mul_(weights[part].unsqueeze(1)).to(x.dtype)
            dx[part] = stack.head.backward(dlogits)
    return losses, None if dx is None else stack.norm.backward(dx, h, inverse)


def next_tokens(stack: FrozenStack, h: torch.Tensor) -> torch.Tensor:
    """Returns the likeliest next token of each hidden state (n)."""
    return stack.head.forward(stack.norm.forward(h)[0]).argmax(1)
