"""The base stage: fits the base model to users who are not targets, once per study."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from milp_search.adapters.base_model import BaseModel, as_base_model, load_base_model
from milp_search.adapters.encoder_trainer import EncoderTrainer
from milp_search.adapters.export import save_adapter
from milp_search.adapters.jobs import Example, TrainJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.quantised import is_quantised
from milp_search.core.errors import ModelError
from milp_search.core.plan import AdapterPlan
from milp_search.core.private_files import keep_private
from milp_search.core.settings import TrainingSettings

BaseTraining = Literal["lora", "full"]
_TASK_RANK = 8  # OPPU: the task LoRA has r = 8, alpha = 8


def fit_base(
    base: BaseModel,
    examples: Sequence[Example],
    settings: TrainingSettings,
    seed: int,
    folder: Path,
    choices: Sequence[str] = (),
) -> None:
    """Trains the base on the examples and writes the result, complete or not at all.

    `choices` are what an answer may be, for an encoder. `full` writes the whole model as a folder
    that `from_pretrained` reads; `lora` writes a PEFT folder, to be merged at loading. The base in
    memory is changed by `full`: load it anew.

    Raises ModelError if the base's weights are quantised.

    Source: LoGo, App. B.2; OPPU's task adapter.
    """
    if is_quantised(base.model.config):
        raise ModelError(
            f"the weights of base model {base.name!r} are quantised: they can neither be trained "
            "nor merged with a LoRA",
            remedy="Set training.base_training to none, or use the model's whole weights.",
        )
    settings = replace(settings, learning_rate=settings.base_learning_rate)
    trainer = (
        EncoderTrainer(base, settings, choices) if base.masked else PeftTrainer(base, settings)
    )
    job = TrainJob(
        "base", tuple(examples), _task_plan(base), seed, epochs=settings.base_epochs, shuffle=True
    )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    if settings.base_training == "full":
        dtype = base.model.dtype
        # Most steps are too small for bfloat16: weights in it would not move.
        base.model.float().requires_grad_(True)
        trainer.learn(job, list(base.model.parameters()))
        base.model.requires_grad_(False).to(dtype)
        base.model.save_pretrained(partial, safe_serialization=True)
        base.tokenizer.save_pretrained(partial)
    else:
        adapter = trainer.train([job])[0]
        save_adapter(partial, adapter, base.shape, base.name, masked=base.masked)
    keep_private(partial)
    partial.rename(folder)


def load_fitted_base(
    base: BaseModel, mode: BaseTraining, folder: Path, *, trust_remote_code: bool = False
) -> BaseModel:
    """Returns the base that `fit_base` wrote; a task LoRA is merged into the base given."""
    if mode == "full":
        fitted = load_base_model(
            str(folder), device=str(base.device), trust_remote_code=trust_remote_code
        )
        return replace(fitted, name=base.name)
    merge_task_adapter(base, folder)
    return as_base_model(base.name, base.model, base.tokenizer)


def merge_task_adapter(base: BaseModel, folder: Path) -> None:
    """Adds a task LoRA's B A to the base's weights, in place (alpha = r, so its scale is 1)."""
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, b in tensors.items():
        if ".lora_B." in name:
            path = name.removeprefix("base_model.model.").split(".lora_B.")[0]
            layer: Any = base.model.get_submodule(path)
            delta = (b @ tensors[name.replace(".lora_B.", ".lora_A.")]).to(layer.weight)
            # Conv1D (GPT-2) keeps its weights transposed.
            with torch.no_grad():
                layer.weight += delta.T if isinstance(layer, Conv1D) else delta


def _task_plan(base: BaseModel) -> AdapterPlan:
    return AdapterPlan((_TASK_RANK,) * base.shape.layers, 1.0, "q_v")
