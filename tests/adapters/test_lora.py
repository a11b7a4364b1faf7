from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from peft.tuners.lora import LoraModel

from adapters.making import gpt2, llama, same, weights
from milp_search.adapters.lora import attached, fresh_adapter, lora_config
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import trainable_parameters
from milp_search.core.plan import AdapterPlan

LLAMA, GPT2 = llama(), gpt2()
RANKS = st.tuples(*[st.integers(0, 5)] * 3)
MAPS = st.sampled_from(["all", "up", "down", "up_down", "q_v"])

pytestmark = pytest.mark.filterwarnings(
    # PEFT sees that GPT-2's Conv1D is transposed and sets its own flag right, with a warning.
    "ignore:fan_in_fan_out is set to False:UserWarning",
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)


@given(ranks=RANKS.filter(any), maps=MAPS, family=st.sampled_from(["llama", "gpt2"]))
def test_the_closed_form_counts_what_peft_trains(
    ranks: tuple[int, ...], maps: Any, family: str
) -> None:
    base = {"llama": LLAMA, "gpt2": GPT2}[family]
    plan = AdapterPlan(ranks, 2.0, maps)
    model = get_peft_model(deepcopy(base.model), lora_config(plan, base.shape))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == trainable_parameters(plan, base.shape.targets(maps))


@given(ranks=RANKS.filter(any), maps=MAPS)
def test_a_fresh_adapter_has_one_pair_per_map_of_an_active_layer(
    ranks: tuple[int, ...], maps: Any
) -> None:
    plan = AdapterPlan(ranks, 1.0, maps)
    adapter = fresh_adapter("k", plan, LLAMA.shape, 0)
    numbers = sum(a.numel() + b.numel() for a, b in adapter.tensors.values())
    assert numbers == trainable_parameters(plan, LLAMA.shape.targets(maps))
    assert all(not b.any() for _, b in adapter.tensors.values())


def test_a_fresh_a_is_kaiming_uniform_with_bound_one_over_root_d_in() -> None:
    adapter = fresh_adapter("k", AdapterPlan((64, 0, 0), 1.0, "down"), LLAMA.shape, 0)
    ((a, _),) = adapter.tensors.values()
    assert a.shape == (64, 48)
    assert float(a.abs().max()) == pytest.approx(48**-0.5, rel=0.01)
    assert float(a.var()) == pytest.approx(1 / (3 * 48), rel=0.1)


def test_the_start_of_a_layer_depends_on_seed_key_and_module_alone() -> None:
    one = fresh_adapter("k", AdapterPlan((2, 2, 2)), LLAMA.shape, 0).tensors
    few = fresh_adapter("k", AdapterPlan((0, 2, 0)), LLAMA.shape, 0).tensors
    path = "model.layers.1.mlp.up_proj"
    assert torch.equal(one[path][0], few[path][0])
    for key, seed in (("k", 1), ("j", 0)):
        other = fresh_adapter(key, AdapterPlan((2, 2, 2)), LLAMA.shape, seed).tensors
        assert not torch.equal(one[path][0], other[path][0])
    assert not torch.equal(one[path][0], one["model.layers.2.mlp.up_proj"][0])


def test_a_user_id_that_is_no_valid_unicode_still_has_a_start() -> None:
    fresh_adapter("local:\ud800", AdapterPlan((1, 0, 0)), LLAMA.shape, 0)


@pytest.mark.parametrize("base", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_nothing_of_lora_is_left_after_detaching(base: Any) -> None:
    before, attributes = weights(base.model), set(vars(base.model))
    with attached(base, [AdapterPlan((1, 2, 0)), AdapterPlan((0, 3, 3))]):
        assert not same(weights(base.model), before)
    assert same(weights(base.model), before)
    assert set(vars(base.model)) == attributes


def test_nothing_of_lora_is_left_where_attaching_fails_halfway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, inject = weights(LLAMA.model), LoraModel.inject_adapter

    def fail_at_the_second(self: Any, model: Any, name: str, *args: Any, **options: Any) -> None:
        inject(self, model, name, *args, **options)
        if name == "stack1":
            raise RuntimeError("out of memory")

    monkeypatch.setattr(LoraModel, "inject_adapter", fail_at_the_second)
    plan = AdapterPlan((1, 1, 1))
    with pytest.raises(RuntimeError, match="out of memory"), attached(LLAMA, [plan, plan]):
        pass
    assert same(weights(LLAMA.model), before)


def test_attached_adapters_are_frozen_and_all_active() -> None:
    with attached(
        LLAMA, [AdapterPlan((1, 1, 1)), AdapterPlan((0, 0, 0)), AdapterPlan((0, 2, 0))]
    ) as names:
        assert len(names) == 2
        assert not any(p.requires_grad for p in LLAMA.model.parameters())
        assert LLAMA.model.model.layers[1].mlp.up_proj.active_adapters == names


def test_adapters_are_float32_on_a_half_precision_base() -> None:
    base = llama()
    base.model.to(torch.bfloat16)
    with attached(base, [AdapterPlan((1, 1, 1)), AdapterPlan((0, 2, 0))]):
        kinds = {p.dtype for name, p in base.model.named_parameters() if "lora_" in name}
    assert kinds == {torch.float32}


def test_two_stacked_masks_of_a_deep_model_keep_their_own_layers() -> None:
    base = llama(layers=12)  # PEFT rewrites lists of 20 target modules and more
    first, second = (2,) * 12, (0, 3) * 6
    with attached(base, [AdapterPlan(first), AdapterPlan(second, 0.5)]) as (low, high):
        for layer, (a, b) in enumerate(zip(first, second, strict=True)):
            module = base.model.model.layers[layer].mlp.down_proj
            assert (module.r[low], module.r.get(high, 0)) == (a, b)
            assert module.scaling.get(high, 0.5) == 0.5


def test_a_plan_for_another_depth_is_refused() -> None:
    with pytest.raises(ModelError, match="plan has 2 layers, the base model 3"):
        lora_config(AdapterPlan((1, 1)), LLAMA.shape)


def test_a_plan_for_maps_the_model_lacks_is_refused() -> None:
    shape = LLAMA.shape.__class__(3, "model.layers", LLAMA.shape.targets("up"))
    with pytest.raises(ModelError, match="no linear maps for target_maps='down'"):
        lora_config(AdapterPlan((1, 1, 1), 1.0, "down"), shape)
