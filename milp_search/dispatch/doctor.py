"""Checks an installation."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable

import torch
from rich.console import Console

from milp_search.adapters.base_model import load_base_model
from milp_search.dispatch.drive import installed_versions


def print_doctor(console: Console) -> int:
    """Prints one line per check and returns 0 if all passed, else 1."""
    passed = True
    for name, check in CHECKS.items():
        try:
            console.print(f"ok    {name}: {check()}", markup=False, highlight=False, soft_wrap=True)
        except Exception as error:  # each failed check is a finding, not an end
            passed = False
            console.print(f"FAIL  {name}: {error}", markup=False, highlight=False, soft_wrap=True)
    return 0 if passed else 1


def _machine() -> str:
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in installed_versions().items())


def _device() -> str:
    if not torch.cuda.is_available():
        return "CPU (no CUDA device)"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _importable(module: str) -> Callable[[], str]:
    return lambda: f"{importlib.import_module(module).__name__} imports"


def _base() -> str:
    base = load_base_model(device="cpu")
    return f"{base.shape.layers} layers, fingerprint {base.fingerprint}"


CHECKS: dict[str, Callable[[], str]] = {
    "machine": _machine,
    "versions": _versions,
    "device": _device,
    "surrogate (NUTS)": _importable("numpyro"),
    "search (BoTorch)": _importable("botorch"),
    "experiments (Ax)": _importable("ax"),
    "dispatch (Ray Tune)": _importable("ray.tune"),
    "embedded base model": _base,
}
