"""How much of a fault is inflicted, and the figures that come out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from study_run import Size
from verdict import Verdict


@dataclass(frozen=True)
class Amount:
    """How much of a fault.

    Attributes:
        kills: In all, where something is killed.
        studies: Over so many studies.
        samples: Of damage to files.
        seed: Of all that is drawn.
        size: The studies'.
        patience_s: How long a study may take that may never end.
    """

    kills: int = 50
    studies: int = 10
    samples: int = 12
    seed: int = 0
    size: Size = field(default_factory=Size)
    patience_s: float = 120.0

    @property
    def kills_a_study(self) -> int:
        """Kills of each study, the same for each and enough in all."""
        return -(-self.kills // self.studies)


@dataclass(frozen=True)
class Figures:
    """What a table shows of one fault on one subject; counts are over all its studies."""

    studies: int
    kills: int
    trials: int
    ended: int
    lost: int
    twice: int
    twice_at_kill: int
    stuck: int
    differing: int
    accepted: int
    over: int
    failed: int
    codes: tuple[tuple[str, int], ...]
    message: str
    left: tuple[str, ...]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], kills: int) -> Figures:
        """Returns the figures of some studies."""
        codes = Counter("none" if one.code is None else str(one.code) for one in verdicts)
        return cls(
            studies=len(verdicts),
            kills=kills,
            trials=sum(one.trials for one in verdicts),
            ended=sum(one.ended for one in verdicts),
            lost=sum(len(one.lost) for one in verdicts),
            twice=sum(len(one.twice) for one in verdicts),
            twice_at_kill=sum(len(one.twice_at_kill) for one in verdicts),
            stuck=sum(len(one.stuck) for one in verdicts),
            differing=sum(len(one.differing) for one in verdicts),
            accepted=sum(len(one.accepted) for one in verdicts),
            over=sum(one.over for one in verdicts),
            failed=sum(len(one.failed) for one in verdicts),
            codes=tuple(sorted(codes.items())),
            message=verdicts[-1].message if verdicts else "",
            left=tuple(chain.from_iterable(one.left for one in verdicts)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {**self.__dict__, "codes": dict(self.codes), "left": list(self.left)}
