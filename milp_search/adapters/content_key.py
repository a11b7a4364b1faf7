"""Names for things by what they are: equal content, equal key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

_DIGITS = 32  # ours: 128 bits, beyond chance among any number of entries


def content_key(*parts: Any) -> str:
    """Returns 32 hex digits over the parts, which are plain JSON values.

    The package's version is among them: another release may train otherwise.
    """
    content = json.dumps([_version(), *parts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Returns 32 hex digits over names, types, shapes and bytes, whatever the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), [*tensor.shape]]).encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_DIGITS]


@cache
def _version() -> str:
    return version("milp-search")
