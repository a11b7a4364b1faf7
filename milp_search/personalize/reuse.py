"""What trials have in common: profiles, communities and retrieved items.

Each function returns what the plain one beside it in `communities` or `retrieval` returns; where
the run has a cache, it is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from milp_search.adapters.content_key import content_key, tensors_digest
from milp_search.adapters.jobs import Example
from milp_search.adapters.stage_cache import StageCache
from milp_search.adapters.text_embedding import HIDDEN, Embed, common_embedding, text_embedding
from milp_search.core.records import Interaction
from milp_search.personalize.communities import communities, profile_vectors
from milp_search.personalize.method import Run
from milp_search.personalize.profile_text import profile_texts
from milp_search.personalize.retrieval import (
    examples_with_items,
    held_out_rankings,
    random_places,
    training_rankings,
)
from milp_search.personalize.topics import topic_centres, training_responses

PROFILES = "profiles"
_DEPTH = 16  # ours: rankings so deep serve every smaller k from one entry

Histories = tuple[tuple[Interaction, ...], ...]


def run_groups(run: Run) -> list[list[int]]:
    """Returns the plan's communities, each as its users' places in the task."""
    return run_communities(run, run_profile_vectors(run))


def run_profile_vectors(run: Run) -> np.ndarray:
    """Returns the targets' profile vectors; see `profile_vectors`."""
    # Without the base's name in its key a vector could be taken for another base's.
    cache = run.cache if run.base_fingerprint else None
    settings = run.trainer.settings
    name = [] if settings.embedding == HIDDEN else [settings.embedding]
    return _remembered(
        cache,
        "profile_vectors",
        lambda: [run.base_fingerprint, settings.max_length, _digest(_histories(run)), *name],
        lambda: profile_vectors(run.task.targets, text_embedding(run.trainer)),
    )


def run_profiles(run: Run) -> list[str]:
    """Returns each target's profile text; see `profile_texts`. Empty where the plan wants none."""
    if not run.plan.profile:
        return [""] * len(run.task.targets)
    cache = run.cache if run.base_fingerprint else None
    settings = run.trainer.settings
    keys = [
        content_key(
            PROFILES, run.base_fingerprint, settings.max_length, settings.max_new_tokens,
            [(item.query, item.response) for item in user.history],
        )
        for user in run.task.targets
    ]  # fmt: skip
    kept = [None if cache is None else cache.get(PROFILES, key) for key in keys]
    missing = [place for place, entry in enumerate(kept) if entry is None]
    written = profile_texts([run.task.targets[place] for place in missing], run.trainer)
    found = ["" if entry is None else str(entry[1]["text"]) for entry in kept]
    for place, text in zip(missing, written, strict=True):
        found[place] = text
        if cache is not None:
            cache.put(PROFILES, keys[place], {}, {"text": text})
    return found


def run_communities(run: Run, vectors: np.ndarray) -> list[list[int]]:
    """Returns the plan's communities of the users with these vectors; see `communities`."""

    def labels() -> np.ndarray:
        found = np.zeros(len(vectors), dtype=np.int32)
        for label, group in enumerate(communities(vectors, run.plan.communities, run.seed)):
            found[group] = label
        return found

    label = _remembered(
        run.cache,
        "communities",
        lambda: [_array_digest(vectors), run.plan.communities, run.seed],
        labels,
    )
    return [np.flatnonzero(label == group).tolist() for group in range(label.max() + 1)]


def run_topics(run: Run) -> tuple[Embed, np.ndarray]:
    """Returns what embeds texts, and the centres of the topics as it sees them.

    Texts are seen by the study's embedding. Topics depend on neither the plan nor the seed of a
    run, so that the diversities of trials compare; see `topic_centres`.
    """
    responses = training_responses(run.task.targets)
    embed = common_embedding(run.trainer, responses)
    settings = run.trainer.settings
    centres = _remembered(
        run.cache if run.base_fingerprint else None,
        "topics",
        lambda: [run.base_fingerprint, settings.max_length, settings.embedding, responses],
        lambda: topic_centres(embed(responses)),
    )
    return embed, centres


def run_training_examples(run: Run) -> list[tuple[Example, ...]]:
    """Returns each target's history with the plan's k items; see `training_examples`."""
    histories = _histories(run)

    def rankings(depth: int) -> list[np.ndarray]:
        return [training_rankings(history, depth) for history in histories]

    def drawn(depth: int) -> list[np.ndarray]:
        users = [user.user for user in run.task.targets]
        return [
            random_places(range(len(history)), depth, run.seed, user)
            for user, history in zip(users, histories, strict=True)
        ]

    return _with_items(run, histories, "itself", rankings, drawn)


def run_held_out_examples(
    run: Run, queries: Histories, profiles: Sequence[str] | None = None
) -> list[tuple[Example, ...]]:
    """Returns each target's queries with the plan's k items; see `held_out_examples`.

    `profiles` are the targets' profile texts, where they are known already.
    """

    def rankings(depth: int) -> list[np.ndarray]:
        pairs = zip(_histories(run), queries, strict=True)
        return [held_out_rankings(history, asked, depth) for history, asked in pairs]

    def drawn(depth: int) -> list[np.ndarray]:
        return [
            random_places([len(user.history)] * len(asked), depth, run.seed, user.user)
            for user, asked in zip(run.task.targets, queries, strict=True)
        ]

    return _with_items(run, queries, _digest(queries), rankings, drawn, profiles)


Rankings = Callable[[int], list[np.ndarray]]


def _with_items(
    run: Run, asked: Histories, name: str, ranked: Rankings, drawn: Rankings,
    profiles: Sequence[str] | None = None,
) -> list[tuple[Example, ...]]:  # fmt: skip
    """Returns each user's items as examples; all users' rankings are one entry of the cache."""
    profiles = run_profiles(run) if profiles is None else profiles
    histories, k = _histories(run), run.plan.retrieved_items
    by_chance = run.plan.retrieval == "random"
    cache = None if by_chance else run.cache
    rankings = drawn if by_chance else ranked
    depth = max(k, _DEPTH) if cache and k > 0 else k
    table = _remembered(
        cache if k > 0 else None,
        "retrieval",
        lambda: [_digest(histories), name, depth],
        lambda: np.concatenate([np.empty((0, depth), np.int32), *rankings(depth)]),
    )
    borders = pairwise(accumulate(map(len, asked), initial=0))
    return [
        examples_with_items(items, history, table[first:last, :k], profile)
        for items, history, (first, last), profile in zip(
            asked, histories, borders, profiles, strict=True
        )
    ]


def _remembered(
    cache: StageCache | None,
    kind: str,
    content: Callable[[], Sequence[Any]],
    compute: Callable[[], np.ndarray],
) -> np.ndarray:
    """Returns the array that this content decides, from the cache or computed and kept there."""
    if cache is None:
        return compute()
    key = content_key(kind, *content())
    entry = cache.get(kind, key)
    if entry is not None:
        kept: np.ndarray = entry[0]["array"].numpy()
        return kept
    array = compute()
    cache.put(kind, key, {"array": torch.from_numpy(array)}, {})
    return array


def _histories(run: Run) -> Histories:
    return tuple(user.history for user in run.task.targets)


@lru_cache(maxsize=8)
def _digest(histories: Histories) -> str:
    """Returns a digest of the users' texts, in order."""
    return content_key([[(item.query, item.response) for item in one] for one in histories])


def _array_digest(array: np.ndarray) -> str:
    return tensors_digest({"array": torch.from_numpy(array)})
