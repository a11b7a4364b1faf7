"""Checks an installation."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable

import torch
from rich.console import Console

from milp_search.adapters.base_model import load_base_model
from milp_search.core.settings import EndpointSettings
from milp_search.dispatch.drive import installed_versions
from milp_search.dispatch.serving.serve import KEY_VARIABLE
from milp_search.endpoint.client import URL_VARIABLE, server_url
from milp_search.endpoint.key import api_key

_KEYS = (EndpointSettings("any").key_variable, KEY_VARIABLE)


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


def _endpoint() -> str:
    """Returns what the environment says of a chat model's server; of keys whether there are any.

    Raises InputError if it names no address or key that could be used.
    """
    found = [f"{name} is {'set' if os.environ.get(name) else 'not set'}" for name in _KEYS]
    settings = EndpointSettings("any")
    api_key(settings)
    url = os.environ.get(URL_VARIABLE)
    address = f"{URL_VARIABLE} is {server_url(settings)}" if url else f"{URL_VARIABLE} is not set"
    return ", ".join([address, *found])


CHECKS: dict[str, Callable[[], str]] = {
    "machine": _machine,
    "versions": _versions,
    "device": _device,
    "surrogate (NUTS)": _importable("numpyro"),
    "search (BoTorch)": _importable("botorch"),
    "experiments (Ax)": _importable("ax"),
    "dispatch (Ray Tune)": _importable("ray.tune"),
    "embedded base model": _base,
    "chat models (environment)": _endpoint,
}
