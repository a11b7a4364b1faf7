"""Every family of causal language models trains, answers and is exported, not only Llama."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from adapters.families import FAMILIES, tiny_model
from adapters.making import EXAMPLES, mean_losses, same, weights
from milp_search.adapters.base_model import BaseModel, load_base_model, read_shape
from milp_search.adapters.encoding import encode, encode_prompt
from milp_search.adapters.export import save_adapter
from milp_search.adapters.jobs import Example, PredictJob, TrainJob
from milp_search.adapters.lora import attached
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT sees that GPT-2's Conv1D is transposed and sets its own flag right, with a warning.
    "ignore:fan_in_fan_out is set to False:UserWarning",
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)

SETTINGS = TrainingSettings(
    learning_rate=1e-2, batch_size=3, max_length=100, max_new_tokens=5, schedule="constant"
)
PLAN = AdapterPlan((2, 0, 3), 2.0)
JOB = TrainJob("local:a", EXAMPLES, PLAN, seed=1, epochs=4)


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest) -> BaseModel:
    return tiny_model(request.param)


def greedy(model: Any, prompt: tuple[int, ...], count: int, end: int) -> list[int]:
    """Returns the likeliest continuation by whole forward passes, without any cache."""
    ids = [*prompt]
    for _ in range(count):
        token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == end:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("target_maps", ["all", "q_v", "down"])
def test_lora_has_the_closed_forms_parameters(base: BaseModel, target_maps: Any) -> None:
    plan = replace(PLAN, target_maps=target_maps)
    with attached(base, [plan]):
        count = sum(
            weight.numel() for name, weight in base.model.named_parameters() if "lora_" in name
        )
    assert count == trainable_parameters(plan, base.shape.targets(target_maps)) > 0


def test_training_lowers_the_loss_and_leaves_the_base_alone(base: BaseModel) -> None:
    before = weights(base.model)
    trainer = PeftTrainer(base, SETTINGS)
    adapter = trainer.train([JOB])[0]
    first, *_, last = trainer.step_losses[0]
    assert last < first - 0.1
    assert same(weights(base.model), before)
    answers = trainer.predict([PredictJob(EXAMPLES, (adapter,), generate=False)])[0]
    bare = mean_losses(base.model, base.tokenizer, EXAMPLES)
    assert sum(answer.loss for answer in answers) < sum(bare) - 0.1


def test_losses_and_generations_do_not_depend_on_the_neighbours(base: BaseModel) -> None:
    trainer = PeftTrainer(base, SETTINGS)
    answers = trainer.predict([PredictJob(EXAMPLES)])[0]
    assert [answer.loss for answer in answers] == pytest.approx(
        mean_losses(base.model, base.tokenizer, EXAMPLES), abs=1e-4
    )
    for example, answer in zip(EXAMPLES, answers, strict=True):
        prompt = encode_prompt(base.tokenizer, example.prompt, 95).prompt
        with torch.no_grad():
            tokens = greedy(base.model, prompt, 5, base.tokenizer.eos_token_id)
        text = base.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.generated == text.strip()


def test_a_texts_vector_is_the_mean_of_its_last_hidden_states(base: BaseModel) -> None:
    row = encode(base.tokenizer, Example("ab cd", ""), 100)
    with torch.no_grad():
        ids = torch.tensor([[*row.prompt, *row.response]])
        states = base.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    vectors = PeftTrainer(base, SETTINGS).embed(["a rather long neighbour", "ab cd"])
    torch.testing.assert_close(vectors[1], states.mean(0), atol=1e-5, rtol=1e-4)


def test_peft_alone_loads_what_was_exported(base: BaseModel, tmp_path: Path) -> None:
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    trainer = PeftTrainer(base, SETTINGS)
    adapter = trainer.train([replace(JOB, epochs=1)])[0]
    save_adapter(tmp_path / "adapter", adapter, base.shape, str(tmp_path / "base"))
    expected = trainer.predict([PredictJob(EXAMPLES, (adapter,), generate=False)])[0]

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    losses = mean_losses(model, base.tokenizer, EXAMPLES)
    assert losses == pytest.approx([answer.loss for answer in expected], abs=1e-4)


def test_a_folder_of_the_family_is_read_as_a_base(base: BaseModel, tmp_path: Path) -> None:
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    assert read_shape(str(tmp_path)) == base.shape
    again = load_base_model(str(tmp_path), device="cpu")
    assert again.shape == base.shape
    assert same(weights(again.model), weights(base.model))
