"""Base models with 8- or 4-bit weights; what a GPU must show is marked so."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import BitsAndBytesConfig

from adapters.making import EXAMPLES, llama, model_of
from milp_search.adapters import quantised
from milp_search.adapters.base_fit import fit_base
from milp_search.adapters.base_model import load_base_model
from milp_search.adapters.jobs import PredictJob, TrainJob
from milp_search.adapters.lora import attached
from milp_search.adapters.packed.stack import frozen_stack
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.quantised import loading_options, require_quantising
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import BasePrecision, TrainingSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
PRECISIONS: tuple[BasePrecision, ...] = ("8bit", "4bit")


def install(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Makes it look as if just these libraries were installed."""
    monkeypatch.setattr(quantised, "find_spec", lambda name: name if name in libraries else None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "bitsandbytes", "accelerate")


def test_weights_stay_as_they_are_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert loading_options("auto", CPU) == {}
    require_quantising("auto", CPU)


@pytest.mark.parametrize("missing", ["bitsandbytes", "accelerate"])
def test_a_library_that_is_missing_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, *({"bitsandbytes", "accelerate"} - {missing}))
    with pytest.raises(ModelError, match=rf"8bit needs {missing}, which(.|\n)*pip install"):
        loading_options("8bit", CUDA)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_device_without_cuda_is_refused(precision: BasePrecision) -> None:
    with pytest.raises(ModelError, match=rf"{precision} needs a CUDA device, got cpu(.|\n)*auto"):
        load_base_model("embedded", device="cpu", precision=precision)


@pytest.mark.usefixtures("installed")
def test_the_weights_are_made_on_the_device_in_the_papers_formats() -> None:
    eight, four = (loading_options(precision, CUDA) for precision in PRECISIONS)
    assert eight["device_map"] == four["device_map"] == {"": CUDA}
    config: BitsAndBytesConfig = eight["quantization_config"]
    assert (config.load_in_8bit, config.load_in_4bit) == (True, False)
    config = four["quantization_config"]
    assert (config.load_in_8bit, config.load_in_4bit) == (False, True)
    # QLoRA, section 3: NormalFloat, double quantisation, bfloat16 for computing.
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == ("nf4", True)
    assert config.bnb_4bit_compute_dtype is torch.bfloat16


def test_a_quantised_base_is_not_packed() -> None:
    base = llama()
    base.model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    assert frozen_stack(base, 10) == "quantised weights"


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_quantised_base_has_no_base_stage(mode: Literal["lora", "full"], tmp_path: Path) -> None:
    base = llama()
    base.model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    settings = TrainingSettings(base_training=mode, max_length=100)
    with pytest.raises(ModelError, match=r"neither be trained(.|\n)*base_training to none"):
        fit_base(base, EXAMPLES, settings, 0, tmp_path / "base")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", PRECISIONS)
def test_lora_trains_on_quantised_weights(precision: BasePrecision, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    check_quantised(precision, "cuda", tmp_path)


def check_quantised(precision: BasePrecision, device: str, folder: Path) -> None:
    """Checks a quantised base from loading to answering with what it learned."""
    full = model_of("qwen2", hidden_size=64, intermediate_size=128)
    full.model.save_pretrained(folder)
    full.tokenizer.save_pretrained(folder)
    base = load_base_model(str(folder), device=device, precision=precision)
    assert base.shape == full.shape
    assert base.fingerprint != full.fingerprint
    again = load_base_model(str(folder), device=device, precision=precision)
    assert again.fingerprint == base.fingerprint

    plan = AdapterPlan((2, 0, 3), 2.0)
    with attached(base, [plan]):
        kinds = {type(base.model.get_submodule(f"model.layers.0.mlp.{name}_proj")).__module__
                 for name in ("gate", "up", "down")}  # fmt: skip
    assert kinds == {"peft.tuners.lora.bnb"}
    trainer = PeftTrainer(base, TrainingSettings(learning_rate=1e-2, batch_size=5, max_length=100))
    bare = trainer.predict([PredictJob(EXAMPLES)])[0]
    job = TrainJob("local:a", EXAMPLES, plan, seed=1, epochs=8)
    adapter = trainer.train([job])[0]
    assert trainer.step_losses[0][-1] < trainer.step_losses[0][0] - 0.2
    answers = trainer.predict([PredictJob(EXAMPLES, (adapter,))])[0]
    assert trainer.predict([PredictJob(EXAMPLES)])[0] == bare
    assert sum(a.loss for a in answers) < sum(a.loss for a in bare) - 1.0
    # The base with its weights rounded is nearly the base.
    exact = PeftTrainer(full, trainer.settings).predict([PredictJob(EXAMPLES)])[0]
    assert [a.loss for a in bare] == pytest.approx([a.loss for a in exact], rel=0.3)
