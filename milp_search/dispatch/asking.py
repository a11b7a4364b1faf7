"""Asks a study for trials: at once, or ahead of time while others run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import final

from milp_search.core.trial import Trial
from milp_search.search.proposal import Proposal
from milp_search.study.study import Look, Study


@final
class Asking:
    """At most one ask of a study, made in a thread of its own.

    The study is looked at when the ask begins and written to when it is taken, both by the
    caller's thread; in between only the proposer works. So what is proposed depends on when the
    ask began, and not on how long it took.
    """

    def __init__(self, study: Study):
        self._study = study
        self._ahead: tuple[Look, Future[list[Proposal]]] | None = None

    @property
    def under_way(self) -> bool:
        """Whether an ask has begun and was not taken yet."""
        return self._ahead is not None

    @property
    def ready(self) -> bool:
        """Whether an ask has begun, and its proposals are there."""
        return self._ahead is not None and self._ahead[1].done()

    def begin(self, count: int, *, ahead: bool) -> None:
        """Begins to ask for so many trials, while others run or not."""
        assert self._ahead is None, "one ask at a time"
        look, found = self._study.look(count if ahead else None), Future[list[Proposal]]()
        self._ahead = look, found
        # A daemon: a driver that is told to leave at once does not wait for proposals.
        Thread(target=_settle, args=(found, look.propose, count), daemon=True).start()

    def settle(self) -> None:
        """Waits until nothing is made any more: a process must not end while it is."""
        if self._ahead is not None:
            wait([self._ahead[1]])

    def take(self) -> list[Trial]:
        """Returns the trials that were asked for; waits for the proposals.

        Returns:
            The trials, on disk already.

        Raises:
            SpaceExhausted: No plan is left that was not asked before.
        """
        assert self._ahead is not None, "nothing was asked"
        (look, found), self._ahead = self._ahead, None
        return self._study.take(look, found.result())


def _settle(
    found: Future[list[Proposal]], propose: Callable[[int], list[Proposal]], count: int
) -> None:
    try:
        found.set_result(propose(count))
    except BaseException as error:  # raised again where the result is asked for
        found.set_exception(error)
