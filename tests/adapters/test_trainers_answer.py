"""What every `AdapterTrainer` promises of its answers, checked on each of them."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from adapters.conftest import BASE, SETTINGS, Make
from adapters.making import EXAMPLES, mean_losses, response_losses
from milp_search.adapters.jobs import Adapter, Example, PredictJob, TrainJob
from milp_search.adapters.lora import attached, load_weights
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.plan import AdapterPlan


@cache
def stacks() -> list[tuple[Adapter, ...]]:
    """Returns stacks without, with one and with two adapters."""
    plans = [AdapterPlan((2, 0, 3), 2.0), AdapterPlan((0, 1, 1), 1.0, "q_v")]
    jobs = [TrainJob(f"local:{n}", EXAMPLES, plan, n, epochs=2) for n, plan in enumerate(plans)]
    one, other = PeftTrainer(BASE, SETTINGS).train(jobs)
    return [(), (one,), (other, one)]


def greedy(prompt: str) -> str:
    """Returns the greedy generation of one prompt by repeated whole forward passes."""
    tokenizer = BASE.tokenizer
    ids = tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
    size = len(ids)
    with torch.no_grad():
        for _ in range(SETTINGS.max_new_tokens):
            ids.append(int(BASE.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(ids[size:], skip_special_tokens=True)).strip()


def test_losses_and_generations_are_those_of_each_example_alone(make: Make) -> None:
    found = make().predict([PredictJob(EXAMPLES, stack) for stack in stacks()])
    for stack, answers in zip(stacks(), found, strict=True):
        with attached(BASE, [adapter.plan for adapter in stack]) as names:
            for name, adapter in zip(names, stack, strict=True):
                load_weights(BASE.model, name, adapter)
            losses = mean_losses(BASE.model, BASE.tokenizer, EXAMPLES)
            texts = [greedy(example.prompt) for example in EXAMPLES]
            counts = [len(response_losses(BASE.model, BASE.tokenizer, one)) for one in EXAMPLES]
        assert [answer.loss for answer in answers] == pytest.approx(losses, abs=1e-4)
        assert [answer.generated for answer in answers] == texts
        assert [answer.tokens for answer in answers] == counts


def test_without_generation_nothing_is_generated(make: Make) -> None:
    jobs = [PredictJob(EXAMPLES, stacks()[1], generate=generate) for generate in (False, True)]
    without, with_text = make().predict(jobs)
    assert {answer.generated for answer in without} == {None}
    assert None not in {answer.generated for answer in with_text}


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_answers_depend_neither_on_order_nor_on_neighbours(
    make: Make, order: tuple[int, ...]
) -> None:
    jobs = [PredictJob(EXAMPLES[n:], stack) for n, stack in enumerate(stacks())]
    together, trainer = make().predict([jobs[n] for n in order]), make()
    for n, answers in zip(order, together, strict=True):
        for mine, alone in zip(answers, trainer.predict([jobs[n]])[0], strict=True):
            assert mine.loss == pytest.approx(alone.loss, abs=1e-5)
            assert (mine.tokens, mine.generated) == (alone.tokens, alone.generated)


def test_a_generation_does_not_depend_on_the_reference(make: Make) -> None:
    prompt = "a prompt about as long as the limit"
    jobs = [PredictJob((Example(prompt, response),)) for response in ("a", "b" * 15, "c" * 99)]
    answers = make(max_length=20).predict(jobs)
    assert len({one[0].generated for one in answers}) == 1


def test_a_text_without_any_target_has_no_loss(make: Make) -> None:
    for examples in ((Example("", ""),), (Example("", ""), *EXAMPLES)):
        answer = make().predict([PredictJob(examples, stacks()[1])])[0][0]
        assert (answer.loss, answer.tokens) == (0.0, 0)


def test_a_vector_is_the_mean_last_hidden_state_of_text_and_end_token(make: Make) -> None:
    texts = ["ab", "a longer text", "", "ab"]
    vectors = make().embed(texts)
    assert (vectors.shape, vectors.dtype) == ((4, 32), torch.float32)
    for text, vector in zip(texts, vectors, strict=True):
        ids = [*BASE.tokenizer(text)["input_ids"], BASE.tokenizer.eos_token_id]
        with torch.no_grad():
            hidden = BASE.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(vector, hidden.mean(0), atol=1e-4, rtol=1e-4)
