"""HYDRA: a reranker and a chooser of answers, shared by all users but for a head each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from milp_search.adapters.jobs import Answer, Example, PredictJob
from milp_search.adapters.prompt import item_text
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.choices import Choice, Scorer, kept_scorer, learned, scores
from milp_search.personalize.method import Run, Trained, as_targets
from milp_search.personalize.retrieval import (
    examples_with_items,
    held_out_rankings,
    random_places,
    training_rankings,
)
from milp_search.personalize.reuse import run_profiles

_ITEMS = 4  # ours: retrieved items that are reranked, or twice k where that is more
_QUERIES = 8  # ours: a user's latest training queries that are learned from; bounds the cost
_OTHERS = 16  # ours: users who are no targets and help to learn, the most active; bounds the cost
_ANSWERS = 4  # ours: candidate answers per query; bounds the cost
_HELPS = 1e-3  # ours: nats that count as a lower loss; less may be rounding in a batch


@dataclass(frozen=True)
class Query:
    """A query with the items of its user's history that were retrieved for it.

    Attributes:
        user: Whose it is.
        profile: The text on top of the prompt, empty for none.
        item: The query with its true response.
        places: The retrieved items' places in the history, best first.
    """

    user: UserTask
    profile: str
    item: Interaction
    places: tuple[int, ...]

    def shown(self, places: Sequence[int]) -> Example:
        """Returns the query as an example, with the items at these places in its prompt."""
        table = np.array([places], dtype=np.int32)
        return examples_with_items((self.item,), self.user.history, table, self.profile)[0]


def hydra(run: Run) -> Trained:
    """Returns no adapter, and answers chosen by models around the frozen base.

    The reranker orders the items that BM25 found; it learns which of them lower the base's loss
    of the true response. The best k stand in the prompt, whose loss is the one reported. The base
    gives several answers, each to other items; the chooser, which learns to tell true responses
    from generated ones, takes one. Both are small networks over the base's frozen text vectors
    (the paper: a language model of their own), shared by all users, with a linear head per user.
    They learn from training histories alone, each query with items from before it.

    The paper samples candidate answers at a temperature; our trainers answer greedily, so the
    prompts differ instead. Without items, k = 0, there is nothing to order nor to choose.

    Source: Zhuang et al. 2024 (HYDRA), as described in LoGo, section 4.1.
    """
    nobody = Trained({user.user: () for user in run.task.targets})
    if run.plan.retrieved_items == 0:
        return nobody
    known = training_queries(run)
    reranker = _kept(run, "reranker", known, lambda: train_reranker(run, known))
    chooser = _kept(run, "chooser", known, lambda: train_chooser(run, known, reranker))

    def respond(queries: Sequence[Sequence[Interaction]], generate: bool) -> list[list[Answer]]:
        asked = held_out_queries(run, queries)
        ranked = reranked(run, asked, reranker)
        if generate:
            answers = chosen(run, asked, _candidates(run, asked, ranked), chooser)
        else:
            answers = _first_answers(run, asked, ranked)
        borders = pairwise(accumulate(map(len, queries), initial=0))
        return [answers[first:last] for first, last in borders]

    return replace(nobody, respond=respond)


def _kept(run: Run, name: str, known: Sequence[Query], learn: Callable[[], Scorer]) -> Scorer:
    """Returns a scorer that learns from the queries, or that an earlier attempt has learned."""
    users = {query.user.user: query.user for query in known}
    content = [
        run.plan.as_dict(),
        run.seed,
        asdict(run.trainer.settings),
        [(query.user.user, query.profile, query.item.query, query.places) for query in known],
        [[(item.query, item.response) for item in user.history] for user in users.values()],
    ]
    return kept_scorer(run, name, [*users], content, learn)


def training_queries(run: Run) -> list[Query]:
    """Returns the latest items of each learner's history for which earlier ones were found."""
    others = sorted(as_targets(run.task.others), key=lambda user: -len(user.history))
    learners = (*run.task.targets, *others[:_OTHERS])
    found = []
    for user, profile in zip(learners, run_profiles(run.among(learners)), strict=True):
        if run.plan.retrieval == "random":
            places = random_places(range(len(user.history)), _depth(run), run.seed, user.user)
        else:
            places = training_rankings(user.history, _depth(run))
        own = _queries(user, profile, user.history, places)
        found += [query for query in own if query.places][-_QUERIES:]
    return found


def held_out_queries(run: Run, queries: Sequence[Sequence[Interaction]]) -> list[Query]:
    """Returns the targets' queries in a row, each with what its user's history holds for it."""
    users, found = run.task.targets, []
    for user, profile, asked in zip(users, run_profiles(run), queries, strict=True):
        if run.plan.retrieval == "random":
            limits = [len(user.history)] * len(asked)
            places = random_places(limits, _depth(run), run.seed, user.user)
        else:
            places = held_out_rankings(user.history, asked, _depth(run))
        found += _queries(user, profile, asked, places)
    return found


def train_reranker(run: Run, known: Sequence[Query]) -> Scorer:
    """Returns a scorer of items, which learns whether each alone lowers the response's loss.

    An item does so if the loss with it is below the loss without any, and below the mean over the
    query's items. The second is ours: on small bases every item lowers the loss, by its form
    alone, and equal labels would teach no order. Where one item was found there is none to learn.
    """
    several = [query for query in known if len(query.places) > 1]
    shown = [
        [query.shown(()), *(query.shown((place,)) for place in query.places)] for query in several
    ]
    labels = []
    for plain, *helped in _predicted(run, shown, generate=False):
        losses = [answer.loss for answer in helped]
        bar = min(plain.loss, sum(losses) / len(losses)) - _HELPS
        labels.append([loss < bar for loss in losses])
    return learned(run, "reranker", [_items(query) for query in several], labels)


def reranked(run: Run, queries: Sequence[Query], reranker: Scorer) -> list[list[int]]:
    """Returns each query's retrieved places, best first; of equal scores BM25's order stays."""
    found = scores(run, reranker, [_items(query) for query in queries])
    return [
        [place for _, place in sorted(zip(row, query.places, strict=True), key=lambda p: -p[0])]
        for query, row in zip(queries, found, strict=True)
    ]


def train_chooser(run: Run, known: Sequence[Query], reranker: Scorer) -> Scorer:
    """Returns a scorer of answers, which learns to tell a true response from generated ones."""
    answers = _candidates(run, known, reranked(run, known, reranker))
    choices = []
    for query, given in zip(known, answers, strict=True):
        true = query.item.response.strip()
        wrong = [text for text in _texts(given) if text != true]
        if wrong:
            choices.append(Choice(query.user.user, query.item.query, (true, *wrong)))
    labels = [[place == 0 for place in range(len(choice.texts))] for choice in choices]
    return learned(run, "chooser", choices, labels)


def chosen(
    run: Run, queries: Sequence[Query], candidates: Sequence[Sequence[Answer]], chooser: Scorer
) -> list[Answer]:
    """Returns each query's first answer with the text of the best one; of equal ones the first."""
    choices = [
        Choice(query.user.user, query.item.query, _texts(answers))
        for query, answers in zip(queries, candidates, strict=True)
    ]
    found = scores(run, chooser, choices)
    return [
        replace(first, generated=choice.texts[row.index(max(row))])
        for (first, *_), choice, row in zip(candidates, choices, found, strict=True)
    ]


def windows(ranked: Sequence[int], k: int) -> list[tuple[int, ...]]:
    """Returns the places shown for each candidate answer, at most four times.

    The first k ranked places come first, then k from the second on, and so forth; no place at all
    comes last.
    """
    starts = range(min(len(ranked), _ANSWERS - 1))
    return [*(tuple(ranked[first : first + k]) for first in starts), ()]


def _candidates(
    run: Run, queries: Sequence[Query], ranked: Sequence[Sequence[int]]
) -> list[list[Answer]]:
    """Returns what the base answers to each query with each of its windows of items."""
    k = run.plan.retrieved_items
    shown = [
        [query.shown(places) for places in windows(order, k)]
        for query, order in zip(queries, ranked, strict=True)
    ]
    return _predicted(run, shown, generate=True)


def _first_answers(
    run: Run, queries: Sequence[Query], ranked: Sequence[Sequence[int]]
) -> list[Answer]:
    k = run.plan.retrieved_items
    shown = [[query.shown(order[:k])] for query, order in zip(queries, ranked, strict=True)]
    return [answer for (answer,) in _predicted(run, shown, generate=False)]


def _predicted(
    run: Run, shown: Sequence[Sequence[Example]], *, generate: bool
) -> list[list[Answer]]:
    return run.trainer.predict([PredictJob(tuple(one), (), generate) for one in shown])


def _queries(
    user: UserTask, profile: str, items: Sequence[Interaction], places: np.ndarray
) -> list[Query]:
    found = [tuple(place for place in row if place >= 0) for row in places.tolist()]
    return [Query(user, profile, item, row) for item, row in zip(items, found, strict=True)]


def _items(query: Query) -> Choice:
    items = [query.user.history[place] for place in query.places]
    texts = tuple(item_text(item.query, item.response) for item in items)
    return Choice(query.user.user, query.item.query, texts)


def _texts(answers: Sequence[Answer]) -> tuple[str, ...]:
    """Returns the distinct generated texts, in order."""
    return tuple(dict.fromkeys(answer.generated or "" for answer in answers))


def _depth(run: Run) -> int:
    return max(_ITEMS, 2 * run.plan.retrieved_items)
