"""What a base model's files say, looked at before anything is built of them or run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from milp_search.core.errors import ModelError
from milp_search.core.model_shape import MAX_LAYERS

# ours: the longest known, with a name for each of 150,000 classes, are below 10 MiB.
_MAX_CONFIG_MIB = 32
# ours: no size, length or token id is larger; what is built for one that is fills the memory.
_MAX_NUMBER = 2**31

# What decides a model's answers, beside its weights.
_READ = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

_LAYER_COUNT = re.compile(r"(\w+_)?layers?")


def require_plain_config(name: str, source: str) -> None:
    """Refuses a configuration that would be built for ever.

    Args:
        name: What the user called the model.
        source: Its folder or hub name.

    Raises:
        ModelError: A number in it is beyond all bounds, or the file is.
    """
    file = Path(source) / "config.json"
    if file.is_file() and file.stat().st_size > _MAX_CONFIG_MIB * 2**20:
        raise _no_config(name, f"a file of at most {_MAX_CONFIG_MIB} MiB", "a larger one")
    for key, number in _whole_numbers(PreTrainedConfig.get_config_dict(source)[0]):
        if _LAYER_COUNT.fullmatch(key) and number > MAX_LAYERS:
            raise _no_config(name, f"{key} of at most {MAX_LAYERS}", number)
        if abs(number) > _MAX_NUMBER:
            raise _no_config(name, f"{key} of at most {_MAX_NUMBER}", number)


def require_safetensors(name: str, source: str) -> None:
    """Refuses weights that reading could run code for, and files of adapters among them.

    transformers would also read pickled weights that an index of safetensors names, or that
    belong to an adapter in the same folder.

    Args:
        name: What the user called the model.
        source: Its folder or hub name.

    Raises:
        ModelError: There are such weights.
    """
    if find_adapter_config_file(source) is not None:
        raise ModelError(
            f"base model {name!r} holds an adapter beside or in place of its own weights",
            remedy="Merge the adapter (PEFT's merge_and_unload) and save the whole model, or give "
            "the model without adapter_config.json.",
        )
    shards = _shards(source)
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise _pickled(name, f"the weights {shard!r} that its index names")
    folder = Path(source)
    if folder.is_dir() and not shards and not [*folder.glob("*.safetensors")]:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            raise _pickled(name, pickled[0])


def files_digest(source: str) -> str | None:
    """Returns 16 hex digits over the contents of what decides a model's answers.

    That is its configuration, tokenizer and weights; those of a model of the hub are fetched first.
    It takes a second per GiB. None where weights do not lie where transformers keeps them.
    """
    weights = _shards(source) or [SAFE_WEIGHTS_NAME]
    files = {name: _file(source, name) for name in (*_READ, *weights)}
    if any(files[name] is None for name in weights):
        return None
    digest = hashlib.sha256()
    for name, path in files.items():
        if path is not None:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:16]


def _file(source: str, name: str) -> Path | None:
    """Returns where a model's file lies, fetched if need be; None where it has none of the name."""
    path = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if path is None else Path(path)


def _shards(source: str) -> list[str]:
    """Returns the files that a model's index names, none where it has no index."""
    index = _file(source, SAFE_WEIGHTS_INDEX_NAME)
    if index is None:
        return []
    weights: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return sorted({*weights.values()})


def _whole_numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yields the whole numbers of a configuration and of those inside it, with their keys."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def _no_config(name: str, expected: str, got: object) -> ModelError:
    return ModelError(
        f"expected in the configuration of base model {name!r} {expected}, got {got}",
        remedy="Correct its config.json, or check where the model comes from.",
    )


def _pickled(name: str, what: str) -> ModelError:
    return ModelError(
        f"expected safetensors weights of base model {name!r}, got {what}, in pickle form, whose "
        "reading can run code",
        remedy="Convert it where you trust it: load it there with transformers, which writes "
        "safetensors in `save_pretrained`; or give a model that has them.",
    )
