"""UeLP: a user's history, encoded to embeddings, is a soft prompt of the frozen base."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from milp_search.adapters.jobs import Answer, TrainJob
from milp_search.adapters.soft_prompt import answer_softly, fit_encoder
from milp_search.adapters.text_embedding import text_embedding
from milp_search.core.records import Interaction
from milp_search.personalize.item_vectors import item_vectors, standardised
from milp_search.personalize.method import Run, Trained
from milp_search.personalize.reuse import run_held_out_examples, run_training_examples


def uelp(run: Run) -> Trained:
    """Returns no adapter; one encoder for all users turns a history into a soft prompt.

    The encoder is trained through the frozen base on all targets' training histories,
    `tuning_epochs` passes in random order; a training item is encoded from its user's items before
    it, a held-out query from its user's training history. The paper pretrains its encoder on the
    interactions and joins it to the base by cross-attention or as a soft prompt, with Perceiver
    units; here items are embedded as profiles are (LoGo, Eq. 5) instead of pretraining, and it is
    a soft prompt, for which no base has to be changed. Retrieved items and a profile text stand
    in the prompt where the plan says so, as in every method.

    Source: Ning et al. 2024 (User-LLM), as used in MiLP, section 3.2.
    """
    users = run.task.targets
    vectors = standardised(item_vectors(users, text_embedding(run.trainer)))
    histories = [torch.from_numpy(one) for one in vectors]
    job = TrainJob(
        key="uelp",
        examples=tuple(example for own in run_training_examples(run) for example in own),
        plan=run.plan.adapter,
        seed=run.seed,
        epochs=run.settings.tuning_epochs,
        shuffle=True,
    )
    before = [history[:place] for history in histories for place in range(len(history))]
    encoder = fit_encoder(run.trainer, job, before, run.checkpoints)

    def respond(queries: Sequence[Sequence[Interaction]], generate: bool) -> list[list[Answer]]:
        asked = run_held_out_examples(run, tuple(tuple(own) for own in queries))
        flat = [example for own in asked for example in own]
        pasts = [past for past, own in zip(histories, asked, strict=True) for _ in own]
        answers = iter(answer_softly(run.trainer, encoder, flat, pasts, generate=generate))
        return [[next(answers) for _ in own] for own in asked]

    return Trained({user.user: () for user in users}, respond)
