"""Texts among which a user's query decides, and scorers that learn which ones to prefer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from milp_search.adapters.factored_scorer import FactoredScorer, pair_features, train_scorer
from milp_search.personalize.method import Run


@dataclass(frozen=True)
class Choice:
    """Texts to be scored for a user's query."""

    user: str
    query: str
    texts: tuple[str, ...]


Scorer = FactoredScorer | None
"""What scores texts; None, where there was nothing to learn from, finds all alike."""


def learned(
    run: Run, name: str, choices: Sequence[Choice], labels: Sequence[Sequence[bool]]
) -> Scorer:
    """Returns a scorer of that name, which learned a label for each text of the choices.

    Labels that are all alike, or none at all, teach no order.
    """
    flat = [label for row in labels for label in row]
    if len(set(flat)) < 2:
        return None
    return train_scorer(_features(run, choices), _owners(choices), flat, "hydra", name, run.seed)


def kept_scorer(
    run: Run, name: str, users: Sequence[str], content: Sequence[Any], learn: Callable[[], Scorer]
) -> Scorer:
    """Returns the scorer that this content decides, from the run's checkpoints or learned.

    Args:
        run: Whose checkpoints.
        name: The scorer's name.
        users: All from whom it may have learned, in an order that the content decides.
        content: Plain JSON values.
        learn: Makes the scorer.

    Returns:
        The scorer.
    """
    if run.checkpoints is None:
        return learn()

    def tensors() -> Mapping[str, torch.Tensor]:
        return _tensors(learn(), users)

    return _scorer(run.checkpoints.learned(name, content, tensors), users)


def _tensors(scorer: Scorer, users: Sequence[str]) -> dict[str, torch.Tensor]:
    """Returns a scorer without anybody's name: its users are rows; no scorer is no tensor."""
    if scorer is None:
        return {}
    nothing = torch.zeros_like(scorer.head)  # what a user has from whom nothing was learned
    own = torch.stack([scorer.own.get(user, nothing) for user in users])
    return {"layer": scorer.layer, "bias": scorer.bias, "head": scorer.head, "own": own}


def _scorer(tensors: Mapping[str, torch.Tensor], users: Sequence[str]) -> Scorer:
    if not tensors:
        return None
    own = dict(zip(users, tensors["own"], strict=True))
    return FactoredScorer(tensors["layer"], tensors["bias"], tensors["head"], own)


def scores(run: Run, scorer: Scorer, choices: Sequence[Choice]) -> list[list[float]]:
    """Returns a score for each text of each choice; the higher, the better."""
    owners = _owners(choices)
    if scorer is None or not owners:
        return [[0.0] * len(choice.texts) for choice in choices]
    flat = scorer.scores(_features(run, choices), owners).tolist()
    borders = pairwise(accumulate((len(choice.texts) for choice in choices), initial=0))
    return [flat[first:last] for first, last in borders]


def _features(run: Run, choices: Sequence[Choice]) -> torch.Tensor:
    """Returns the features of each text beside its query; see `pair_features`."""
    queries = [choice.query for choice in choices for _ in choice.texts]
    texts = [text for choice in choices for text in choice.texts]
    vectors = run.trainer.embed([*queries, *texts])
    return pair_features(vectors[: len(queries)], vectors[len(queries) :])


def _owners(choices: Sequence[Choice]) -> list[str]:
    return [choice.user for choice in choices for _ in choice.texts]
