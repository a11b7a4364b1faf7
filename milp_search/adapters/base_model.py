"""Loads a language model, causal or masked, frozen, with its tokenizer and shape."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from milp_search.adapters.model_files import files_digest, require_plain_config, require_safetensors
from milp_search.adapters.quantised import loading_options
from milp_search.adapters.shape import model_shape
from milp_search.adapters.supported import is_encoder, own_code, require_supported
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import ModelShape
from milp_search.core.settings import BasePrecision

EMBEDDED = "embedded"
_EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
# Entries of a configuration that say where a model was read and by what, not what it is.
_NOT_THE_MODEL = ("_name_or_path", "transformers_version")
# These count positions from after the padding token's id, so that the table has some to spare.
_POSITIONS_AFTER_PADDING = ("camembert", "roberta", "xlm-roberta")


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

    @property
    def masked(self) -> bool:
        """Whether it fills in masked tokens (an encoder) instead of continuing a text."""
        return is_encoder(self.model.config)


def load_base_model(
    name: str = EMBEDDED,
    *,
    device: str = "auto",
    precision: BasePrecision = "auto",
    trust_remote_code: bool = False,
) -> BaseModel:
    """Returns the model by hub name, folder, or `embedded`.

    On CUDA the base is bfloat16, on the CPU float32, unless its weights are to be quantised;
    adapters are float32 always. Code that comes with a model is run where it is trusted only.
    Raises ModelError if the folder or name cannot be read as a whole language model, is of a kind
    that cannot be searched, or cannot be quantised here.
    """
    place = resolve_device(device)
    quantising = loading_options(precision, place)
    kind = _kind(read_config(name, trust_remote_code=trust_remote_code))
    require_weights(name)
    transformers_logging.disable_progress_bar()
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    tokenizer = read_tokenizer(name, trust_remote_code=trust_remote_code)
    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    model, loading = _read(kind, name, trust_remote_code, **options, **quantising)
    if loading["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise _unreadable(name, f"no weights for {sorted(loading['missing_keys'])[0]}")
    # Quantised weights are made where they stay.
    return as_base_model(name, model if quantising else model.to(place), tokenizer)


def as_base_model(name: str, model: Any, tokenizer: Any) -> BaseModel:
    """Returns a model that is in memory already, frozen, as a base model.

    A tokenizer without padding token pads with its end token. Raises ModelError if one has no end
    token, or that of an encoder not all of its special tokens.
    """
    if is_encoder(model.config):
        _require_encoder_tokens(name, tokenizer)
    elif tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of base model {name!r} has no end token",
            remedy="Set eos_token in its tokenizer_config.json: answers have to end somewhere.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False).eval()
    return BaseModel(
        name, model, tokenizer, model_shape(model), model.device, model_fingerprint(model)
    )


def _require_encoder_tokens(name: str, tokenizer: Any) -> None:
    for token in ("cls_token", "sep_token", "mask_token", "pad_token"):
        if getattr(tokenizer, f"{token}_id") is None:
            raise ModelError(
                f"the tokenizer of base model {name!r} has no {token}, which an encoder needs",
                remedy=f"Set {token} in its tokenizer_config.json.",
            )


def require_positions(name: str, config: Any, length: int) -> None:
    """Raises ModelError if a base model has no positions for texts of so many tokens."""
    positions = longest_text(config)
    if positions is not None and length > positions:
        raise ModelError(
            f"expected max_length to be at most {positions}, the positions of base model "
            f"{name!r}, got {length}",
            remedy=f"Set training.max_length to {positions} or less.",
        )


def longest_text(config: Any) -> int | None:
    """Returns how many tokens a model has positions for, None where it tells no limit."""
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is None or config.model_type not in _POSITIONS_AFTER_PADDING:
        return positions
    return positions - int(config.pad_token_id) - 1


def read_shape(name: str, *, trust_remote_code: bool = False) -> ModelShape:
    """Returns a model's shape from its configuration alone, without reading weights."""
    return model_shape(_without_weights(name, trust_remote_code))


def parameter_count(name: str, *, trust_remote_code: bool = False) -> int:
    """Returns how many parameters a model has, from its configuration alone."""
    return sum(weight.numel() for weight in _without_weights(name, trust_remote_code).parameters())


def read_config(name: str, *, trust_remote_code: bool = False) -> Any:
    """Returns a model's configuration, without reading weights.

    Raises ModelError if it is of a kind that cannot be searched.
    """
    with _readable(name):
        require_plain_config(name, _source(name))
    config = _read(AutoConfig, name, trust_remote_code)
    require_supported(name, config, trust_remote_code=trust_remote_code)
    return config


def require_weights(name: str) -> None:
    """Raises ModelError if a model's weights are there in a form only that can run code."""
    with _readable(name):
        require_safetensors(name, _source(name))


def base_digest(name: str) -> str | None:
    """Returns 16 hex digits over a model's files, equal for equal files wherever they lie.

    None where its weights are not found. Raises ModelError if a file cannot be read.
    """
    with _readable(name):
        return files_digest(_source(name))


def read_tokenizer(name: str, *, trust_remote_code: bool = False) -> Any:
    """Returns a model's tokenizer, as it is."""
    return _read(AutoTokenizer, name, trust_remote_code)


def resolve_device(device: str) -> torch.device:
    """Returns the device by name; `auto` is CUDA where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if re.fullmatch(r"cpu|cuda(:\d+)?", device) is None:
        raise ModelError(f"unknown device {device!r}", remedy="Use auto, cpu, cuda or cuda:N.")
    place = torch.device(device)
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {device} was asked for, but this machine has "
            f"{torch.cuda.device_count()} CUDA devices",
            remedy="Use auto or cpu.",
        )
    return place


def model_fingerprint(model: Any) -> str:
    """Returns 16 hex digits over configuration and weights, equal for equal models."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in _NOT_THE_MODEL}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        # Sums see every weight and cost seconds even on billions of them.
        sums = (flat.sum(dtype=torch.float64), flat.abs().sum(dtype=torch.float64))
        digest.update(f"{name} {tuple(tensor.shape)} {sums[0]:.10e} {sums[1]:.10e}".encode())
    return digest.hexdigest()[:16]


def text_fingerprint(base: BaseModel, reading: Sequence[Any] = ()) -> str:
    """Returns hex digits over the model and over what its tokenizer makes of texts.

    `reading` is what else decides how it reads a text; none is plain text, to be continued.
    """
    tokenizer = base.tokenizer
    rules = getattr(tokenizer, "backend_tokenizer", None)
    parts: list[Any] = [
        base.fingerprint,
        type(tokenizer).__name__ if rules is None else rules.to_str(),
        [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
    ]
    parts += reading
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _without_weights(name: str, trust_remote_code: bool) -> Any:
    config = read_config(name, trust_remote_code=trust_remote_code)
    with _readable(name), torch.device("meta"):
        return _kind(config).from_config(config, trust_remote_code=trust_remote_code)


def _kind(config: Any) -> Any:
    return AutoModelForMaskedLM if is_encoder(config) else AutoModelForCausalLM


def _source(name: str) -> str:
    return str(_EMBEDDED_FOLDER) if name == EMBEDDED else name


def _read(reader: Any, name: str, trust_remote_code: bool, **options: Any) -> Any:
    with _readable(name):
        return reader.from_pretrained(_source(name), trust_remote_code=trust_remote_code, **options)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what transformers raises into one message of ours."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds; each means "not readable"
        # So it asks for the consent that nobody gave.
        if isinstance(error, ValueError) and "trust_remote_code" in str(error):
            raise own_code(name) from error
        raise _unreadable(name, error) from error


def _unreadable(name: str, cause: Exception | str) -> ModelError:
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return ModelError(
        f"cannot read base model {name!r}: {reason}",
        remedy="Give a folder with config.json, tokenizer files and safetensors weights, "
        "a model name of the hub, or 'embedded'.",
    )
