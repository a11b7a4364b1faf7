"""What trials took from the study's cache instead of making it anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from milp_search.core.trial import Trial

Reused = Mapping[str, tuple[int, int]]
"""Per kind of thing the hits and the lookups."""


def total_reuse(trials: Iterable[Trial]) -> dict[str, tuple[int, int]]:
    """Returns the sums over the trials, by kind in alphabetical order."""
    hits: Counter[str] = Counter()
    lookups: Counter[str] = Counter()
    for trial in trials:
        for kind, (found, asked) in trial.reused.items():
            hits[kind] += found
            lookups[kind] += asked
    return {kind: (hits[kind], lookups[kind]) for kind in sorted(lookups)}


def reuse_text(reused: Reused) -> str:
    """Returns the counts in words (`global adapters 3 of 40, ...`), empty where there are none."""
    return ", ".join(
        f"{kind.replace('_', ' ')} {hits} of {lookups}"
        for kind, (hits, lookups) in reused.items()
        if lookups
    )
