"""Seconds of a call, and what is said about several of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Returns a call's seconds and its result; what others left is cleared before.

    On a GPU wall-clock seconds; on a CPU the seconds that this process computed, on its one
    thread: what else the machine does in the meantime is left out. What was there before the first
    call (modules, the base model) is not looked through again.
    """
    gc.collect()
    if gc.get_freeze_count() == 0:
        gc.freeze()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start, result


def by_turns(names: Sequence[str], repeat: int) -> list[str]:
    """Returns the names in the order of a repeat: each is first as often as last."""
    return list(names) if repeat % 2 == 0 else list(reversed(names))


def speed_up(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, float, float]:
    """Returns the median, the lowest and the highest ratio of neighbouring runs."""
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
