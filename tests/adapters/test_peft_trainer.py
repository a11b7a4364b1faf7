from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from adapters.making import EXAMPLES, gpt2, llama, mean_losses, response_losses, same, weights
from milp_search.adapters import job_by_job, peft_trainer, text_vectors
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.jobs import Adapter, Example, PredictJob, TrainJob
from milp_search.adapters.lora import attached, fresh_adapter, load_weights, parameters
from milp_search.adapters.peft_trainer import PeftTrainer, rate_factor, step_plan
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)
PLAN, OTHER = AdapterPlan((2, 0, 3), 2.0), AdapterPlan((0, 1, 1), 1.0, "q_v")
NONE = AdapterPlan((0, 0, 0))
JOB = TrainJob("local:a", EXAMPLES, PLAN, seed=1, epochs=2)
BASE = llama()
TRAINER = PeftTrainer(BASE, SETTINGS)


def equal(one: Adapter, other: Adapter) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(x, y)
        for path in one.tensors
        for x, y in zip(one.tensors[path], other.tensors[path], strict=True)
    )


def furthest(one: Adapter, other: Adapter) -> float:
    """Returns the largest difference of any two entries."""
    pairs = [(one.tensors[path], other.tensors[path]) for path in one.tensors]
    return max(float((x - y).abs().max()) for a, b in pairs for x, y in zip(a, b, strict=True))


@cache
def below() -> Adapter:
    """Returns a trained adapter to lie underneath others."""
    return TRAINER.train([replace(JOB, key="global:x", plan=OTHER, shuffle=True)])[0]


@cache
def mixed() -> tuple[TrainJob, ...]:
    """Returns jobs of every kind."""
    return (
        JOB,
        replace(JOB, key="local:b", examples=EXAMPLES[:2], shuffle=True),
        replace(JOB, key="local:c", below=(below(),)),
        replace(JOB, key="local:d", plan=OTHER, below=(below(),), steps=3, epochs=None),
        replace(JOB, key="local:e", plan=NONE, below=(below(),)),
        replace(JOB, key="local:f", examples=()),
    )


@cache
def alone(place: int) -> Adapter:
    """Returns what becomes of one of these jobs by itself."""
    return TRAINER.train([mixed()[place]])[0]


# --- training -------------------------------------------------------------------------------


def test_equal_jobs_give_equal_adapters_whatever_the_global_random_state() -> None:
    torch.manual_seed(123)
    assert equal(PeftTrainer(llama(), SETTINGS).train([JOB])[0], alone(0))


@settings(max_examples=8)
@given(order=st.permutations(range(6)), cut=st.integers(0, 6))
def test_an_adapter_depends_neither_on_order_nor_on_grouping(order: list[int], cut: int) -> None:
    parts = [[mixed()[i] for i in part] for part in (order[:cut], order[cut:])]
    trained = [adapter for part in parts for adapter in TRAINER.train(part)]
    assert all(equal(trained[place], alone(i)) for place, i in enumerate(order))


def test_training_and_answering_leave_the_base_bit_for_bit_alone() -> None:
    before = weights(BASE.model)
    adapters = TRAINER.train(mixed())
    TRAINER.predict([PredictJob(EXAMPLES, (below(), adapters[2]))])
    assert same(weights(BASE.model), before)
    assert not any(p.requires_grad or p.grad is not None for p in BASE.model.parameters())


def test_a_frozen_adapter_below_stays_as_it_is_and_matters() -> None:
    before = {path: (a.clone(), b.clone()) for path, (a, b) in below().tensors.items()}
    trained = TRAINER.train([mixed()[2]])[0]
    assert equal(below(), replace(below(), tensors=before))
    assert not equal(trained, TRAINER.train([replace(mixed()[2], below=())])[0])


def reference(job: TrainJob, base: Any) -> tuple[Adapter, list[float]]:
    """Trains by hand, one example at a time and unpadded; returns the losses of the steps too."""
    start = fresh_adapter(job.key, job.plan, base.shape, job.seed).tensors
    model = get_peft_model(
        base.model,
        LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=r".*layers\.[02]\.mlp\.(gate|up|down)_proj",
            rank_pattern={r"layers\.2\.mlp\.\w+": 3},
            alpha_pattern={r"layers\.2\.mlp\.\w+": 6},
        ),
    )
    layers = {path: base.model.get_submodule(path) for path in start}
    for path, layer in layers.items():
        layer.lora_A["default"].weight.data.copy_(start[path][0])
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=1e-4
    )
    batches = [job.examples[0:2], job.examples[2:4], job.examples[4:5]] * 2
    rates = [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]  # 10 % of 6 steps: one warm-up step
    losses = []
    for batch, rate in zip(batches, rates, strict=True):
        optimizer.param_groups[0]["lr"] = 1e-2 * rate
        tokens = torch.cat([response_losses(model, base.tokenizer, one) for one in batch])
        optimizer.zero_grad()
        tokens.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(tokens.detach().mean()))
    tensors = {
        path: (layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data)
        for path, layer in layers.items()
    }
    return Adapter(job.key, job.plan, tensors), losses


def test_training_equals_a_plain_loop_over_a_peft_model(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []

    def spy(model: Any, *batch: torch.Tensor) -> torch.Tensor:
        losses = token_losses(model, *batch)
        steps.append(float(losses.detach().sum() / (batch[2][:, 1:] != -100).sum()))
        return losses

    token_losses = peft_trainer.token_losses
    monkeypatch.setattr(peft_trainer, "token_losses", spy)
    trained = PeftTrainer(llama(), SETTINGS).train([JOB])[0]
    expected, losses = reference(JOB, llama())
    assert steps == pytest.approx(losses, abs=1e-4)
    assert furthest(trained, expected) < 1e-3


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_micro_batch_does_not_change_the_result(size: int) -> None:
    whole = replace(SETTINGS, batch_size=5)
    parts = replace(whole, micro_batch=size)
    one, other = (PeftTrainer(BASE, each).train([JOB])[0] for each in (whole, parts))
    assert furthest(one, other) < 1e-5


def test_two_loras_of_rank_r_equal_one_of_rank_2r() -> None:
    """FACTS: at equal scaling, from the same start, also after steps of AdamW."""
    double = AdapterPlan((4, 0, 0))
    start = fresh_adapter("k", double, BASE.shape, 0)
    pairs = [*start.tensors.items()]
    halves = [
        Adapter(
            "k", AdapterPlan((2, 0, 0)), {path: (a[part], b[:, part]) for path, (a, b) in pairs}
        )
        for part in (slice(0, 2), slice(2, 4))
    ]
    summed = TRAINER.train([replace(JOB, plan=double, start=start)])[0]
    with attached(BASE, [half.plan for half in halves]) as names:
        for name, half in zip(names, halves, strict=True):
            load_weights(BASE.model, name, half)
        both = [w for name in names for w in parameters(BASE.model, name, [*start.tensors])]
        for weight in both:
            weight.requires_grad_(True)
        TRAINER.learn(JOB, both)
        with torch.no_grad():
            losses = mean_losses(BASE.model, BASE.tokenizer, EXAMPLES)
    answers = TRAINER.predict([PredictJob(EXAMPLES, (summed,), generate=False)])[0]
    assert [answer.loss for answer in answers] == pytest.approx(losses, abs=1e-4)


def test_a_warm_start_goes_on_from_the_adapter_given() -> None:
    job = replace(JOB, start=alone(0), epochs=0)
    assert equal(TRAINER.train([job])[0], alone(0))
    further = TRAINER.train([replace(job, epochs=1)])[0]
    assert not equal(further, alone(0))
    assert not equal(further, TRAINER.train([replace(JOB, epochs=1)])[0])


def test_a_warm_start_leaves_the_adapter_given_alone() -> None:
    before = {path: (a.clone(), b.clone()) for path, (a, b) in alone(0).tensors.items()}
    TRAINER.train([replace(JOB, start=alone(0))])
    assert equal(alone(0), replace(alone(0), tensors=before))


def test_a_plan_without_rank_gives_an_adapter_without_tensors() -> None:
    adapter = TRAINER.train([replace(JOB, plan=NONE)])[0]
    assert (adapter.key, dict(adapter.tensors)) == ("local:a", {})


def test_without_examples_the_start_comes_back_and_answers_like_the_base() -> None:
    empty = TRAINER.train([replace(JOB, examples=())])[0]
    assert equal(empty, fresh_adapter(JOB.key, PLAN, BASE.shape, JOB.seed))
    answers = TRAINER.predict([PredictJob(EXAMPLES, (empty,)), PredictJob(EXAMPLES)])
    assert answers[0] == answers[1]


def test_training_lowers_the_loss_on_what_it_saw() -> None:
    job = replace(JOB, epochs=10)
    jobs = [
        PredictJob(EXAMPLES, stack, generate=False) for stack in ((), (TRAINER.train([job])[0],))
    ]
    before, after = (sum(a.loss for a in answers) for answers in TRAINER.predict(jobs))
    assert after < before - 0.5


# --- which examples a step sees -------------------------------------------------------------


def five(**changes: Any) -> TrainJob:
    return replace(TrainJob("k", EXAMPLES, PLAN, seed=0), **changes)


def test_epochs_are_cut_into_batches_in_the_order_given() -> None:
    assert step_plan(five(epochs=2), SETTINGS) == [[0, 1], [2, 3], [4]] * 2


def test_steps_cycle_over_the_examples() -> None:
    assert step_plan(five(steps=4), SETTINGS) == [[0, 1], [2, 3], [4], [0, 1]]


@pytest.mark.parametrize("change", [{"epochs": 0}, {"steps": 0}, {"epochs": 2, "examples": ()}])
def test_there_may_be_nothing_to_do(change: dict[str, Any]) -> None:
    assert step_plan(five(**change), SETTINGS) == []


@given(passes=st.integers(1, 4), seed=st.integers(0, 99), size=st.integers(1, 6))
def test_each_shuffled_pass_sees_every_example_once(passes: int, seed: int, size: int) -> None:
    plan = step_plan(
        five(epochs=passes, shuffle=True, seed=seed), replace(SETTINGS, batch_size=size)
    )
    seen = [place for step in plan for place in step]
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 5 * passes, 5))


def test_a_random_order_depends_on_pass_seed_and_key() -> None:
    def order(**changes: Any) -> list[list[int]]:
        many = tuple(Example("", str(i)) for i in range(40))
        return step_plan(
            five(examples=many, shuffle=True, **changes), replace(SETTINGS, batch_size=40)
        )

    first, second = order(epochs=2)
    assert (
        len({str(o) for o in (first, second, *order(epochs=1, seed=1), *order(epochs=1, key="j"))})
        == 4
    )
    assert order(epochs=1) == [first]


def test_the_rate_rises_over_the_warm_up_and_falls_to_one_last_step() -> None:
    settings = replace(SETTINGS, warmup=0.2)
    rates = [rate_factor(step, 10, settings) for step in range(11)]
    assert rates == pytest.approx([0.5, 1.0, *(n / 9 for n in range(8, -1, -1))])


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    settings = replace(SETTINGS, warmup=0.2, schedule="constant")
    assert [rate_factor(step, 10, settings) for step in range(10)] == [0.5, *[1.0] * 9]


# --- answering ------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [False, True], ids=["without start token", "with start token"])
def test_a_loss_is_the_mean_over_the_response_of_that_example_alone(start: bool) -> None:
    base = llama(start=start)
    answers = PeftTrainer(base, SETTINGS).predict([PredictJob(EXAMPLES, generate=False)])[0]
    expected = mean_losses(base.model, base.tokenizer, EXAMPLES)
    assert [answer.loss for answer in answers] == pytest.approx(expected, abs=1e-5)
    counts = [len(response_losses(base.model, base.tokenizer, one)) for one in EXAMPLES]
    assert [answer.tokens for answer in answers] == counts


def greedy(base: Any, example: Example) -> str:
    """Returns the greedy generation of one prompt by repeated whole forward passes."""
    tokenizer = base.tokenizer
    ids = tokenizer(example.prompt)["input_ids"] or [tokenizer.eos_token_id]
    size = len(ids)
    with torch.no_grad():
        for _ in range(SETTINGS.max_new_tokens):
            ids.append(int(base.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(ids[size:], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_generation_is_the_greedy_one_of_its_prompt_alone(make: Any) -> None:
    base = make()
    answers = PeftTrainer(base, SETTINGS).predict([PredictJob(EXAMPLES)])[0]
    assert [answer.generated for answer in answers] == [greedy(base, one) for one in EXAMPLES]


def test_a_generation_is_greedy_though_the_model_prefers_to_sample() -> None:
    base = llama()
    base.model.generation_config.update(do_sample=True, temperature=0.6, repetition_penalty=3.0)
    answers = PeftTrainer(base, SETTINGS).predict([PredictJob(EXAMPLES)])[0]
    assert [answer.generated for answer in answers] == [greedy(base, one) for one in EXAMPLES]


def test_a_generation_does_not_depend_on_the_reference() -> None:
    trainer = PeftTrainer(BASE, replace(SETTINGS, max_length=20))
    prompt = "a prompt about as long as the limit"
    jobs = [PredictJob((Example(prompt, response),)) for response in ("a", "b" * 15, "c" * 99)]
    assert len({answers[0].generated for answers in trainer.predict(jobs)}) == 1


def test_without_generation_nothing_is_generated() -> None:
    answers = TRAINER.predict([PredictJob(EXAMPLES, generate=False)])[0]
    assert [answer.generated for answer in answers] == [None] * 5


def test_answers_keep_the_order_of_examples_in_small_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = TRAINER.predict([PredictJob(EXAMPLES)])[0]
    monkeypatch.setattr(job_by_job, "_PREDICT_TOKENS", 1)  # one row in each batch
    single = TRAINER.predict([PredictJob(EXAMPLES)])[0]
    assert [a.generated for a in single] == [a.generated for a in whole]
    assert [a.loss for a in single] == pytest.approx([a.loss for a in whole], abs=1e-5)


@settings(max_examples=6)
@given(order=st.permutations(range(4)))
def test_answers_do_not_depend_on_the_order_of_jobs(order: list[int]) -> None:
    stacks: list[tuple[Adapter, ...]] = [(), (alone(0),), (below(), alone(2)), (alone(1),)]
    jobs = [PredictJob(EXAMPLES[:3], stack, generate=False) for stack in stacks]
    apart = [TRAINER.predict([job])[0] for job in jobs]
    assert TRAINER.predict([jobs[i] for i in order]) == [apart[i] for i in order]


def test_texts_longer_than_the_model_has_positions_are_refused() -> None:
    with pytest.raises(ModelError, match=r"at most 128(.|\n)*got 129(.|\n)*training.max_length"):
        PeftTrainer(gpt2(), replace(SETTINGS, max_length=129))


def test_no_queries_have_no_answers() -> None:
    assert TRAINER.predict([PredictJob(())]) == [[]]


# --- embedding ------------------------------------------------------------------------------


def test_a_vector_is_the_mean_last_hidden_state_of_text_and_end_token() -> None:
    texts = ["ab", "a longer text", "", "ab"]
    vectors = PeftTrainer(BASE, SETTINGS).embed(texts)
    for text, vector in zip(texts, vectors, strict=True):
        ids = [*BASE.tokenizer(text)["input_ids"], BASE.tokenizer.eos_token_id]
        with torch.no_grad():
            hidden = BASE.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(vector, hidden.mean(0), atol=1e-4, rtol=1e-4)


def test_a_text_met_before_keeps_its_vector() -> None:
    trainer = PeftTrainer(BASE, SETTINGS)
    first = trainer.embed(["ab", "cd"])
    again = trainer.embed(["new and longer", "cd", "ab"])
    assert torch.equal(first[0], again[2])
    assert torch.equal(first[1], again[1])


def test_the_oldest_embeddings_are_forgotten_beyond_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two vectors of 32 numbers.
    monkeypatch.setattr(text_vectors, "_KEPT_BYTES", 2 * 32 * 4)
    trainer, embedded = PeftTrainer(BASE, SETTINGS), []
    slow = trainer._whole

    def noted(text: str) -> Encoded:
        embedded.append(text)
        return slow(text)

    monkeypatch.setattr(trainer, "_whole", noted)
    first = trainer.embed(["ab", "cd", "ef"])
    again = trainer.embed(["ef", "cd", "ab"])
    assert embedded == ["ab", "cd", "ef", "ab"]
    torch.testing.assert_close(again, first.flip(0))
