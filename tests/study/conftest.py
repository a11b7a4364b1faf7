"""What the tests of the study share: small spaces and studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from milp_search.space.search_space import SearchSpace
from milp_search.space.space_file import load_search_space
from milp_search.study.study import Study
from study.making import GOALS, Make

SPACE = """\
name: little
layers: 4
dimensions:
  lora_count: {low: 0, high: 4}
  lora_rank: [2, 4, 8, 16]
  ffn_layer_mask: search
  retrieved_items: [0, 1, 2]
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    """A space of 4 x 5 x 16 x 3 arms over a model of four layers."""
    file = tmp_path / "little.yaml"
    file.write_text(SPACE)
    return load_search_space(file)


@pytest.fixture
def make(tmp_path: Path, space: SearchSpace) -> Iterator[Make]:
    """Creates studies, whose proposer needs no model, and closes them."""
    made: list[Study] = []

    def create(**given: object) -> Study:
        values = {"space": space, "objectives": GOALS, "proposer": "random", "initial_trials": 2}
        study = Study.create(tmp_path / f"study {len(made)}", **{**values, **given})  # type: ignore[arg-type]
        made.append(study)
        return study

    yield create
    for study in made:
        study.close()
