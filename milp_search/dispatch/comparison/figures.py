"""The papers' analyses by name: to add one, write its maker and a line in `FIGURES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from milp_search.core.errors import SpecError
from milp_search.dispatch.comparison.drift import chain_similarities
from milp_search.dispatch.comparison.measured import SeedValues, row_values
from milp_search.dispatch.comparison.memory_figure import memory_figure
from milp_search.dispatch.comparison.parts import rows_part
from milp_search.dispatch.comparison.request import (
    LOGO_METRICS,
    Comparison,
    Results,
    Subject,
    metric_column,
    with_metrics,
)
from milp_search.dispatch.comparison.tables import LOSS, MEASURED, Seeds
from milp_search.space.row_space import Row
from milp_search.study.result_charts import dot_chart, heat_map, line_chart
from milp_search.study.result_table import Cell, Column, Line, ResultTable
from milp_search.study.table_page import ResultFigure

Levels = tuple[int, ...] | None

PERIODS = 5  # LoGo, Figure 6

GROUPS = (
    Row("OPPU", "oppu"),
    Row("LoGo, local alone", "logo", {"global_periods": 0}),
    Row("LoGo, global alone", "logo_global"),
    Row("LoGo", "logo"),
    Row("OPPU + RAG", "oppu_rag"),
    Row("LoGo + RAG", "logo_rag"),
)
"""LoGo, Figure 2: without and with global knowledge, without and with retrieved items."""

MEDIATORS = (
    Row("Base model", "base"),
    Row("OPPU", "oppu"),
    Row("LoGo, no mediator", "logo_apart"),
    Row("LoGo, shuffled", "logo_shuffled"),
    Row("LoGo, temporal", "logo"),
)
"""LoGo, Figure 4, over the base and OPPU."""

LIMITED = (Row("Base model", "base"), Row("OPPU", "oppu"), Row("LoGo", "logo"))
"""LoGo, Figure 5."""


def make_figure(name: str, one: Subject, seeds: Seeds, levels: Levels) -> Comparison:
    """Returns an analysis of the papers, to be run.

    Args:
        name: One of `FIGURES`.
        one: The data set and model.
        seeds: The training seeds.
        levels: The values of what is limited; None chooses them by the data.

    Returns:
        The analysis in the making.

    Raises:
        SpecError: It cannot be made of this study.
    """
    if levels is not None and name not in _LEVELLED:
        raise SpecError(f"expected no levels for {name!r}, got {', '.join(map(str, levels))}")
    return FIGURES[name](one, seeds, levels)


def _groups(
    name: str, title: str, group: str, more: tuple[str, ...],
    one: Subject, seeds: Seeds, levels: Levels,
) -> Comparison:  # fmt: skip
    """Returns the rows of `GROUPS`, measured on a group of users and on all."""
    plain = (*LOGO_METRICS[one.task.kind], LOSS)
    of_group = tuple(f"{metric}@{group}" for metric in plain)
    drawn = (of_group[0], of_group[-1], *more)
    return _dots(name, title, GROUPS, (*of_group, *more, *plain), drawn, one, seeds)


def _mediators(one: Subject, seeds: Seeds, levels: Levels) -> Comparison:
    """Returns LoGo with each mediator beside OPPU and the base."""
    title = "Mediator: local adapters over global ones (LoGo, Figure 4)"
    metrics = (*LOGO_METRICS[one.task.kind], LOSS)
    return _dots("mediator", title, MEDIATORS, metrics, metrics, one, seeds)


def _dots(
    name: str, title: str, rows: Sequence[Row], metrics: Sequence[str], drawn: Sequence[str],
    one: Subject, seeds: Seeds,
) -> Comparison:  # fmt: skip
    """Returns rows with a column per metric, and a chart of those that are drawn."""
    part = rows_part(name, with_metrics(one.spec, metrics), rows, seeds, one.file)

    def collect(folder: Path) -> Results:
        found = row_values(folder / name)
        columns = tuple(metric_column("", metric) for metric in metrics)
        lines = [_line(row.label, metrics, found.get(row.label, {})) for row in rows]
        table = ResultTable(name, title, MEASURED, columns, tuple(lines))
        charts = [ResultFigure(metric, _SPREAD, dot_chart(table, metric)) for metric in drawn]
        return [table], charts

    return Comparison(name, title, (part,), collect)


def _limited_history(one: Subject, seeds: Seeds, levels: Levels) -> Comparison:
    """Returns quality over the number of latest training items that each user keeps."""
    title = "Limited history: quality over the items that a user has (LoGo, Figure 5a)"
    chosen = levels or _fractions(max(len(user.history) for user in one.task.targets))
    metrics = (*LOGO_METRICS[one.task.kind], LOSS)
    spec = with_metrics(one.spec, metrics)
    parts = [
        rows_part(
            f"history-{level}",
            spec.model_copy(update={"data": replace(spec.data, max_target_history=level)}),
            LIMITED,
            seeds,
            one.file,
        )
        for level in chosen
    ]

    def collect(folder: Path) -> Results:
        found = [row_values(folder / f"history-{level}") for level in chosen]
        labels = [row.label for row in LIMITED]
        return _levelled("limited-history", title, "items", labels, metrics, chosen, found)

    return Comparison("limited-history", title, tuple(parts), collect)


def _limited_users(one: Subject, seeds: Seeds, levels: Levels) -> Comparison:
    """Returns quality over the number of users whom the global adapters learn from."""
    title = "Limited users: quality over the users behind the global adapters (LoGo, Figure 5b)"
    users = len(one.task.targets)
    chosen = levels or _fractions(users)
    if max(chosen) > users:
        raise SpecError(
            f"expected levels of at most the {users} target users, got {max(chosen)}",
            remedy="lower --levels, or raise `data.targets` in the study file",
        )
    metrics = (*LOGO_METRICS[one.task.kind], LOSS)
    rows = [Row("OPPU", "oppu")]
    for level in chosen:
        fields = {"global_users": level}
        rows.append(Row(f"LoGo, global alone, {level}", "logo_global", fields))
        rows.append(Row(f"LoGo, {level}", "logo", fields))
    part = rows_part("users", with_metrics(one.spec, metrics), rows, seeds, one.file)

    def collect(folder: Path) -> Results:
        values = row_values(folder / "users")
        labels = ["OPPU", "LoGo, global alone", "LoGo"]
        found = [
            {label: values.get(f"{label}, {level}", values.get(label, {})) for label in labels}
            for level in chosen
        ]
        return _levelled("limited-users", title, "users", labels, metrics, chosen, found)

    return Comparison("limited-users", title, (part,), collect)


def _drift(one: Subject, seeds: Seeds, levels: Levels) -> Comparison:
    """Returns how the global adapters change, and quality with those of each period."""
    title = "Drift: global knowledge over the periods (LoGo, Figure 6)"
    metrics = (*LOGO_METRICS[one.task.kind], LOSS)
    kinds = {"LoGo, global alone": "logo_global", "LoGo": "logo"}
    rows = [
        Row(f"{label}, T{period}", method, {"time_splits": PERIODS, "global_periods": period})
        for label, method in kinds.items()
        for period in range(1, PERIODS + 1)
    ]
    part = rows_part("periods", with_metrics(one.spec, metrics), rows, seeds, one.file)
    chosen = tuple(range(1, PERIODS + 1))

    def collect(folder: Path) -> Results:
        values = row_values(folder / "periods")
        found = [
            {label: values.get(f"{label}, T{period}", {}) for label in kinds} for period in chosen
        ]
        tables, figures = _levelled("drift", title, "period", [*kinds], metrics, chosen, found)
        if not values.get(rows[-1].label):
            return tables, figures
        square = chain_similarities(folder / "periods", rows[-1].label)
        if not square:
            return tables, figures
        # Short histories have fewer periods.
        names = [f"T{period + 1}" for period in range(len(square))]
        similar = ResultTable(
            "drift-similarity",
            "Cosine similarity of the global adapters between periods",
            "Of all LoRA matrices of a community's adapter as one vector; mean over communities, "
            "first seed.",
            tuple(Column("", name) for name in names),
            tuple(
                Line(name, tuple(Cell((value,)) for value in row))
                for name, row in zip(names, square, strict=True)
            ),
        )
        chart = ResultFigure(similar.title, similar.note, heat_map(names, square, "cosine"))
        return [*tables, similar], [*figures, chart]

    return Comparison("drift", title, (part,), collect)


def _levelled(
    name: str, title: str, unit: str, labels: Sequence[str], metrics: Sequence[str],
    levels: Sequence[int], found: Sequence[dict[str, SeedValues]],
) -> Results:  # fmt: skip
    """Returns a table with a column per level and metric, and a line chart per metric."""
    columns = [
        metric_column(f"{level} {unit}" if unit != "period" else f"T{level}", metric)
        for metric in metrics
        for level in levels
    ]
    lines = [
        Line(
            label,
            tuple(
                Cell(values.get(label, {}).get(metric, ()))
                for metric in metrics
                for values in found
            ),
        )
        for label in labels
    ]
    table = ResultTable(name, title, MEASURED, tuple(columns), tuple(lines))
    charts = [
        ResultFigure(metric, _SPREAD, line_chart(table, unit, levels, metric)) for metric in metrics
    ]
    return [table], charts


def _line(label: str, metrics: Sequence[str], values: SeedValues) -> Line:
    return Line(label, tuple(Cell(values.get(metric, ())) for metric in metrics))


def _fractions(most: int) -> tuple[int, ...]:
    """Returns an eighth, a quarter, half and all of a number, each once and at least 1."""
    return tuple(sorted({max(most // part, 1) for part in (8, 4, 2, 1)}))


_SPREAD = "Bars are standard deviations over seeds."

_LEVELLED = ("limited-history", "limited-users", "memory")

_COLD = "Cold start: users with short histories (LoGo, Figure 2, top)"
_SKEWED = "Diversity: users with long histories (LoGo, Figure 2, bottom)"

FIGURES: dict[str, Callable[[Subject, Seeds, Levels], Comparison]] = {
    "cold-start": partial(_groups, "cold-start", _COLD, "cold_start", ()),
    "diversity": partial(
        _groups, "diversity", _SKEWED, "high_activity", ("diversity@high_activity", "diversity")
    ),
    "mediator": _mediators,
    "limited-history": _limited_history,
    "limited-users": _limited_users,
    "drift": _drift,
    "memory": lambda one, seeds, levels: memory_figure(one, levels),
}
