"""The trial that the peers run: it sleeps, meets its fault, and has two values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inflict import Fault, strike
from ledger import begun, ledgered, read_ledger


@dataclass(frozen=True)
class PeerTrial:
    """What every trial of a study does.

    Attributes:
        ledger: Where its begin and end are written.
        seconds: How long it works.
        faults: The faults by trial.
    """

    ledger: Path
    seconds: float
    faults: Mapping[int, Fault]

    def run(self, trial: int, rate: float, rank: int) -> tuple[float, float]:
        """Returns the loss and the size, both to be made small; a fault may take the loss's place.

        The attempts of a trial are counted by the ledger, since no peer tells its trials.

        Args:
            trial: Its number in its study.
            rate: From 0 to 1.
            rank: From 1 to 32.

        Returns:
            Loss and size.
        """
        attempt = begun(read_ledger(self.ledger)).get(trial, 0)
        with ledgered(self.ledger, trial, attempt):
            struck = strike(self.faults, trial, attempt)
            time.sleep(self.seconds)
        loss, size = outcome(rate, rank)
        return (loss if struck is None else struck), size


def outcome(rate: float, rank: int) -> tuple[float, float]:
    """Returns the loss and the size: more rank, less loss; best at a rate of .3."""
    return (rate - 0.3) ** 2 + 1.0 / rank, float(rank)
