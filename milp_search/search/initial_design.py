"""Space-filling and random sequences of distinct plans."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Set
from typing import Any, Self, final

import numpy as np

from milp_search.search.domain import Candidate, Domain, Point
from milp_search.search.proposal import SpaceExhausted

Draws = Callable[[tuple[int, ...], int], Iterator[Point]]

# A power of two keeps a Sobol sequence balanced.
_CHUNK = 64
# ours: draws before the space is listed or given up; about a second's work.
_DRAWS = 16_384
# ours: the largest space that is listed in full once draws bring nothing new.
_LISTABLE = 65_536


def sobol_points(sizes: tuple[int, ...], seed: int) -> Iterator[Point]:
    """Yields the points of a scrambled Sobol sequence, uniform over each parameter's values."""
    from scipy.stats import qmc

    if not sizes:
        yield ()
        return
    sequence = qmc.Sobol(d=len(sizes), scramble=True, rng=np.random.default_rng(seed))
    while True:
        for row in sequence.random(_CHUNK):
            yield tuple((row * sizes).astype(int).tolist())


def random_points(sizes: tuple[int, ...], seed: int) -> Iterator[Point]:
    """Yields independent points, uniform over each parameter's values."""
    rng = np.random.default_rng(seed)
    while True:
        yield tuple(rng.integers(0, sizes).tolist()) if sizes else ()


def grid_points(sizes: tuple[int, ...], seed: int) -> Iterator[Point]:
    """Yields every point once, the last parameter changing fastest; the seed does not matter."""
    yield from itertools.product(*map(range, sizes))


@final
class UnseenPlans:
    """The distinct plans of a seeded sequence, in order, without those that were seen.

    The sequence itself depends on the seed alone, so what comes next depends on which plans were
    proposed before and not on how they fared. It is gone through once, however often it is asked.

    Args:
        domain: The space.
        draws: The kind of sequence.
        seed: Its seed.
        allowed: What comes first; others follow only where there are too few of these.
    """

    def __init__(
        self,
        domain: Domain,
        draws: Draws,
        seed: int,
        allowed: Callable[[Candidate], bool] = lambda candidate: True,
    ):
        self._sequence = (domain, draws, seed)
        self._rest, self._allowed = _sequence(domain, draws, seed), allowed
        self._found: dict[str, Candidate] = {}
        self._spare: dict[str, Candidate] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Returns the plans from the beginning; each call of `first` says which were seen."""
        return type(self)(*self._sequence, self._allowed)

    def first(self, count: int, seen: Set[str]) -> list[Candidate]:
        """Returns the first plans that were not seen.

        Args:
            count: How many are wanted.
            seen: Fingerprints of the plans proposed before; those of the last call among them.

        Returns:
            The candidates; fewer where the space has no more.

        Raises:
            SpaceExhausted: No unseen plan is left.
        """
        for kind in (self._found, self._spare):
            for fingerprint in kind.keys() & seen:
                del kind[fingerprint]
        while len(self._found) < count and (candidate := next(self._rest, None)) is not None:
            if candidate.fingerprint not in seen:
                kind = self._found if self._allowed(candidate) else self._spare
                kind.setdefault(candidate.fingerprint, candidate)
        candidates = [*self._found.values(), *self._spare.values()][:count]
        if not candidates and count > 0:
            raise SpaceExhausted(
                f"expected a plan that was not proposed before, found none beyond {len(seen)}: "
                "widen the search space or lower the number of trials"
            )
        return candidates


def _sequence(domain: Domain, draws: Draws, seed: int) -> Iterator[Candidate]:
    """Yields many draws, then every point of a space small enough to be listed."""
    most = min(_DRAWS, 64 * domain.size)
    for point in itertools.islice(draws(domain.sizes, seed), most):
        yield domain.candidate(point)
    if domain.size <= _LISTABLE:
        for point in domain.points():
            yield domain.candidate(point)
