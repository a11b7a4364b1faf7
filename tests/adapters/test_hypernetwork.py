"""LoRA weights that a network makes of a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from adapters.making import EXAMPLES, gpt2, llama, mean_losses, same, weights
from milp_search.adapters.additions import added
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.hypernetwork import Hypernetwork, fit_hypernetwork
from milp_search.adapters.jobs import PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)
PLAN = AdapterPlan((2, 0, 3), 2.0)
JOB = TrainJob("p2p", EXAMPLES, PLAN, seed=1, epochs=2, shuffle=True)
BASE, WIDTH = llama(), 4
PROFILES = tuple(torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(7)))
bases = pytest.mark.parametrize("make", [llama, gpt2])
Make = Callable[[], BaseModel]


def trained(base: BaseModel = BASE, job: TrainJob = JOB) -> Hypernetwork:
    return fit_hypernetwork(PeftTrainer(base, SETTINGS), job, PROFILES)


def own_losses(base: BaseModel, network: Hypernetwork, profile: torch.Tensor) -> list[float]:
    """Returns each example's loss by the network's own forward pass, one row at a time."""
    with added(base, network.additions(profile.unsqueeze(0))):
        return mean_losses(base.model, base.tokenizer, EXAMPLES)


@bases
def test_untrained_it_is_the_base_model_exactly(make: Make) -> None:
    base = make()
    ids = torch.arange(30).reshape(3, 10)
    network = Hypernetwork(WIDTH, PLAN, base.shape, 0)
    with torch.no_grad():
        plain = base.model(ids).logits
        with added(base, network.additions(torch.stack(PROFILES[:3]))):
            assert torch.equal(base.model(ids).logits, plain)


def test_untrained_it_makes_one_fresh_adapter_for_all() -> None:
    network = Hypernetwork(WIDTH, PLAN, BASE.shape, 3)
    start = fresh_adapter("hypernetwork", PLAN, BASE.shape, 3)
    for profile in PROFILES:
        made = network.adapter("local:a", profile)
        assert (made.key, made.plan) == ("local:a", PLAN)
        assert made.tensors.keys() == start.tensors.keys()
        for path, (a, b) in made.tensors.items():
            assert torch.equal(a, start.tensors[path][0])
            assert torch.equal(b, start.tensors[path][1])


@bases
@pytest.mark.parametrize("maps", ["all", "q_v"])
def test_a_made_adapter_through_peft_answers_like_the_networks_own_forward(
    make: Make, maps: str
) -> None:
    base = make()
    plan = replace(PLAN, target_maps=maps)  # type: ignore[arg-type]
    network = trained(base, replace(JOB, plan=plan))
    jobs = [
        PredictJob(EXAMPLES, (network.adapter("k", profile),), generate=False)
        for profile in PROFILES[:2]
    ]
    answers = PeftTrainer(base, SETTINGS).predict(jobs)
    found = [[answer.loss for answer in one] for one in answers]
    for profile, losses in zip(PROFILES, found, strict=False):
        assert losses == pytest.approx(own_losses(base, network, profile), abs=1e-4)
    plain = mean_losses(base.model, base.tokenizer, EXAMPLES)
    assert found[0] != pytest.approx(plain, abs=1e-2)
    assert found[0] != pytest.approx(found[1], abs=1e-3)


def test_rows_of_one_pass_each_have_their_own_adapter() -> None:
    network, ids = trained(), torch.arange(30).reshape(3, 10)
    with torch.no_grad():
        with added(BASE, network.additions(torch.stack(PROFILES[:3]))):
            together = BASE.model(ids).logits
        for row, profile in enumerate(PROFILES[:3]):
            with added(BASE, network.additions(profile.unsqueeze(0))):
                alone = BASE.model(ids[row : row + 1]).logits[0]
            torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)


def test_a_made_adapter_has_the_size_of_the_plans() -> None:
    tensors = trained().adapter("k", PROFILES[0]).tensors
    numbers = sum(a.numel() + b.numel() for a, b in tensors.values())
    assert numbers == trainable_parameters(PLAN, BASE.shape.targets("all"))
    kinds = {(m.dtype, m.device.type, m.requires_grad) for pair in tensors.values() for m in pair}
    assert kinds == {(torch.float32, "cpu", False)}


def rewarded(network: Hypernetwork, examples: Sequence[int], profile: int) -> float:
    """Returns the mean loss of some examples under the LoRA of a profile."""
    losses = own_losses(BASE, network, PROFILES[profile])
    return sum(losses[place] for place in examples) / len(examples)


def test_it_learns_whose_text_is_whose() -> None:
    """Two users answer the same prompts with texts of their own; only the profile tells them."""
    job = replace(JOB, examples=(EXAMPLES[0], EXAMPLES[4]) * 2, epochs=25)
    profiles = [PROFILES[0], PROFILES[1]] * 2
    network = fit_hypernetwork(PeftTrainer(BASE, SETTINGS), job, profiles)
    untrained = Hypernetwork(WIDTH, PLAN, BASE.shape, 1)
    for own, other, example in ((0, 1, 0), (1, 0, 4)):
        assert rewarded(network, [example], own) < rewarded(untrained, [example], own) / 2
        assert rewarded(network, [example], own) < rewarded(network, [example], other)


def test_training_leaves_the_base_bit_for_bit_alone() -> None:
    before = weights(BASE.model)
    trained()
    assert same(weights(BASE.model), before)
    assert not any(p.requires_grad or p.grad is not None for p in BASE.model.parameters())
    assert not any(module._forward_hooks for module in BASE.model.modules())


def test_the_base_is_itself_again_where_something_raises() -> None:
    hooks = trained().additions(torch.stack(PROFILES[:1]))
    with pytest.raises(RuntimeError, match="stop"), added(BASE, hooks):
        raise RuntimeError("stop")
    lost = hooks | {"no.such.module": next(iter(hooks.values()))}
    with pytest.raises(AttributeError, match="no"), added(BASE, lost):
        pass
    assert not any(module._forward_hooks for module in BASE.model.modules())


def test_the_seed_decides_the_result_whatever_the_global_random_state() -> None:
    def numbers(seed: int) -> list[float]:
        made = trained(job=replace(JOB, seed=seed)).adapter("k", PROFILES[0])
        return [float(m.sum()) for pair in made.tensors.values() for m in pair]

    torch.manual_seed(1)
    first = numbers(0)
    torch.manual_seed(2)
    assert numbers(0) == first
    assert numbers(1) != first


def test_the_micro_batch_does_not_change_the_result() -> None:
    whole, parts = (
        fit_hypernetwork(PeftTrainer(BASE, settings), JOB, PROFILES).adapter("k", PROFILES[0])
        for settings in (SETTINGS, replace(SETTINGS, micro_batch=1))
    )
    for path, pair in whole.tensors.items():
        for one, other in zip(pair, parts.tensors[path], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_without_examples_it_stays_as_drawn() -> None:
    network = fit_hypernetwork(PeftTrainer(BASE, SETTINGS), replace(JOB, examples=()), ())
    assert not any(b.any() for _, b in network.adapter("k", torch.zeros(1)).tensors.values())
