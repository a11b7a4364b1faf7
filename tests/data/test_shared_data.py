"""The public data sets beside the repository, where they are there; counts are their READMEs'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milp_search.core.settings import DataSettings
from milp_search.data.clean import clean
from milp_search.data.formats import FORMATS
from milp_search.data.load import load_task
from milp_search.data.locate import locate

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no public data beside the repository")


@pytest.mark.parametrize(
    ("folder", "format", "task", "users", "interactions"),
    [
        ("huffpost", "jsonl", None, 139, 5217),
        ("huffpost", "lamp", "LaMP_4", 137, None),
        ("huffpost", "lamp", "LaMP_2N", 117, None),
        ("movielens_small_2018", "jsonl", None, 58, 3683),
        ("movielens_small_2018", "lamp", "LaMP_2M", 13, None),
        ("amazon_musical", "jsonl", "rating", 1380, 5048),
        ("amazon_musical", "lamp", "LaMP_3", 576, None),
        ("amazon_qa_appliances", "jsonl", None, 1153, 9008),
        ("stackexchange", "jsonl", None, 749, 2314),
        ("stackexchange", "lamp", "SE_answer", 125, None),
        ("acl_anthology", "jsonl", None, 159, 2165),
        ("acl_anthology", "lamp", "LaMP_5", 159, None),
        ("git_subjects", "jsonl", None, 24, 1565),
        ("git_subjects", "lamp", "git_subject", 24, None),
        ("meddia", "lamp", "MedDia", 553, None),
        # 2735 pairs, of which 2 are said twice within one dialogue; 40 turns empty or errors.
        ("meddia", "jsonl", None, 554, 2733),
        ("meddia", "malp", None, 555, 2733),
    ],
)
def test_a_folder_has_the_users_its_readme_says(
    folder: str, format: Any, task: str | None, users: int, interactions: int | None
) -> None:
    settings = DataSettings(str(SHARED / folder), format, task)
    population = clean(FORMATS[format].read(locate(settings), settings))
    assert len(population.users) == users
    if interactions is not None:
        assert sum(user.size for user in population.users) == interactions


@pytest.mark.parametrize(
    ("folder", "task", "users", "queries"),
    [
        ("huffpost", "LaMP_4", 100, 639),
        ("huffpost", "LaMP_2N", 100, 583),
        ("movielens_small_2018", "LaMP_2M", 13, 42),
        ("amazon_musical", "LaMP_3", 100, 243),
        ("acl_anthology", "LaMP_5", 100, 375),
    ],
)
def test_an_oppu_file_keeps_all_its_users_and_queries(
    folder: str, task: str, users: int, queries: int
) -> None:
    settings = DataSettings(str(SHARED / folder), "oppu", task, min_interactions=3)
    loaded = load_task(settings)
    assert len(loaded.targets) == users
    assert sum(len(target.test) for target in loaded.targets) == queries


def test_the_dialogues_agree_with_their_derived_form() -> None:
    """The derived form also masks names and numbers, so some texts differ."""
    raw = load_task(DataSettings(str(SHARED / "meddia"), "malp", targets=555))
    derived = load_task(DataSettings(str(SHARED / "meddia"), "jsonl", targets=555))
    texts = [
        {(i.query, i.response) for t in task.targets for i in t.history} for task in (raw, derived)
    ]
    assert len(texts[0] & texts[1]) > 0.9 * len(texts[1])
    assert {t.user for t in raw.targets} == {t.user for t in derived.targets}


def test_papers_of_several_authors_do_not_leak_between_them() -> None:
    task = load_task(DataSettings(str(SHARED / "acl_anthology"), "jsonl"))
    held = {i.response for t in task.targets for i in t.validation + t.test}
    trained = {i.response for t in task.targets for i in t.history}
    trained |= {i.response for other in task.others for i in other.interactions}
    assert not held & trained
