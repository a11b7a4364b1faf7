"""Where things lie in a study's folder; imports nothing, so that looking at a study is quick."""

from __future__ import annotations

from pathlib import Path

ADAPTERS = "adapters"
RESULTS = "results"
CACHE = "cache"
CHECKPOINTS = "checkpoints"
LOG_NAME = "log.txt"
RESPONSES = "responses"
TOKENS = "tokens.json"
JUDGE_TOKENS = "judge-tokens.json"
PARTS = "parts"  # of a table: a study each


def adapters_folder(folder: Path, trial: int) -> Path:
    """Returns where a trial's adapters lie."""
    return folder / ADAPTERS / f"trial-{trial}"


def checkpoints_folder(folder: Path, trial: int, seed: int | None = None) -> Path:
    """Returns where the stages of a trial lie while it runs, or of its test with a seed."""
    return folder / CHECKPOINTS / (f"trial-{trial}" + ("" if seed is None else f"-seed{seed}"))
