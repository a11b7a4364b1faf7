"""Personalises a model that can only be asked: by what stands in its prompts.

Source: LoGo, appendix C; the rows of its Table 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from milp_search.adapters.text_embedding import tfidf_embedding, tfidf_vectors
from milp_search.core.chat import ChatModel, ChatRequest, Message, counted_tokens
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.core.records import (
    Interaction,
    PersonalizationTask,
    Prediction,
    Predictions,
    UserTask,
)
from milp_search.personalize.chat_memories import (
    PROMPT_CHARACTERS,
    Memories,
    entry_texts,
    evolving_memories,
    personal_memories,
)
from milp_search.personalize.chat_prompts import Prompts, fenced
from milp_search.personalize.communities import communities, profile_vectors
from milp_search.personalize.retrieval import held_out_rankings, random_places
from milp_search.personalize.topics import topic_centres, training_responses, with_topics


@dataclass(frozen=True)
class ChatRun:
    """One evaluation of a plan with a chat model.

    Attributes:
        task: The population; only targets' training histories get into prompts.
        plan: What stands in the prompts.
        model: Answers.
        prompts: What it is asked with.
        max_new_tokens: The most tokens of an answer to a query.
        seed: Seed of k-means and of random items.
    """

    task: PersonalizationTask
    plan: TrialPlan
    model: ChatModel
    prompts: Prompts
    max_new_tokens: int
    seed: int


def chat_predictions(
    run: ChatRun, queries: Sequence[Sequence[Interaction]], *, topics: bool = False
) -> Predictions:
    """Returns what the model answers to each target's queries, which are in the task's order.

    Such a model tells no likelihoods: losses are NaN.

    Args:
        run: What is evaluated.
        queries: Of each target.
        topics: Whether answers are given their topics, in a task of texts.

    Returns:
        The predictions, with what was asked for beside them.
    """
    memories = chat_memories(run)
    asked = [
        (item, answer_request(run, memories, user, item, row))
        for user, own in zip(run.task.targets, queries, strict=True)
        for item, row in zip(own, _rankings(run, user, own).tolist(), strict=True)
    ]
    replies = run.model.ask([request for _, request in asked])
    items = [
        Prediction(
            item.user, item.query, item.response, reply.text.strip(), math.nan,
            reply.completion_tokens, used_tokens=counted_tokens([reply]),
        )
        for (item, _), reply in zip(asked, replies, strict=True)
    ]  # fmt: skip
    histories = {user.user: user.history for user in run.task.targets}
    share = None if memories.tokens is None else memories.tokens / max(len(items), 1)
    found = Predictions(tuple(items), run.task, histories, memory_share=share)
    if topics and run.task.kind == "text":
        responses = training_responses(run.task.targets)
        embed = tfidf_embedding(responses)  # there is no base model to embed with
        found = with_topics(found, embed, topic_centres(embed(responses)))
    return found


def tplp_predictions(run: ChatRun, queries: Sequence[Sequence[Interaction]]) -> Predictions:
    """Returns what the model answers with each user's whole history before the query (TpLP).

    Of a long history the latest part, as much as goes into one prompt.

    Source: MiLP, section 3.2 (the text-prompt baseline).
    """
    plain = replace(run, plan=TrialPlan(run.plan.method, AdapterPlan(()), 0, 0, 0))
    asked = [
        (item, answer_request(plain, Memories(), user, item, _latest(user, run.prompts)))
        for user, own in zip(run.task.targets, queries, strict=True)
        for item in own
    ]
    replies = run.model.ask([request for _, request in asked])
    items = tuple(
        Prediction(item.user, item.query, item.response, reply.text.strip(), math.nan, 0)
        for (item, _), reply in zip(asked, replies, strict=True)
    )
    return Predictions(items, run.task)


def _latest(user: UserTask, prompts: Prompts) -> list[int]:
    """Returns the places of a user's latest entries, as many as go into one prompt."""
    places, left = [], PROMPT_CHARACTERS
    for place, text in reversed([*enumerate(entry_texts(user.history, prompts))]):
        left -= len(text)
        if left < 0:
            break
        places.append(place)
    return places


def chat_memories(run: ChatRun) -> Memories:
    """Returns the notes and knowledge that the plan wants in prompts."""
    plan, users = run.plan, run.task.targets
    if plan.time_splits > 0:
        groups = [[users[place] for place in group] for group in _groups(run)]
        return evolving_memories(
            groups, plan.time_splits, plan.summary_lines, run.model, run.prompts
        )
    if plan.profile:
        return personal_memories(users, plan.summary_lines, run.model, run.prompts)
    return Memories()


def answer_request(
    run: ChatRun, memories: Memories, user: UserTask, item: Interaction, row: Sequence[int]
) -> ChatRequest:
    """Returns the question for one query of a user, with the items of `row` (-1 is none)."""
    prompts, plan = run.prompts, run.plan
    earlier = [user.history[place] for place in sorted(row) if place >= 0]
    notes = memories.personal.get(user.user, "") if plan.profile else ""
    values = {
        "form": _form(run),
        "personal": prompts.filled("personal", notes=fenced(notes)) if notes else "",
        "entries": prompts.filled("entries", entries="\n".join(entry_texts(earlier, prompts)))
        if earlier
        else "",
        "query": fenced(item.query),
    }
    if plan.time_splits > 0:
        knowledge = fenced(memories.group.get(user.user, ""))
        text = prompts.filled("mediator", knowledge=knowledge, **values)
    else:
        text = prompts.filled("answer", **values)
    return ChatRequest((Message("user", text),), max_tokens=run.max_new_tokens)


def _groups(run: ChatRun) -> list[list[int]]:
    # There is no base model to embed with.
    vectors = profile_vectors(run.task.targets, tfidf_vectors)
    return communities(vectors, run.plan.communities, run.seed)


def _rankings(run: ChatRun, user: UserTask, queries: Sequence[Interaction]) -> np.ndarray:
    count = run.plan.retrieved_items
    if run.plan.retrieval == "random":
        return random_places([len(user.history)] * len(queries), count, run.seed, user.user)
    return held_out_rankings(user.history, queries, count)


def _form(run: ChatRun) -> str:
    if not run.task.choices:
        return run.prompts.filled("form_text")
    choices = ", ".join(fenced(choice) for choice in run.task.choices)
    return run.prompts.filled("form_choice", choices=choices)
