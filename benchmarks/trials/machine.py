"""Where figures were measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from milp_search.dispatch.drive import installed_versions


def machine(device: str) -> dict[str, Any]:
    """Returns processor, cores, threads, load, GPU and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "versions": installed_versions(),
    }


def machine_text(facts: dict[str, Any]) -> str:
    """Returns the facts in a line."""
    versions = facts["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "peft"))
    return (
        f"{facts['gpu'] or 'no GPU'}; {facts['processor']}, {facts['cores']} cores, "
        f"{facts['threads']} thread(s), load {facts['load']} before it began; "
        f"Python {facts['python']}, {named}, ray {versions['ray']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or "unknown processor"
    return f"{platform.machine()} {name}"
