"""Loading a base model with 8- or 4-bit weights."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from milp_search.core.errors import ModelError
from milp_search.core.settings import BasePrecision


def loading_options(precision: BasePrecision, device: torch.device) -> dict[str, Any]:
    """Returns what `from_pretrained` is told in order to quantise the weights it reads.

    8 bit is LLM.int8(); 4 bit is NormalFloat with double quantisation, computing in bfloat16.
    Nothing where the weights stay as they are. Raises ModelError if they cannot be quantised here.

    Source: Dettmers et al. 2022 (LLM.int8()); Dettmers et al. 2023 (QLoRA), section 3.
    """
    if precision == "auto":
        return {}
    require_quantising(precision, device)
    if precision == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def require_quantising(precision: BasePrecision, device: torch.device) -> None:
    """Raises ModelError if weights of a precision cannot be made on a device of this machine."""
    if precision == "auto":
        return
    for library in ("bitsandbytes", "accelerate"):
        if find_spec(library) is None:
            raise ModelError(
                f"base_precision {precision} needs {library}, which is not installed",
                remedy=f"Install it (pip install {library}), or set base_precision to auto.",
            )
    if device.type != "cuda":
        raise ModelError(
            f"base_precision {precision} needs a CUDA device, got {device}",
            remedy="Run on a GPU (through Ray, dispatch.gpus_per_trial sets one aside), or set "
            "base_precision to auto.",
        )


def is_quantised(config: Any) -> bool:
    """Returns whether a model's configuration says that its weights are quantised."""
    return getattr(config, "quantization_config", None) is not None
