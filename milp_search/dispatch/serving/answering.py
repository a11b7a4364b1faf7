"""Answers questions that come from many threads, side by side in the passes of one model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import final

from milp_search.adapters.jobs import AdapterTrainer, PredictJob

# ours: enough to fill a pass of a small model; more would wait longer than they gain.
_TOGETHER = 32


@dataclass(frozen=True)
class Question:
    """What one caller waits for.

    Attributes:
        job: One example, with the adapters that answer it.
        tokens: The most tokens of the answer.
        answer: Where it comes.
    """

    job: PredictJob
    tokens: int
    answer: Future[str] = field(default_factory=Future)


@final
class Answering:
    """A thread that owns the model; what waits when it is free goes together."""

    def __init__(self, trainer: AdapterTrainer):
        self._trainer = trainer
        self._waiting: queue.Queue[Question | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="answering", daemon=True)
        self._thread.start()

    def ask(self, job: PredictJob, tokens: int) -> Future[str]:
        """Returns where the answer will come."""
        question = Question(job, tokens)
        self._waiting.put(question)
        return question.answer

    def close(self) -> None:
        """Ends the thread, after what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            together, over = [first], False
            while len(together) < _TOGETHER and not over:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                over = more is None
                together += [] if more is None else [more]
            by_tokens = sorted(together, key=lambda question: question.tokens)
            for tokens, group in groupby(by_tokens, key=lambda question: question.tokens):
                # Whose caller is gone need no answer; the others cannot go any more.
                wanted = [one for one in group if one.answer.set_running_or_notify_cancel()]
                if wanted:
                    self._answer(wanted, tokens)
            if over:
                return

    def _answer(self, questions: Sequence[Question], tokens: int) -> None:
        try:
            settings = replace(self._trainer.settings, max_new_tokens=tokens)
            self._trainer.settings = settings
            found = self._trainer.predict([question.job for question in questions])
        except Exception as error:  # a caller's business, whatever it is
            self._answer_each(questions, tokens, error)
            return
        for question, answers in zip(questions, found, strict=True):
            question.answer.set_result((answers[0].generated or "").strip())

    def _answer_each(self, questions: Sequence[Question], tokens: int, error: Exception) -> None:
        """Answers questions that failed together one by one, so that only those at fault fail."""
        if len(questions) == 1:
            questions[0].answer.set_exception(error)
            return
        for question in questions:
            self._answer([question], tokens)
