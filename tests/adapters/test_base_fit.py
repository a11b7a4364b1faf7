from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from adapters.making import EXAMPLES, gpt2, llama, mean_losses, same, weights
from milp_search.adapters import base_fit
from milp_search.adapters.base_fit import fit_base, load_fitted_base, merge_task_adapter
from milp_search.adapters.export import save_adapter
from milp_search.adapters.jobs import TrainJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

pytestmark = pytest.mark.filterwarnings(
    # PEFT sees that GPT-2's Conv1D is transposed and sets its own flag right, with a warning.
    "ignore:fan_in_fan_out is set to False:UserWarning",
    # PEFT 0.21 asks transformers by a name that transformers 5.23 is about to drop.
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)

Mode = Literal["lora", "full"]
SETTINGS = TrainingSettings(
    base_epochs=4, base_learning_rate=5e-3, batch_size=2, max_length=100, learning_rate=99.0
)


def fitted(make: Any, mode: Mode, folder: Path, seed: int = 0) -> Any:
    fit_base(make(), EXAMPLES, replace(SETTINGS, base_training=mode), seed, folder)
    return load_fitted_base(make(), mode, folder)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_fitted_base_knows_its_examples_better(make: Any, mode: Mode, tmp_path: Path) -> None:
    base, after = make(), fitted(make, mode, tmp_path / "base")
    before, now = (sum(mean_losses(b.model, b.tokenizer, EXAMPLES)) for b in (base, after))
    assert now < before - 0.5
    assert (after.name, after.shape) == (base.name, base.shape)
    assert after.fingerprint != base.fingerprint
    assert not any(p.requires_grad for p in after.model.parameters())


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_equal_fits_give_equal_bases_and_a_base_loads_the_same_twice(
    mode: Mode, tmp_path: Path
) -> None:
    one, other = (fitted(llama, mode, tmp_path / name) for name in "ab")
    again = load_fitted_base(llama(), mode, tmp_path / "a")
    assert same(weights(one.model), weights(other.model))
    assert same(weights(one.model), weights(again.model))
    assert one.fingerprint == other.fingerprint == again.fingerprint


def test_another_seed_gives_another_base(tmp_path: Path) -> None:
    one, other = (fitted(llama, "full", tmp_path / str(seed), seed) for seed in (0, 1))
    assert not same(weights(one.model), weights(other.model))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_broken_fit_leaves_no_folder_and_the_next_one_succeeds(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, base_training=mode)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(base_fit, "save_adapter", broken)
        patch.setattr(type(llama().model), "save_pretrained", broken)
        with pytest.raises(RuntimeError, match="disk full"):
            fit_base(llama(), EXAMPLES, settings, 0, tmp_path / "base")
    assert not (tmp_path / "base").exists()
    fit_base(llama(), EXAMPLES, settings, 0, tmp_path / "base")
    assert [file.name for file in tmp_path.iterdir()] == ["base"]


def test_a_whole_base_in_bfloat16_as_on_a_gpu_is_trained_in_float32(tmp_path: Path) -> None:
    # So small that bfloat16 would round nearly every step away.
    settings = replace(SETTINGS, base_training="full", base_learning_rate=1e-5)
    halved, whole = llama(), llama()
    halved.model.to(torch.bfloat16)
    whole.model.to(torch.bfloat16).float()
    for base, name in ((halved, "halved"), (whole, "whole")):
        fit_base(base, EXAMPLES, settings, 0, tmp_path / name)
    found, expected = (load_file(tmp_path / n / "model.safetensors") for n in ("halved", "whole"))
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16}
    assert same(found, {name: weight.bfloat16() for name, weight in expected.items()})


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_fit_without_examples_is_the_base_as_it_was(mode: Mode, tmp_path: Path) -> None:
    base = llama()
    fit_base(base, (), replace(SETTINGS, base_training=mode), 0, tmp_path / "base")
    again = load_fitted_base(llama(), mode, tmp_path / "base")
    assert same(weights(again.model), weights(llama().model))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_texts_longer_than_the_model_has_positions_are_refused(mode: Mode, tmp_path: Path) -> None:
    settings = replace(SETTINGS, base_training=mode, max_length=129)
    with pytest.raises(ModelError, match="at most 128"):
        fit_base(gpt2(), EXAMPLES, settings, 0, tmp_path / "base")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("maps", ["all", "q_v"])
def test_merging_equals_that_of_peft(make: Any, maps: Any, tmp_path: Path) -> None:
    trainer = PeftTrainer(make(), SETTINGS)
    trainer.settings = replace(SETTINGS, learning_rate=1e-2)
    job = TrainJob("base", EXAMPLES, AdapterPlan((2, 0, 3), 1.0, maps), 0, epochs=3)
    save_adapter(tmp_path, trainer.train([job])[0], trainer.base.shape, "tiny")
    ours, theirs = make(), make()
    merge_task_adapter(ours, tmp_path)
    merged = PeftModel.from_pretrained(theirs.model, tmp_path).merge_and_unload()
    expected = weights(merged)
    assert not same(weights(ours.model), weights(make().model))
    for name, weight in weights(ours.model).items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=0)


def test_a_square_conv1d_is_transposed_too(tmp_path: Path) -> None:
    """By its shape alone a square map does not show which way round it is kept."""
    base = gpt2()
    square = base.shape.maps[0].__class__("up", "attn.c_proj", 32, 32)
    shape = base.shape.__class__(3, base.shape.layers_path, (square,))
    trainer = PeftTrainer(replace(base, shape=shape), replace(SETTINGS, learning_rate=1e-2))
    job = TrainJob("base", EXAMPLES, AdapterPlan((2, 2, 2)), 0, epochs=2)
    save_adapter(tmp_path, trainer.train([job])[0], shape, "tiny")
    ours = gpt2()
    merge_task_adapter(ours, tmp_path)
    merged = PeftModel.from_pretrained(gpt2().model, tmp_path).merge_and_unload()
    path = "transformer.h.1.attn.c_proj.weight"
    torch.testing.assert_close(weights(ours.model)[path], weights(merged)[path])
