"""Several plans on one trainer: what they ask for at the same time becomes one call.

A method calls its trainer and waits for the answer, so that several methods at once need a stack
each: every plan has a thread of its own. Only one thread ever runs. The caller's wakes one plan
after the other, each until it asks for something, and then answers them together. So everything
happens in the same order each time, and nothing needs a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Semaphore, Thread
from typing import Any, Generic, Literal, TypeVar, cast, final

import torch

from milp_search.adapters.jobs import Adapter, AdapterTrainer, Answer, PredictJob, TrainJob

T = TypeVar("T")

Kind = Literal["embed", "train", "predict"]

# What stands early in a method goes first, so that the calls that come later meet.
_ORDER: tuple[Kind, ...] = ("embed", "train", "predict")


def train_together(
    trainer: AdapterTrainer, plans: Sequence[Callable[[AdapterTrainer], T]]
) -> list[T | Exception]:
    """Returns what each plan returned, or the exception that it raised, in order.

    The trainer works in this thread. What it raises is raised in every plan that took part in the
    call. An exception of another kind, such as KeyboardInterrupt, ends all plans at their next
    call before it goes on its way.

    Args:
        trainer: Works for all plans.
        plans: Each is called with the trainer that it is to use.

    Returns:
        One result or exception per plan.
    """
    threads = [_PlanThread(plan, trainer) for plan in plans]
    try:
        for thread in threads:
            thread.start()
            thread.go_on()
        while asking := [thread for thread in threads if thread.wish is not None]:
            for thread in _answered(trainer, asking):
                thread.go_on()
    finally:
        for thread in threads:
            thread.leave()
    return [thread.result for thread in threads]


def _answered(
    trainer: AdapterTrainer, asking: Sequence[_PlanThread[T]]
) -> Sequence[_PlanThread[T]]:
    """Returns the threads whose wish came first in order, with their answers."""
    wishes = [cast("_Wish", thread.wish) for thread in asking]
    kind = min((wish.kind for wish in wishes), key=_ORDER.index)
    meeting = [
        (thread, wish) for thread, wish in zip(asking, wishes, strict=True) if wish.kind == kind
    ]
    try:
        answers = getattr(trainer, kind)([*chain(*(wish.items for _, wish in meeting))])
    except Exception as error:  # each plan that took part meets it in its own call
        for thread, _ in meeting:
            thread.answer = error
    else:
        first = 0
        for thread, wish in meeting:
            thread.answer = answers[first : first + len(wish.items)]
            first += len(wish.items)
    return [thread for thread, _ in meeting]


@dataclass(frozen=True)
class _Wish:
    """A call of the trainer that waits for its answer."""

    kind: Kind
    items: Sequence[Any]


class _Left(BaseException):
    """Ends the plans of a pack that was left."""


@final
class _PlanThread(Thread, Generic[T]):
    """A plan on its own stack."""

    def __init__(self, plan: Callable[[AdapterTrainer], T], trainer: AdapterTrainer):
        # A plan that never comes to its next call must not keep the process alive.
        super().__init__(name="plan", daemon=True)
        self.wish: _Wish | None = None
        self.answer: Any = None
        self.result: T | Exception
        self._plan, self._trainer = plan, trainer
        self._turn, self._callers_turn = Semaphore(0), Semaphore(0)
        self._left = False

    def go_on(self) -> None:
        """Lets the plan run until it asks for something or ends."""
        self._turn.release()
        self._callers_turn.acquire()

    def leave(self) -> None:
        """Ends the plan at its next call, if it has not ended."""
        self._left = True
        if self.ident is not None:
            self._turn.release()
            self.join()

    def run(self) -> None:
        """Runs the plan, once it is its turn."""
        try:
            self._wait()
            self.result = self._plan(_Seat(self, self._trainer))
        except Exception as error:  # the caller decides what to make of it
            self.result = error
        except _Left:
            pass
        finally:
            self.wish = None
            self._callers_turn.release()

    def ask(self, kind: Kind, items: Sequence[Any]) -> Any:
        """Returns the trainer's answer; called by the plan."""
        self.wish = _Wish(kind, items)
        self._callers_turn.release()
        self._wait()
        self.wish = None
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait(self) -> None:
        self._turn.acquire()
        if self._left:
            raise _Left


@final
class _Seat:
    """The `AdapterTrainer` that a plan sees."""

    def __init__(self, thread: _PlanThread[Any], trainer: AdapterTrainer):
        self.base, self.settings, self.halvings = trainer.base, trainer.settings, trainer.halvings
        self._ask = thread.ask

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns one adapter per job, in order."""
        adapters: list[Adapter] = self._ask("train", jobs)
        return adapters

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns per job one answer per example, in order."""
        answers: list[list[Answer]] = self._ask("predict", jobs)
        return answers

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns the base's mean last hidden state of each text (texts x width, float32)."""
        vectors: torch.Tensor = self._ask("embed", texts)
        return vectors
