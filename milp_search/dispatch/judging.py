"""Has answers judged beside a rival's, and a judge compared with people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from rich.console import Console

from milp_search.core.errors import DataError, Location, SpecError
from milp_search.core.judged import HIGHEST, LOWEST, Case, Judge, PairScore
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.dispatch.answers import kept_answers
from milp_search.dispatch.folders import JUDGE_TOKENS
from milp_search.dispatch.paying import OF_JUDGE, Metered
from milp_search.endpoint.client import Endpoint
from milp_search.endpoint.token_budget import TokenBudget
from milp_search.metrics.metric import Metric
from milp_search.metrics.win_rate import MODEL, OFFLINE, agreement, judge_checks
from milp_search.personalize.chat_prompts import load_prompts
from milp_search.personalize.judge import ChatJudge, OfflineJudge, content_of
from milp_search.study.disk_space import until_there_is_space
from milp_search.study.spec import StudySpec

# ours: so many pairs are judged in both orders; a change of a tenth of the winners shows.
_SWAPPED = 100

_FIELDS = ("content", "query", "response")


@final
class Judging:
    """The judges of a study; what they said once is kept like all answers that were paid for."""

    def __init__(self, folder: Path, spec: StudySpec):
        self.folder, self.spec = folder, spec
        self._rivals: dict[str, list[str]] = {}

    def judged(
        self,
        predictions: Predictions,
        metrics: Sequence[Metric],
        split: str,
        rival: Callable[[], Predictions],
        payer: str | None = None,
    ) -> tuple[Predictions, Mapping[str, Measurement]]:
        """Returns the predictions with what the metrics' judges say of them.

        Args:
            predictions: Ours, with texts.
            metrics: What is to be measured.
            split: Which queries were answered; the rival's answers to them are made once.
            rival: Makes the rival's answers to the same queries, in the same order.
            payer: The job that pays for a model's judgements.

        Returns:
            The predictions, the same where no metric needs a judge; and of a model as the judge
            what it cost and the checks of it.

        Raises:
            EndpointError: The judge cannot be asked.
        """
        kinds = sorted({metric.needs_judge for metric in metrics} - {""})
        if not kinds:
            return predictions, {}
        if split not in self._rivals:
            self._rivals[split] = [item.generated or "" for item in rival().items]
        others = self._rivals[split]
        found, paid = dict[str, list[PairScore]](), dict[str, Measurement]()
        if OFFLINE in kinds:
            found[OFFLINE] = self._scores(OfflineJudge(), predictions, others)
        if MODEL in kinds:
            judge, meter = model_judge(self.folder, self.spec, payer)
            found[MODEL] = self._scores(judge, predictions, others)
            paid |= meter.paid()
        items = tuple(
            replace(item, judged={kind: pairs[place] for kind, pairs in found.items()})
            for place, item in enumerate(predictions.items)
        )
        judged = replace(predictions, items=items)
        return judged, {**paid, **(judge_checks(judged) if MODEL in kinds else {})}

    @staticmethod
    def _scores(judge: Judge, predictions: Predictions, rival: Sequence[str]) -> list[PairScore]:
        ours = [_case(predictions, item, item.generated or "") for item in predictions.items]
        others = [
            _case(predictions, item, text)
            for item, text in zip(predictions.items, rival, strict=True)
        ]
        count = min(len(ours), _SWAPPED)
        scores = judge.scores([*ours, *others])
        again = judge.scores([*ours[:count], *others[:count]], swapped=True)
        return [
            PairScore(
                scores[place],
                scores[len(ours) + place],
                (again[place], again[count + place]) if place < count else None,
            )
            for place in range(len(ours))
        ]


def model_judge(
    folder: Path, spec: StudySpec, payer: str | None = None
) -> tuple[ChatJudge, Metered]:
    """Returns the study's judge, with its answers and its account in a folder, and its meter."""
    assert spec.judge is not None  # `check_metrics` has seen to it
    budget = TokenBudget(folder / JUDGE_TOKENS, spec.judge.token_budget)
    kept = kept_answers(folder, spec.judge)
    model = Endpoint(spec.judge, kept, budget, payer, until_there_is_space)
    prompts = load_prompts(None if spec.prompts is None else Path(spec.prompts))
    meter = Metered(model, spec.judge, OF_JUDGE)
    return ChatJudge(spec.judge.model, meter, prompts), meter


def print_agreement(
    labels: Path, spec: StudySpec | None, folder: Path | None, console: Console
) -> None:
    """Judges responses that people have scored, and prints how the scores agree.

    Args:
        labels: JSON Lines: content, query, response, and score from 1 to 10.
        spec: The study whose judge it is; None is the offline judge.
        folder: Where the judge's answers are kept; None beside the labels.
        console: Where it is printed.

    Raises:
        InputError: The labels cannot be read, or the study has no judge; or a folder is given
            and no study, whose judge alone has answers to keep.
        EndpointError: The judge cannot be asked.
    """
    cases, scores = read_labels(labels)
    judge: Judge = OfflineJudge()
    if spec is None and folder is not None:
        raise SpecError(
            "expected --out with --study, got none: the offline count has no answers to keep",
            remedy="leave it out, or name the study whose judge it is",
        )
    if spec is not None:
        if spec.judge is None:
            raise SpecError(
                "expected a study with a judge, got one without",
                remedy="add `judge: {model: NAME, base_url: http://...}` to the study file",
            )
        judge, _ = model_judge(folder or labels.with_name(f"{labels.name}.judged"), spec)
    found = agreement(judge.scores(cases), scores)
    pearson = "not defined" if math.isnan(found.pearson) else f"{found.pearson:.3f}"
    for line in (
        f"judge: {judge.name}",
        f"scores compared: {found.count}; answers that were no score: {found.unparsable}",
        f"Pearson: {pearson}",
        f"accuracy: {found.accuracy:.3f} (within one point: {found.within_one:.3f})",
    ):
        console.print(line, markup=False, highlight=False)


def read_labels(path: Path) -> tuple[list[Case], list[float]]:
    """Reads what people scored.

    Args:
        path: JSON Lines: content, query, response, and score from 1 to 10.

    Returns:
        The responses and their scores.

    Raises:
        DataError: A line is something else, or there is none.
    """
    try:
        # Not `splitlines`: JSON takes some of what that splits at, U+2028 say, as it stands.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected labels as JSON Lines, got: {type(error).__name__}", at=Location(path)
        ) from error
    rows = [_label(line, Location(path, n)) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError("expected at least one label, got none", at=Location(path))
    return [case for case, _ in rows], [score for _, score in rows]


def _label(line: str, at: Location) -> tuple[Case, float]:
    expected = f"expected {', '.join(_FIELDS)} as texts and score from {LOWEST} to {HIGHEST}"
    try:
        values: Any = json.loads(line)
        texts, score = [values[name] for name in _FIELDS], values["score"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{expected}, got: {type(error).__name__}", at=at) from None
    whole = all(isinstance(text, str) for text in texts)
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not whole or not number or not LOWEST <= score <= HIGHEST:
        raise DataError(f"{expected}, got something else", at=at)
    return Case(*texts), float(score)


def _case(predictions: Predictions, item: Prediction, response: str) -> Case:
    return Case(content_of(predictions.histories[item.user]), item.query, response)
