"""What a judge is asked and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

LOWEST, HIGHEST = 1, 10


@dataclass(frozen=True)
class Case:
    """A response to be judged.

    Attributes:
        content: What the user wrote before, oldest first: what the response should fit.
        query: What was asked.
        response: What is judged.
    """

    content: str
    query: str
    response: str


@dataclass(frozen=True)
class PairScore:
    """What a judge said of our response to a query and of a rival's.

    Attributes:
        ours: Our score; None where the judge's answer was none.
        rival: The rival's.
        swapped: The same with the response before the content, None where it was not asked for.
    """

    ours: int | None
    rival: int | None
    swapped: tuple[int | None, int | None] | None = None


class Judge(Protocol):
    """Gives each response a whole score of its own, from 1 to 10.

    Attributes:
        name: What stands in reports; the offline judge's cannot be taken for a model's.
    """

    name: str

    def scores(self, cases: list[Case], *, swapped: bool = False) -> list[int | None]:
        """Returns the scores, None where the judge's answer is none.

        `swapped` puts the response before the content, to see whether the order matters.
        """
        ...
