"""Tables: every row of the papers stands in them, and they are made of the studies they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.comparison.making import small_subject
from milp_search.adapters.base_model import parameter_count
from milp_search.core.errors import SpecError
from milp_search.core.methods import KNOWN_METHODS, METHODS
from milp_search.core.settings import EndpointSettings
from milp_search.dispatch.comparison import tables
from milp_search.dispatch.comparison.figures import FIGURES, make_figure
from milp_search.dispatch.comparison.paper import PAPER, checked_paper_data, paper_data, paper_value
from milp_search.dispatch.comparison.tables import (
    LOGO_1,
    LOGO_2,
    LOGO_4,
    MEASURED,
    MILP_2,
    MILP_4,
    MILP_5,
    SEARCHING,
    TABLES,
    make_table,
)
from milp_search.space.row_space import RowSpace
from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space
from milp_search.study.result_table import Cell

LABELS = {
    "logo-1": [row.label for row in LOGO_1],
    "logo-2": [row.label for row in LOGO_2],
    "logo-4": [row.label for row in LOGO_4],
    "milp-2": [*(row.label for row in MILP_2), "MiLP"],
    "milp-4": [*MILP_4],
    "milp-5": [row.label for row in MILP_5],
    "milp-7": ["Full training", "Multi-LoRA", "Multi-LoRA found"],
}


def test_each_table_has_the_papers_rows_and_no_others() -> None:
    assert set(LABELS) == set(TABLES) - {"methods"} == set(PAPER)
    for name, labels in LABELS.items():
        for rows in PAPER[name].values():
            assert list(rows) == labels


@pytest.mark.parametrize(
    "row", [*LOGO_1, *LOGO_2, *LOGO_4, *MILP_2, *MILP_5], ids=lambda row: row.label
)
def test_each_row_is_a_method_that_can_be_named(row: object) -> None:
    assert row.method in KNOWN_METHODS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("table", "data", "label", "metric", "value"),
    [
        ("logo-1", "LaMP_3", "LoGo + RAG (c = 1)", "mae", 0.161),
        ("logo-1", "LaMP_5", "P2P", "rouge_l", 0.431),
        ("logo-2", "LaMP_2M", "T = 10", "macro_f1", 0.656),
        ("logo-4", "LaMP_2M", "LoGo + profile with RAG", "macro_f1", 0.498),
        ("logo-4", "LaMP_4", "Base model + random", "rouge_l", 0.156),
        ("milp-2", "Reddit", "UeLP", "persona_f1", 0.704),
        ("milp-2", "MedDia", "MiLP", "rouge_1", 0.2413),
        ("milp-4", "AmazonQA", "Size + Layer", "persona_f1", 2.195),
        ("milp-5", "MedDia", "Memory injection", "rouge_l", 0.199),
        ("milp-7", "MedDia", "Multi-LoRA found", "trainable_params", 43.17e6),
    ],
)
def test_the_papers_numbers(table: str, data: str, label: str, metric: str, value: float) -> None:
    assert paper_value(table, data, label, metric) == pytest.approx(value)


def test_one_table_has_every_method(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    (part,) = make_table("methods", [one], (0,)).parts
    space = part.make_space(load_search_space(one.spec.space, layers=8), one.task)
    assert isinstance(space, RowSpace)
    assert [*space.rows] == [*METHODS]


def test_where_the_paper_has_no_number_there_is_none() -> None:
    assert paper_value("logo-1", None, "OPPU", "accuracy") is None
    assert paper_value("logo-1", "LaMP_3", "OPPU", "accuracy") is None
    assert paper_value("milp-2", "LaMP_3", "MiLP", "mae") is None


def test_a_data_set_of_the_papers_is_recognised_by_its_task_or_format(tmp_path: Path) -> None:
    spec = small_subject(tmp_path).spec
    assert paper_data(spec) is None
    lamp = spec.model_copy(update={"data": replace(spec.data, task="LaMP_4")})
    assert paper_data(lamp) == "LaMP_4"
    malp = spec.model_copy(update={"data": replace(spec.data, format="malp")})
    assert paper_data(malp) == "MedDia"


def test_another_data_set_than_the_papers_is_refused() -> None:
    assert checked_paper_data("logo-1", "LaMP_3") == "LaMP_3"
    for table, name in (("logo-1", "LaMP_9"), ("logo-1", "MedDia"), ("methods", "LaMP_3")):
        with pytest.raises(SpecError, match=f"the paper's table '{table}', got '{name}'"):
            checked_paper_data(table, name)


def test_rows_with_more_communities_than_there_are_users_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "row_values", lambda folder: {})
    one = small_subject(tmp_path)  # three users
    ((table,), _) = make_table("logo-1", [one], (0,)).collect(tmp_path)
    rows = ", ".join(f"LoGo + PAG (c = {count})" for count in (5, 10, 20))
    assert table.note == f"{MEASURED} small has so few users that c is 3 in: {rows}."
    ((table,), _) = make_table("logo-2", [one], (0,)).collect(tmp_path)
    assert table.note == MEASURED


def test_the_tables_that_a_budget_bounds_are_those_with_searches(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    for name in TABLES:
        if name != "logo-4":  # its model is behind an endpoint
            parts = make_table(name, [one], (0,)).parts
            searched = any(part.spec.proposer != "grid" for part in parts)
            assert searched == (name in SEARCHING), name


def test_a_table_measures_what_the_paper_shows_and_the_loss(tmp_path: Path) -> None:
    (part,) = make_table("milp-5", [small_subject(tmp_path)], (0, 1)).parts
    assert set(part.spec.metrics) >= {"rouge_1", "rouge_l", "persona_f1", "loss"}
    assert part.spec.budget.trials == 6


def test_a_part_of_rows_has_each_row_with_each_seed(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    (part,) = make_table("logo-2", [one], (0, 1)).parts
    space = part.make_space(load_search_space(one.spec.space, layers=8), one.task)
    assert isinstance(space, RowSpace)
    assert (space.seeds, [*space.rows]) == ((0, 1), LABELS["logo-2"])
    assert space.rows["T = 10"].time_splits == 10
    # The row of T = 5 is that of k = 1.
    assert space.rows["T = 5"] == space.rows["k = 1"]


def test_ablations_are_searches_of_their_own_with_each_seed(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    parts = make_table("milp-4", [one], (0, 1)).parts
    assert len(parts) == len({part.name for part in parts}) == 14
    assert [part.spec.seed for part in parts[:2]] == [0, 1]
    assert all(part.spec.method == "milp" for part in parts)
    space = parts[0].make_space(load_search_space("milp", layers=8), one.task)
    assert isinstance(space, SearchSpace)
    assert [axis.name for axis in space.parameters] == ["lora_count"]


def test_ablations_need_references(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    goals = (replace(one.spec.objectives[0], reference=None), one.spec.objectives[1])
    spec = one.spec.model_copy(update={"objectives": goals})
    with pytest.raises(SpecError, match="expected a reference for the objective 'loss'") as caught:
        make_table("milp-4", [replace(one, spec=spec)], (0,))
    assert caught.value.at is not None


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_parts_of_known_methods(name: str, tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    parts = make_figure(name, one, (0,), None).parts
    for part in parts:
        space = part.make_space(load_search_space("quickstart", layers=8), one.task)
        assert isinstance(space, RowSpace)
        assert len({*space.rows}) == part.spec.budget.trials
    assert len({part.name for part in parts}) == len(parts)


def test_what_needs_weights_is_refused_of_a_model_behind_an_endpoint(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    asking = EndpointSettings("a-model", "http://127.0.0.1:1/v1")
    one = replace(one, spec=one.spec.model_copy(update={"endpoint": asking}))
    for name in TABLES.keys() - {"logo-4"}:
        with pytest.raises(SpecError, match="needs the model's weights, and 'small"):
            make_table(name, [one], (0,))
    for name in FIGURES:
        with pytest.raises(SpecError, match="needs the model's weights, and '"):
            make_figure(name, one, (0,), None)


def test_levels_decide_what_is_limited(tmp_path: Path) -> None:
    one = small_subject(tmp_path)
    parts = make_figure("limited-history", one, (0,), (2, 3)).parts
    assert [part.spec.data.max_target_history for part in parts] == [2, 3]
    (users,) = make_figure("limited-users", one, (0,), (1, 3)).parts
    space = users.make_space(load_search_space("quickstart", layers=8), one.task)
    assert isinstance(space, RowSpace)
    assert space.rows["LoGo, 1"].global_users == 1
    # All of the three targets is no limit.
    assert space.rows["LoGo, 3"].global_users is None


def test_more_users_than_there_are_are_no_level(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at most the 3 target users, got 50"):
        make_figure("limited-users", small_subject(tmp_path), (0,), (2, 50))


def test_levels_where_nothing_is_limited_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no levels for 'drift', got 1, 2"):
        make_figure("drift", small_subject(tmp_path), (0,), (1, 2))


def test_memory_of_prompts_grows_with_the_history_and_that_of_adapters_does_not(
    tmp_path: Path,
) -> None:
    comparison = make_figure("memory", small_subject(tmp_path), (0,), (2, 4, 10))
    (table,), (figure,) = comparison.collect(tmp_path)
    whole, retrieved, adapter = ([cell.values[0] for cell in line.cells] for line in table.lines)
    assert comparison.parts == ()
    assert whole[2] == pytest.approx(5 * whole[0], rel=0.02)
    assert retrieved[1] == retrieved[2] == whole[1]
    # Eight modules of rank 8 in the two layers of the mask, on three maps between 128 and 384.
    assert adapter == [8 * 8 * 3 * (128 + 384) * 2 / 2**20] * 3
    assert len(figure.chart["data"]) == 3


def test_ablations_show_the_tests_of_what_was_found_and_each_searchs_hypervolume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"small-num-seed0": 2.0, "small-num-seed1": 4.0}
    monkeypatch.setattr(
        tables, "found_values", lambda folder: {"persona_f1": (measured.get(folder.name, 1.0),)}
    )
    monkeypatch.setattr(tables, "found_hypervolume", lambda folder: len(folder.name))
    comparison = make_table("milp-4", [small_subject(tmp_path, paper="MedDia")], (0, 1))
    (table,), _ = comparison.collect(tmp_path)
    names = [column.name for column in table.columns]
    first = dict(zip(names, table.lines[0].cells, strict=True))
    assert first["persona_f1"] == Cell((2.0, 4.0), 2.027)
    assert first["hypervolume"] == Cell((15, 15))
    assert "Each seed is a search of its own" in table.note
    assert "The paper's numbers" in table.note


def test_sizes_stand_beside_that_of_the_whole_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "found_values", lambda folder: {"trainable_params": (5.0,)})
    comparison = make_table("milp-7", [small_subject(tmp_path)], (0,))
    (table,), _ = comparison.collect(tmp_path)
    place = [column.name for column in table.columns].index("trainable_params")
    sizes = [line.cells[place].mean for line in table.lines]
    assert sizes == [float(parameter_count("embedded")), 5.0, 5.0]
    assert [part.spec.budget.trials for part in comparison.parts] == [1, 3]


def test_milp_stands_beside_its_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "row_values", lambda folder: {"TpLP": {"rouge_1": (0.5,)}})
    monkeypatch.setattr(tables, "found_values", lambda folder: {"rouge_1": (0.25,)})
    comparison = make_table("milp-2", [small_subject(tmp_path)], (0,))
    (table,), _ = comparison.collect(tmp_path)
    assert [line.cells[0].mean for line in table.lines] == [0.5, None, None, 0.25]
    assert "paper" not in table.note
