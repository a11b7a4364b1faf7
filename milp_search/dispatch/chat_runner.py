"""The worker's half where the model is behind an endpoint: nothing is trained, all is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import final

from milp_search.core.chat import EndpointError, QuestionRefused
from milp_search.core.errors import TrialError
from milp_search.core.records import Interaction, PersonalizationTask, Predictions
from milp_search.core.trial import Measurement
from milp_search.data.load import load_task
from milp_search.dispatch.answers import kept_answers, payer_of
from milp_search.dispatch.fence import at_work
from milp_search.dispatch.folders import TOKENS
from milp_search.dispatch.jobs import Job, Outcome, Pack
from milp_search.dispatch.judging import Judging
from milp_search.dispatch.paying import Metered
from milp_search.dispatch.watchdog import watched
from milp_search.dispatch.worker import ended, measured_metrics
from milp_search.endpoint.client import Endpoint
from milp_search.endpoint.token_budget import TokenBudget
from milp_search.metrics.table import measure, metrics_for
from milp_search.personalize.chat import ChatRun, chat_predictions, tplp_predictions
from milp_search.personalize.chat_prompts import Prompts, load_prompts
from milp_search.personalize.run import Split, queries_of
from milp_search.study.disk_space import until_there_is_space
from milp_search.study.examples import chosen_examples, write_examples
from milp_search.study.spec import StudySpec


@final
class ChatRunner:
    """Runs jobs of one study; the data is loaded once, and no answer is paid twice."""

    def __init__(self, folder: Path, spec: StudySpec, epoch: int | None = None):
        self.folder, self.spec, self.epoch = folder, spec, epoch

    @cached_property
    def task(self) -> PersonalizationTask:
        """The population."""
        return load_task(self.spec.data)

    @cached_property
    def prompts(self) -> Prompts:
        """What the model is asked with."""
        return load_prompts(None if self.spec.prompts is None else Path(self.spec.prompts))

    @cached_property
    def judging(self) -> Judging:
        """The judges, where a metric needs one."""
        return Judging(self.folder, self.spec)

    def run(self, pack: Pack) -> list[Outcome]:
        """Runs a pack's jobs one after the other and keeps each one's outcome.

        Args:
            pack: The jobs.

        Returns:
            One outcome per job, in order.

        Raises:
            EndpointError: The server is out of order, or the budget is used up; nothing that was
                answered is lost.
            StudyError: Another driver runs the study by now.
        """
        dispatch = self.spec.dispatch
        with (
            at_work(self.folder, self.epoch),
            watched(self.folder, pack, dispatch.hang_after_s, dispatch.time_limit_s),
        ):
            return [self._run(job, len(pack)) for job in pack]

    def _run(self, job: Job, count: int) -> Outcome:
        start = time.monotonic()
        result: Mapping[str, Measurement] | Exception
        try:
            result = self._measured(job)
        except EndpointError:
            raise
        except Exception as error:  # the trial boundary: whatever happened, the study goes on
            result = error
        duration_s = time.monotonic() - start
        return ended(self.folder, job, result, Outcome({}, None, duration_s, count))

    def _measured(self, job: Job) -> Mapping[str, Measurement]:
        model = study_model(self.folder, self.spec, payer_of(self.folder, job))
        tokens = self.spec.training.max_new_tokens
        run = ChatRun(self.task, job.plan, model, self.prompts, tokens, job.seed)
        split: Split = "validation" if job.kind == "search" else "test"
        queries = [queries_of(user, split) for user in self.task.targets]
        names = measured_metrics(self.spec)
        metrics = metrics_for(names, self.task.kind)
        topics = any(metric.needs_topics for metric in metrics)
        predictions, of_judge = self.judging.judged(
            _predictions(run, queries, topics=topics),
            metrics,
            split,
            lambda: tplp_predictions(run, queries),
            payer_of(self.folder, job),
        )
        if job.kind == "test":
            users = [target.user for target in self.task.targets]
            count = self.spec.examples
            kept = chosen_examples(predictions.items, users, count, job.trial, job.seed)
            write_examples(self.folder, kept)
        return {**measure(predictions, names), **of_judge, **model.paid()}


def _predictions(
    run: ChatRun, queries: Sequence[Sequence[Interaction]], *, topics: bool
) -> Predictions:
    """Returns what the model answers; TrialError if it refuses a question.

    What a plan asks is its own fault, for what it puts into prompts; what a judge and the rival
    are asked is not.
    """
    try:
        return chat_predictions(run, queries, topics=topics)
    except QuestionRefused as error:
        raise TrialError("refused", error.message) from error


def study_model(folder: Path, spec: StudySpec, payer: str) -> Metered:
    """Returns a study's model as one job asks it, which pays from the account in the folder."""
    assert spec.endpoint is not None  # the method asks for one, and the study file was checked
    budget = TokenBudget(folder / TOKENS, spec.endpoint.token_budget)
    kept = kept_answers(folder, spec.endpoint)
    model = Endpoint(spec.endpoint, kept, budget, payer, until_there_is_space)
    return Metered(model, spec.endpoint)
