"""Loads a causal language model, frozen, with its tokenizer and shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from milp_search.adapters.shape import model_shape
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import ModelShape

EMBEDDED = "embedded"
_EMBEDDED_FOLDER = Path(__file__).parent / "embedded"


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A frozen language model.

    Attributes:
        name: What the user called it.
        model: The transformer, in evaluation mode, without gradients.
        tokenizer: Its tokenizer, with a padding token.
        shape: Its layers and linear maps.
        device: Where it lies.
        fingerprint: 16 hex digits over configuration and weights.
    """

    name: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    shape: ModelShape
    device: torch.device
    fingerprint: str


def load_base_model(
    name: str = EMBEDDED, *, device: str = "auto", trust_remote_code: bool = False
) -> BaseModel:
    """Returns the model by hub name, folder, or `embedded`.

    On CUDA the base is bfloat16, on the CPU float32; adapters are float32 on both.

    Raises:
        ModelError: The folder or name cannot be read as a causal language model.
    """
    place = resolve_device(device)
    source = str(_EMBEDDED_FOLDER) if name == EMBEDDED else name
    transformers_logging.disable_progress_bar()
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    tokenizer = _read(AutoTokenizer, name, source, trust_remote_code)
    model = _read(
        AutoModelForCausalLM, name, source, trust_remote_code, dtype=dtype, use_safetensors=True
    )
    return as_base_model(name, model.to(place), tokenizer)


def as_base_model(name: str, model: Any, tokenizer: Any) -> BaseModel:
    """Returns a model that is in memory already, frozen, as a base model."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False).eval()
    return BaseModel(
        name, model, tokenizer, model_shape(model), model.device, model_fingerprint(model)
    )


def read_shape(name: str, *, trust_remote_code: bool = False) -> ModelShape:
    """Returns a model's shape from its configuration alone, without reading weights."""
    source = str(_EMBEDDED_FOLDER) if name == EMBEDDED else name
    config = _read(AutoConfig, name, source, trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model_shape(model)


def resolve_device(device: str) -> torch.device:
    """Returns the device by name; `auto` is CUDA where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ModelError(
            f"unknown device {device!r}", remedy="Use auto, cpu, cuda or cuda:N."
        ) from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda was asked for, but this machine has no CUDA device")
    return place


def model_fingerprint(model: Any) -> str:
    """Returns 16 hex digits over configuration and weights, equal for equal models."""
    digest = hashlib.sha256(model.config.to_json_string(use_diff=False).encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        # Sums see every weight and cost seconds even on billions of them.
        sums = (flat.sum(dtype=torch.float64), flat.abs().sum(dtype=torch.float64))
        digest.update(f"{name} {tuple(tensor.shape)} {sums[0]:.10e} {sums[1]:.10e}".encode())
    return digest.hexdigest()[:16]


def _read(reader: Any, name: str, source: str, trust_remote_code: bool, **options: Any) -> Any:
    try:
        return reader.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # transformers raises many kinds; each means "not readable"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot read base model {name!r}: {reason}",
            remedy="Give a folder with config.json, tokenizer files and safetensors weights, "
            "a model name of the hub, or 'embedded'.",
        ) from error
