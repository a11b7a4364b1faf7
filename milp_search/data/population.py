"""What a format reader hands over: users' records, cleaned and split by the code above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from milp_search.core.errors import Location
from milp_search.core.records import Interaction, TaskKind


@dataclass(frozen=True)
class UserRecords:
    """One user's records as a source gives them.

    Attributes:
        user: The user's identifier.
        history: The exchanges to be split, or to be learnt from where `queries` are given.
        queries: The layout's own test queries (LaMP, OPPU), which come after the history; empty
            where the test part has to be cut from the end of the history.
        at: Where the user's first record stands.
    """

    user: str
    history: tuple[Interaction, ...]
    queries: tuple[Interaction, ...] = ()
    at: Location | None = None

    @property
    def size(self) -> int:
        """The number of interactions, test queries included; the measure of activity."""
        return len(self.history) + len(self.queries)


@dataclass(frozen=True)
class Population:
    """All users of a data set, before any split.

    Attributes:
        name: The data set's name.
        kind: What a response is.
        users: The users, in the order in which they first occur.
        labels: The label set of a classification task, else empty.
        rating_range: Lowest and highest rating of a rating task.
        dropped: How many records were left out, by reason.
    """

    name: str
    kind: TaskKind
    users: tuple[UserRecords, ...]
    labels: tuple[str, ...] = ()
    rating_range: tuple[float, float] = (1.0, 5.0)
    dropped: Mapping[str, int] = field(default_factory=dict)
