"""A user's past in front of the base's token embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from adapters.making import EXAMPLES, gpt2, llama, same, weights
from milp_search.adapters import job_by_job
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.jobs import Answer, Example, TrainJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.soft_prompt import answer_softly, fit_encoder
from milp_search.adapters.user_encoder import UserEncoder
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)
JOB = TrainJob("uelp", EXAMPLES, AdapterPlan((0, 0, 0)), seed=1, epochs=2, shuffle=True)
BASE, WIDTH, VECTORS = llama(), 4, 8
RANDOM = torch.Generator().manual_seed(3)
PASTS = tuple(torch.randn(count, WIDTH, generator=RANDOM) for count in (3, 0, 1, 5, 40))
TRAINER = PeftTrainer(BASE, SETTINGS)
bases = pytest.mark.parametrize("make", [llama, gpt2])
Make = Callable[[], BaseModel]


def trained(base: BaseModel = BASE, job: TrainJob = JOB) -> UserEncoder:
    return fit_encoder(PeftTrainer(base, SETTINGS), job, PASTS)


def answers(base: BaseModel, encoder: UserEncoder, **changes: int) -> list[Answer]:
    trainer = PeftTrainer(base, replace(SETTINGS, **changes))  # type: ignore[arg-type]
    return answer_softly(trainer, encoder, EXAMPLES, PASTS, generate=True)


def prompt_ids(base: BaseModel, example: Example) -> list[int]:
    return list(base.tokenizer(example.prompt)["input_ids"])


def reference(
    base: BaseModel, encoder: UserEncoder, example: Example, past: torch.Tensor
) -> tuple[float, str]:
    """Returns loss and greedy text of one example by whole, unpadded passes and concatenation."""
    embed, soft = base.model.get_input_embeddings(), encoder([past])[0]
    prompt = prompt_ids(base, example)
    response = [*base.tokenizer(example.response)["input_ids"], base.tokenizer.eos_token_id]

    def logits(ids: list[int]) -> torch.Tensor:
        inputs = torch.cat([soft, embed(torch.tensor(ids, dtype=torch.long))])
        found: torch.Tensor = base.model(inputs_embeds=inputs.unsqueeze(0)).logits[0]
        return found

    scores = logits(prompt + response)[VECTORS + len(prompt) - 1 : -1]
    ids = prompt or [base.tokenizer.eos_token_id]
    size = len(ids)
    while len(ids) < size + SETTINGS.max_new_tokens:
        ids = [*ids, int(logits(ids)[-1].argmax())]
        if ids[-1] == base.tokenizer.eos_token_id:
            break
    text = str(base.tokenizer.decode(ids[size:], skip_special_tokens=True)).strip()
    return float(cross_entropy(scores, torch.tensor(response))), text


@bases
def test_a_loss_and_a_generation_are_those_of_the_row_alone_and_unpadded(make: Make) -> None:
    base = make()
    encoder = trained(base)
    found = answers(base, encoder)
    with torch.no_grad():
        expected = [reference(base, encoder, *pair) for pair in zip(EXAMPLES, PASTS, strict=True)]
    assert [one.loss for one in found] == pytest.approx([loss for loss, _ in expected], abs=1e-4)
    assert [one.generated for one in found] == [text for _, text in expected]
    assert [one.tokens for one in found] == [len(one.response) + 1 for one in EXAMPLES]


def test_answers_keep_their_order_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = trained()
    whole = answers(BASE, encoder)
    monkeypatch.setattr(job_by_job, "_PREDICT_TOKENS", 1)  # one row in each batch
    single = answers(BASE, encoder)
    assert [a.generated for a in single] == [a.generated for a in whole]
    assert [a.loss for a in single] == pytest.approx([a.loss for a in whole], abs=1e-5)


def test_without_generation_nothing_is_generated() -> None:
    found = answer_softly(TRAINER, trained(), EXAMPLES, PASTS, generate=False)
    assert {one.generated for one in found} == {None}


def test_a_long_text_and_its_soft_prompt_fill_all_positions_of_the_base() -> None:
    base = gpt2()
    trainer = PeftTrainer(base, replace(SETTINGS, max_length=128))
    long = tuple(Example("p" * 300, "r" * size) for size in (3, 300))
    encoder = fit_encoder(trainer, replace(JOB, examples=long), PASTS[:2])
    found = answer_softly(trainer, encoder, long, PASTS[:2], generate=True)
    assert [one.tokens for one in found] == [4, 128 - VECTORS]


@pytest.mark.parametrize("length", [2, 20])
def test_a_short_window_has_a_shorter_soft_prompt(length: int) -> None:
    trainer = PeftTrainer(BASE, replace(SETTINGS, max_length=length))
    encoder = fit_encoder(trainer, JOB, PASTS)
    assert encoder([PASTS[0]]).shape == (1, max(length // 8, 1), 32)
    found = answer_softly(trainer, encoder, EXAMPLES, PASTS, generate=True)
    assert all(0 < one.loss < 100 for one in found)


def test_untrained_all_users_have_one_soft_prompt_of_the_bases_own_embeddings() -> None:
    soft = fit_encoder(TRAINER, replace(JOB, epochs=0), PASTS)(PASTS)
    known = BASE.model.get_input_embeddings().weight
    assert all(any(torch.equal(vector, token) for token in known) for vector in soft[0])
    assert torch.equal(soft, soft[:1].expand(len(PASTS), VECTORS, -1))


def test_neither_neighbours_nor_their_number_change_a_soft_prompt() -> None:
    encoder = trained()
    together = encoder(PASTS)
    for place, past in enumerate(PASTS):
        torch.testing.assert_close(together[place], encoder([past])[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], together[3], atol=1e-3)


def test_the_order_of_a_past_counts_and_only_its_latest_items() -> None:
    encoder, past = trained(), PASTS[4]
    soft = encoder([past])
    assert not torch.allclose(encoder([past.flip(0)]), soft, atol=1e-4)
    assert torch.equal(encoder([past[8:]]), soft)
    assert not torch.equal(encoder([past[9:]]), soft)


def test_it_learns_whose_text_is_whose() -> None:
    """Two users answer the same prompt with texts of their own; only the past tells them."""
    pair = (Example("ab cd", " xyz"), Example("ab cd", " uvw"))
    pasts = (PASTS[0], PASTS[3])
    trainer = PeftTrainer(BASE, replace(SETTINGS, learning_rate=3e-3, batch_size=4))
    jobs = [replace(JOB, examples=pair * 2, epochs=epochs) for epochs in (0, 80)]
    fresh, learnt = (fit_encoder(trainer, job, pasts * 2) for job in jobs)

    def losses(encoder: UserEncoder, pasts: tuple[torch.Tensor, ...]) -> list[float]:
        found = answer_softly(trainer, encoder, pair, pasts, generate=False)
        return [one.loss for one in found]

    before, own = losses(fresh, pasts), losses(learnt, pasts)
    others = losses(learnt, pasts[::-1])
    for first, mine, other in zip(before, own, others, strict=True):
        assert mine < first - 1.5
        assert mine < other - 1


def test_training_and_answering_leave_the_base_bit_for_bit_alone() -> None:
    before = weights(BASE.model)
    answers(BASE, trained())
    assert same(weights(BASE.model), before)
    assert not any(p.requires_grad or p.grad is not None for p in BASE.model.parameters())


def test_the_seed_decides_the_result_whatever_the_global_random_state() -> None:
    torch.manual_seed(1)
    first = trained()(PASTS)
    torch.manual_seed(2)
    assert torch.equal(trained()(PASTS), first)
    assert not torch.equal(trained(job=replace(JOB, seed=2))(PASTS), first)


def test_without_examples_it_stays_as_drawn_and_answers() -> None:
    encoder = fit_encoder(TRAINER, replace(JOB, examples=()), ())
    (found,) = answer_softly(TRAINER, encoder, EXAMPLES[:1], [torch.zeros(0, 1)], generate=True)
    assert found.tokens == 5
    assert answer_softly(TRAINER, encoder, (), (), generate=True) == []


def test_of_a_past_no_more_is_kept_than_the_encoder_reads(tmp_path: Path) -> None:
    """The 40 items of the last past and the latest 32 of them are one checkpoint."""
    checkpoints = Checkpoints.open(tmp_path, "base", None)
    first = fit_encoder(TRAINER, JOB, PASTS, checkpoints)
    latest = [past[-32:] for past in PASTS]
    again = fit_encoder(TRAINER, JOB, latest, checkpoints)
    assert torch.equal(first(PASTS), again(PASTS))
    assert len([*(tmp_path / "networks").iterdir()]) == 1
