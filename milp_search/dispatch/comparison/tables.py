"""The papers' tables by name: to add one, write its maker and a line in `TABLES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from milp_search.adapters.base_model import parameter_count
from milp_search.core.errors import SpecError
from milp_search.core.methods import METHODS
from milp_search.core.records import TaskKind
from milp_search.dispatch.comparison.measured import (
    SeedValues,
    found_hypervolume,
    found_values,
    row_values,
)
from milp_search.dispatch.comparison.paper import paper_value
from milp_search.dispatch.comparison.parts import Part, rows_part, search_part
from milp_search.dispatch.comparison.request import (
    LOGO_METRICS,
    MILP_METRICS,
    Comparison,
    Results,
    Subject,
    metric_column,
    with_metrics,
)
from milp_search.dispatch.comparison.spaces import largest, narrowed
from milp_search.space.row_space import Row
from milp_search.space.yaml_reader import read_yaml
from milp_search.study.result_table import Cell, Column, Line, ResultTable
from milp_search.study.spec import Budget, StudySpec

Subjects = Sequence[Subject]
Seeds = tuple[int, ...]
Metrics = Mapping[TaskKind, tuple[str, ...]]

MEASURED = "Test queries; mean ± standard deviation over training seeds."
_PAPER = "The paper's numbers are from other data, models and hardware."
LOSS, SIZE = "loss", "trainable_params"

_ONE_TRIAL = {"budget": Budget(trials=1), "initial_trials": 1}

# LoGo, Table 2: five periods and one retrieved item by default.
_PAG = {"time_splits": 5, "retrieved_items": 1}

LOGO_1 = (
    Row("Base model", "base"),
    Row("Base model + random", "base_random"),
    Row("OPPU", "oppu"),
    Row("OPPU + RAG", "oppu_rag"),
    Row("OPPU + PAG", "oppu_pag"),
    Row("HYDRA", "hydra"),
    Row("PER-PCS", "per_pcs"),
    Row("P2P", "p2p"),
    Row("LoGo (c = 1)", "logo", {"communities": 1}),
    Row("LoGo + RAG (c = 1)", "logo_rag", {"communities": 1}),
    Row("LoGo + PAG (c = 1)", "logo_pag", {"communities": 1}),
    Row("LoGo + PAG (c = 5)", "logo_pag", {"communities": 5}),
    Row("LoGo + PAG (c = 10)", "logo_pag", {"communities": 10}),
    Row("LoGo + PAG (c = 20)", "logo_pag", {"communities": 20}),
)
"""LoGo, Table 1."""

LOGO_2 = (
    *(Row(f"T = {count}", "logo_pag", {**_PAG, "time_splits": count}) for count in (1, 5, 10)),
    *(Row(f"k = {count}", "logo_pag", {**_PAG, "retrieved_items": count}) for count in (1, 2, 4)),
)
"""LoGo, Table 2; its defaults are the +PAG row of Table 1."""

LOGO_4 = (
    Row("Base model", "chat"),
    Row("Base model + random", "chat_random"),
    Row("Base model + RAG", "chat_rag"),
    Row("Base model + profile", "chat_profile"),
    Row("Base model + profile with RAG", "chat_profile_rag"),
    Row("LoGo", "chat_logo"),
    Row("LoGo + RAG", "chat_logo_rag"),
    Row("LoGo + profile", "chat_logo_profile"),
    Row("LoGo + profile with RAG", "chat_logo_profile_rag"),
)
"""LoGo, Table 4: a model that can only be asked."""

MILP_2 = (Row("TpLP", "tplp"), Row("MaLP", "malp"), Row("UeLP", "uelp"))
"""MiLP, Table 2, without MiLP itself, which is searched for."""

MILP_5 = (
    Row("Instruction tuning", "milp_tuning_only"),
    Row("Memory injection", "milp_injection_only"),
    Row("Full MiLP", "milp"),
)
"""MiLP, Table 5."""

ALL_METHODS = tuple(Row(name, name) for name in METHODS)
"""Every method that a study can name, as it is by default."""

MILP_4 = {
    "Num": ("lora_count",),
    "Size": ("lora_rank",),
    "Layer": ("ffn_layer_mask",),
    "Num + Size": ("lora_count", "lora_rank"),
    "Num + Layer": ("lora_count", "ffn_layer_mask"),
    "Size + Layer": ("lora_rank", "ffn_layer_mask"),
    "Num + Size + Layer": ("lora_count", "lora_rank", "ffn_layer_mask"),
}
"""MiLP, Table 4: what each row searches."""


def make_table(name: str, subjects: Subjects, seeds: Seeds) -> Comparison:
    """Returns a table of the papers, to be run.

    Args:
        name: One of `TABLES`.
        subjects: The data sets, one group of columns each.
        seeds: The training seeds.

    Returns:
        The table in the making.

    Raises:
        SpecError: The table cannot be made of these studies.
    """
    return TABLES[name](subjects, seeds)


def _of_rows(
    name: str, title: str, rows: Sequence[Row], metrics: Metrics, ranked: bool,
    subjects: Subjects, seeds: Seeds,
) -> Comparison:  # fmt: skip
    """Returns a table that trains each row on each data set."""
    parts = [
        rows_part(one.name, with_metrics(one.spec, _measured(one, metrics)), rows, seeds, one.file)
        for one in subjects
    ]

    def collect(folder: Path) -> Results:
        found = [row_values(folder / one.name) for one in subjects]
        labels = [row.label for row in rows]
        table = _table(name, title, labels, subjects, metrics, found, ranked=ranked)
        notes = [table.note, *(note for one in subjects if (note := _fewer_communities(rows, one)))]
        return [replace(table, note=" ".join(notes))], []

    return Comparison(name, title, tuple(parts), collect)


def _fewer_communities(rows: Sequence[Row], one: Subject) -> str:
    """Returns which rows have fewer communities than they say, empty where there is none."""
    users = len(one.task.targets)
    fewer = [row.label for row in rows if row.fields.get("communities", 0) > users]
    if not fewer:
        return ""
    return f"{one.name} has so few users that c is {users} in: {', '.join(fewer)}."


def _milp_2(subjects: Subjects, seeds: Seeds) -> Comparison:
    """Returns the baselines, and MiLP with the set-up that a search of it finds."""
    title = "MiLP and its baselines (MiLP, Table 2)"
    parts: list[Part] = []
    for one in subjects:
        spec = with_metrics(one.spec, _measured(one, MILP_METRICS))
        parts.append(rows_part(f"{one.name}-baselines", spec, MILP_2, seeds, one.file))
        parts.append(_milp_search(one, seeds))

    def collect(folder: Path) -> Results:
        found = [
            {
                **row_values(folder / f"{one.name}-baselines"),
                "MiLP": found_values(folder / _search_name(one)),
            }
            for one in subjects
        ]
        labels = [*(row.label for row in MILP_2), "MiLP"]
        return [_table("milp-2", title, labels, subjects, MILP_METRICS, found)], []

    return Comparison("milp-2", title, tuple(parts), collect)


def _milp_4(subjects: Subjects, seeds: Seeds) -> Comparison:
    """Returns a search of each subset of MiLP's space with each seed, under one budget."""
    title = "What is searched: MiLP's ablations (MiLP, Table 4)"
    for one in subjects:
        _require_references(one)
    parts = [
        search_part(
            _ablation_name(one, label, seed),
            _searching(one, (seed,)).model_copy(update={"seed": seed}),
            partial(narrowed, searched=searched),
            one.file,
        )
        for one in subjects
        for label, searched in MILP_4.items()
        for seed in seeds
    ]

    def values(folder: Path, one: Subject, label: str) -> SeedValues:
        folders = [folder / _ablation_name(one, label, seed) for seed in seeds]
        tests = [found_values(part) for part in folders]
        names = dict.fromkeys(name for test in tests for name in test)
        volumes = [volume for part in folders if (volume := found_hypervolume(part)) is not None]
        by_name = {name: tuple(v for test in tests for v in test.get(name, ())) for name in names}
        return {**by_name, "hypervolume": tuple(volumes)}

    def collect(folder: Path) -> Results:
        found = [{label: values(folder, one, label) for label in MILP_4} for one in subjects]
        extra = (Column("", "hypervolume", "maximize", ranked=False),)
        table = _table("milp-4", title, [*MILP_4], subjects, MILP_METRICS, found, extra)
        return [replace(table, note=f"{table.note} {_ABLATION_NOTE}")], []

    return Comparison("milp-4", title, tuple(parts), collect)


_ABLATION_NOTE = (
    "Each seed is a search of its own, with the same budget in every row; tested is its best "
    "trial in the first objective. Hypervolume is that of the search, on validation queries."
)


def _milp_7(subjects: Subjects, seeds: Seeds) -> Comparison:
    """Returns the sizes of full training, LoRA in all layers, and the set-up that is found."""
    title = "Trainable parameters (MiLP, Table 7)"
    parts = [
        part
        for one in subjects
        for part in (
            search_part(
                f"{one.name}-all-layers",
                _searching(one, seeds).model_copy(update=_ONE_TRIAL),
                largest,
                one.file,
            ),
            _milp_search(one, seeds),
        )
    ]

    def collect(folder: Path) -> Results:
        found = [
            {
                "Full training": {SIZE: (_size(one.spec),)},
                "Multi-LoRA": found_values(folder / f"{one.name}-all-layers"),
                "Multi-LoRA found": found_values(folder / _search_name(one)),
            }
            for one in subjects
        ]
        extra = (Column("", SIZE, "minimize", ranked=False),)
        return [_table("milp-7", title, [*found[0]], subjects, MILP_METRICS, found, extra)], []

    return Comparison("milp-7", title, tuple(parts), collect)


def _searching(one: Subject, test_seeds: Seeds) -> StudySpec:
    """Returns the search of MiLP's set-up, its front tested with these seeds."""
    changes = {"method": "milp", "test_seeds": test_seeds}
    return with_metrics(one.spec.model_copy(update=changes), _measured(one, MILP_METRICS))


def _milp_search(one: Subject, seeds: Seeds) -> Part:
    whole = partial(narrowed, searched=MILP_4["Num + Size + Layer"])
    return search_part(_search_name(one), _searching(one, seeds), whole, one.file)


def _size(spec: StudySpec) -> float:
    """Returns the number of the base model's own parameters."""
    return float(parameter_count(spec.base_model, trust_remote_code=spec.trust_remote_code))


def _search_name(one: Subject) -> str:
    return f"{one.name}-search"


def _ablation_name(one: Subject, label: str, seed: int) -> str:
    return f"{one.name}-{label.lower().replace(' + ', '-')}-seed{seed}"


def _measured(one: Subject, metrics: Metrics) -> tuple[str, ...]:
    """Returns what the table asks trials to measure, the loss beside what it shows.

    A model behind an endpoint tells no loss; of it the cost in tokens stands there.
    """
    if one.spec.endpoint is not None:
        return (*metrics[one.task.kind], "token_cost")
    beside = ("persona_f1_normalized",) if "persona_f1" in metrics[one.task.kind] else ()
    return (*metrics[one.task.kind], *beside, LOSS)


def _require_references(one: Subject) -> None:
    for place, goal in enumerate(one.spec.objectives):
        if goal.reference is None:
            raise SpecError(
                f"expected a reference for the objective {goal.metric!r}, got none",
                at=read_yaml(one.file).location(("objectives", place)),
                remedy="write `reference: VALUE`: hypervolumes of several searches can be "
                "compared only where all have the same",
            )


def _table(
    name: str,
    title: str,
    labels: Sequence[str],
    subjects: Subjects,
    metrics: Metrics,
    found: Sequence[Mapping[str, SeedValues]],
    extra: Sequence[Column] = (),
    *,
    ranked: bool = False,
) -> ResultTable:
    """Returns a table with a group of columns per data set; `found` has each one's rows."""
    columns: list[tuple[int, Column]] = []
    for place, one in enumerate(subjects):
        shown = metrics[one.task.kind]
        columns += [(place, metric_column(one.name, metric)) for metric in shown]
        beside = [metric for metric in _measured(one, metrics) if metric not in shown]
        columns += [(place, metric_column(one.name, metric, ranked=False)) for metric in beside]
        columns += [(place, replace(column, group=one.name)) for column in extra]
    lines = [
        Line(
            label,
            tuple(
                Cell(
                    found[place].get(label, {}).get(column.name, ()),
                    paper_value(name, subjects[place].paper, label, column.name),
                )
                for place, column in columns
            ),
        )
        for label in labels
    ]
    has_paper = any(cell.paper is not None for line in lines for cell in line.cells)
    note = f"{MEASURED} {_PAPER}" if has_paper else MEASURED
    return ResultTable(
        name, title, note, tuple(column for _, column in columns), tuple(lines), ranked
    )


_LOGO_1_TITLE = "LoGo and its baselines (LoGo, Table 1)"
_LOGO_2_TITLE = "Time splits and retrieved items of LoGo (LoGo, Table 2)"
_LOGO_4_TITLE = "LoGo for a model behind an endpoint (LoGo, Table 4)"
_MILP_5_TITLE = "What the stages of MiLP are worth (MiLP, Table 5)"

_METHODS_TITLE = "Every method by its name"

TABLES: dict[str, Callable[[Subjects, Seeds], Comparison]] = {
    "logo-1": partial(_of_rows, "logo-1", _LOGO_1_TITLE, LOGO_1, LOGO_METRICS, True),
    "logo-2": partial(_of_rows, "logo-2", _LOGO_2_TITLE, LOGO_2, LOGO_METRICS, False),
    "logo-4": partial(_of_rows, "logo-4", _LOGO_4_TITLE, LOGO_4, LOGO_METRICS, True),
    "milp-2": _milp_2,
    "milp-4": _milp_4,
    "milp-5": partial(_of_rows, "milp-5", _MILP_5_TITLE, MILP_5, MILP_METRICS, False),
    "milp-7": _milp_7,
    "methods": partial(_of_rows, "methods", _METHODS_TITLE, ALL_METHODS, MILP_METRICS, True),
}

SEARCHING = ("milp-2", "milp-4", "milp-7")
"""The tables with searches among their parts, which a budget of trials bounds."""
