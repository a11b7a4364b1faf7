"""Canaries, and a trainer that notes every text it is given and quotes those it finds in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from adapters.making import llama
from milp_search.adapters.jobs import Adapter, Answer, Example, PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter
from personalize.making import Recorder

BASE = llama()

_CANARY = re.compile(r"(anna|bert|cleo|dora|zeno)(past|valid|test)(\d)")


def canaries(text: str) -> set[tuple[str, str, str]]:
    """Returns the canaries of `making.task` in a text, each as user, part of the split, place."""
    return {*_CANARY.findall(text)}


def owners(text: str) -> set[str]:
    """Returns the users whose canaries stand in a text."""
    return {user for user, _, _ in canaries(text)}


def whole(example: Example) -> str:
    """Returns everything that an example shows to the model."""
    return example.prompt + example.response


class Echo(Recorder):
    """A recorder whose generations quote every canary of their prompts, as a profile might.

    It trains nothing: adapters are fresh ones, for methods that look into them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.base = BASE

    def train(self, jobs: Sequence[TrainJob]) -> list[Adapter]:
        """Returns adapters as they are before training."""
        super().train(jobs)
        return [fresh_adapter(job.key, job.plan, BASE.shape, job.seed) for job in jobs]

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        """Returns answers that quote their prompts."""
        self.asked += jobs
        return [
            [Answer(1.0, 2, " ".join(map("".join, canaries(one.prompt)))) for one in job.examples]
            for job in jobs
        ]

    def read(self) -> Iterator[str]:
        """Yields every text that the trainer was given, each by itself."""
        yield from (whole(one) for job in self.jobs for one in job.examples)
        yield from (whole(one) for job in self.asked for one in job.examples)
        yield from self.embedded
