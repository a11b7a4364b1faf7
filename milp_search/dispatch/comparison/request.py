"""What a table or figure is asked for, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from milp_search.core.records import PersonalizationTask, TaskKind
from milp_search.data.load import load_task
from milp_search.dispatch.comparison.parts import Part
from milp_search.metrics.table import METRIC_DIRECTIONS
from milp_search.study.result_table import Column, ResultTable
from milp_search.study.spec import StudySpec
from milp_search.study.table_page import ResultFigure

LOGO_METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "rating": ("mae", "rmse"),
    "text": ("rouge_1", "rouge_l"),
}
"""What LoGo's tables show for each kind of task."""

MILP_METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    **LOGO_METRICS,
    "text": ("rouge_1", "rouge_l", "persona_f1"),
}
"""What MiLP's tables show; the paper has text tasks only."""


@dataclass(frozen=True)
class Subject:
    """A data set and model that a table is made for.

    Attributes:
        file: The study file.
        spec: The study.
        task: Its data.
        paper: The paper's data set beside which ours stands; None where it has none.
    """

    file: Path
    spec: StudySpec
    task: PersonalizationTask
    paper: str | None = None

    @property
    def name(self) -> str:
        """What its columns and folders are called."""
        return self.spec.name


def subject(file: Path, spec: StudySpec, paper: str | None) -> Subject:
    """Returns a subject with its data read; raises InputError if they cannot be."""
    return Subject(file, spec, load_task(spec.data), paper)


Results = tuple[Sequence[ResultTable], Sequence[ResultFigure]]


@dataclass(frozen=True)
class Comparison:
    """A table or figure in the making.

    Attributes:
        name: A short name, fit for a file.
        title: What it shows.
        parts: The studies that it is made of.
        collect: From the folder of the parts' folders to tables and figures.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    collect: Callable[[Path], Results]


def with_metrics(spec: StudySpec, metrics: Sequence[str]) -> StudySpec:
    """Returns the study that measures these metrics too."""
    return spec.model_copy(update={"metrics": tuple(dict.fromkeys([*spec.metrics, *metrics]))})


def metric_column(group: str, metric: str, *, ranked: bool = True) -> Column:
    """Returns the column of a metric."""
    return Column(group, metric, METRIC_DIRECTIONS[metric.partition("@")[0]], ranked)
