"""What a proposer is and what it hands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from milp_search.core.arm import Arm
from milp_search.core.errors import MilpSearchError
from milp_search.core.trial import Trial


class SpaceExhausted(MilpSearchError, LookupError):
    """No plan of the space is left that has not been proposed."""


@dataclass(frozen=True)
class Proposal:
    """An arm to evaluate, and what proposed it (`sobol`, `saas_nehvi`, ...)."""

    arm: Arm
    origin: str


Memory = Mapping[str, Any]
"""What a proposer leaves for its next proposals: plain JSON values."""


class Proposer(Protocol):
    """Proposes arms; a pure function of seed, space, objectives and what it observed last.

    Attributes:
        name: What stands as the origin of its proposals.
    """

    name: str

    @property
    def memory(self) -> Memory | None:
        """What its last proposals leave for the next ones; None where that is nothing."""

    def observe(self, trials: Sequence[Trial], memory: Memory | None = None) -> None:
        """Replaces the trials known so far, pending and failed ones included, and the memory."""

    def propose(self, count: int) -> list[Proposal]:
        """Returns up to `count` proposals whose plans differ and were never observed.

        Args:
            count: How many are wanted.

        Returns:
            The proposals; fewer where the space has no more.

        Raises:
            SpaceExhausted: No unseen plan is left.
        """
