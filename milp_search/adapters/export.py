"""Writes and reads trained stacks of adapters as PEFT folders with a manifest.

```
FOLDER/manifest.json             base model, plan, and per user the folders of the stack
FOLDER/<name>/adapter_config.json, adapter_model.safetensors
```

PEFT loads each folder; the manifest says which ones stack for which user, bottom first. User ids
stand inside the manifest only, never in a file name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from milp_search.adapters.jobs import Adapter
from milp_search.adapters.lora import lora_config
from milp_search.core.errors import ModelError
from milp_search.core.model_shape import ModelShape
from milp_search.core.plan import AdapterPlan

MANIFEST = "manifest.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # PEFT's prefix of every key
_REMEDY = "Give a folder that `milp-search run` or `milp-search export` wrote."


def save_stacks(
    folder: Path,
    stacks: Mapping[str, tuple[Adapter, ...]],
    shape: ModelShape,
    facts: Mapping[str, Any],
    *,
    masked: bool = False,
) -> None:
    """Writes each distinct adapter once, then the manifest.

    Args:
        folder: Where to; made if it is not there.
        stacks: Per user the adapters, bottom first.
        shape: The base model's shape.
        facts: What else the manifest shall hold (base model, plan, trial, ...).
        masked: Whether the base fills in masked tokens instead of continuing a text.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    names: dict[int, str] = {}
    for stack in stacks.values():
        for adapter in stack:
            if id(adapter) not in names and adapter.plan.total_rank > 0:
                names[id(adapter)] = _name(adapter.key)
                name = str(facts["base_model"])
                save_adapter(folder / names[id(adapter)], adapter, shape, name, masked=masked)
    users = {
        user: [names[id(a)] for a in stack if id(a) in names] for user, stack in stacks.items()
    }
    manifest = {
        **facts,
        "how_to_load": "PeftModel.from_pretrained(base, FOLDER/stack[0], adapter_name=stack[0]), "
        "then load_adapter(FOLDER/name, adapter_name=name) for each further name of the user's "
        "stack, then base_model.set_adapter(stack, inference_mode=True)",
        "users": users,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def save_adapter(
    folder: Path, adapter: Adapter, shape: ModelShape, base_model: str, *, masked: bool = False
) -> None:
    """Writes one adapter as a PEFT folder."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    config = lora_config(adapter.plan, shape)
    config.base_model_name_or_path, config.inference_mode = base_model, True
    if masked:
        # PEFT has no task for masked language models; without one it wraps any model.
        config.task_type = None
    config.save_pretrained(str(folder))
    tensors = {
        f"{_PREFIX}{path}.lora_{letter}.weight": tensor.contiguous()
        for path, pair in adapter.tensors.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


def load_stack(folder: Path, user: str, plan: AdapterPlan) -> tuple[Adapter, ...]:
    """Returns a user's stack from an exported folder, bottom first.

    Raises ModelError if there is no manifest, it does not know the user, or names what is no
    adapter of the folder.
    """
    manifest = read_manifest(folder)
    if user not in manifest["users"]:
        raise ModelError(f"{folder / MANIFEST} has no adapters for the user asked for")
    names = manifest["users"][user]
    if not isinstance(names, list) or not all(map(_is_plain_name, names)):
        raise ModelError(
            f"{folder / MANIFEST} names an adapter by a path: expected the name of a folder "
            "beside it",
            remedy=_REMEDY,
        )
    return tuple(_load_adapter(folder / name, name, plan) for name in names)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of an exported folder.

    Raises ModelError if there is none, or it is not what `save_stacks` writes.
    """
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {folder / MANIFEST}: {error}", remedy=_REMEDY) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("users"), dict):
        raise ModelError(f"expected an object with `users` in {folder / MANIFEST}", remedy=_REMEDY)
    return manifest


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and name == Path(name).name and name not in ("", "..")


def _load_adapter(folder: Path, key: str, plan: AdapterPlan) -> Adapter:
    file = folder / _WEIGHTS
    try:
        tensors = load_file(file)
        paths = sorted({name.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for name in tensors})
        return Adapter(key, plan, {path: _pair(tensors, path) for path in paths})
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"cannot read the adapter {file}: {error}", remedy=_REMEDY) from error


def _pair(tensors: dict[str, torch.Tensor], path: str) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        tensors[f"{_PREFIX}{path}.lora_A.weight"],
        tensors[f"{_PREFIX}{path}.lora_B.weight"],
    )


def _name(key: str) -> str:
    """Returns a folder name for an adapter's key: its stage and a hash of whose it is."""
    stage, _, owner = key.partition(":")
    digest = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{stage}-{digest[:12]}"
