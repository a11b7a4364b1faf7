"""What the search needs to know of a personalisation method without importing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodTraits:
    """Which parts of a plan a method uses; the rest collapses in the plan's fingerprint."""

    summary: str
    global_adapter: bool = False
    retrieval: bool = False
    adapter: bool = True
    injection: bool = False


METHODS: dict[str, MethodTraits] = {
    "base": MethodTraits("The base model, no adapter", adapter=False, retrieval=True),
    "oppu": MethodTraits("One LoRA per user on q and v (OPPU)", retrieval=True),
    "milp": MethodTraits(
        "Memory injection, then instruction tuning (MiLP)", retrieval=True, injection=True
    ),
    "logo": MethodTraits(
        "Local adapters over community-wise temporal global ones (LoGo)",
        global_adapter=True,
        retrieval=True,
    ),
    "milp_logo": MethodTraits(
        "MiLP's adapters and stages inside LoGo's pipeline",
        global_adapter=True,
        retrieval=True,
        injection=True,
    ),
}
