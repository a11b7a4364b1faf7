"""Space files: what they may say, and how bad ones are refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from milp_search.core.errors import SpecError
from milp_search.space.space_file import load_search_space, shipped_spaces

HEAD = "name: test\nlayers: 4\ndimensions:\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "space.yaml"
    file.write_text(text)
    return file


def refusal(folder: Path, text: str, layers: int | None = None) -> str:
    """Returns the message, without the folder, of a space file that is refused."""
    with pytest.raises(SpecError) as caught:
        load_search_space(write(folder, text), layers)
    return str(caught.value).removeprefix(f"{folder}/")


def test_a_file_becomes_a_space(tmp_path: Path) -> None:
    text = """
name: small
description: A test
layers: 2
count_reading: per_layer
target_maps: up
alpha_over_rank: 2
dimensions:
  communities: [1, 4]
  lora_rank: [4, 2]
  ffn_layer_mask: [0, 1]
"""
    space = load_search_space(write(tmp_path, text))
    assert (space.name, space.description, space.layers) == ("small", "A test", 2)
    assert (space.count_reading, space.target_maps, space.alpha_over_rank) == ("per_layer", "up", 2)
    assert [(axis.name, axis.values) for axis in space.parameters] == [
        ("lora_rank", (2, 4)),
        ("communities", (1, 4)),
    ]
    assert space.fixed == {"ffn_layer_0": 0, "ffn_layer_1": 1}


def test_auto_is_the_base_models_number_of_layers(tmp_path: Path) -> None:
    text = "name: a\ndimensions:\n  lora_count: {low: 1, high: auto}\n  ffn_layer_mask: search\n"
    space = load_search_space(write(tmp_path, text), layers=3)
    assert space.layers == 3
    assert space.parameters[0].values == (1, 2, 3)
    assert [axis.name for axis in space.parameters[1:]] == [
        "ffn_layer_0",
        "ffn_layer_1",
        "ffn_layer_2",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lora_rnak: [8]", "4:3: unknown dimension 'lora_rnak'\n  did you mean `lora_rank`?"),
        ("lora_rank: [8, -2]", "4:18: lora_rank: expected 1 to 65536, got -2"),
        ("lora_rank: 0", "4:3: lora_rank: expected 1 to 65536, got 0"),
        ("lora_rank: auto", "4:3: lora_rank: expected a whole number, got 'auto'"),
        ("lora_rank: [8, 8]", "4:18: lora_rank: expected each value once, got 8 again"),
        ("lora_rank: []", "4:3: lora_rank: expected at least one value, got an empty list"),
        ("lora_rank: 2.5", "4:3: lora_rank: expected a whole number, got 2.5"),
        ("lora_count: -1", "4:3: lora_count: expected 0 to 65536, got -1"),
        ("lora_count: x", "4:3: lora_count: expected a whole number or 'auto', got 'x'"),
        ("lora_count: {low: 9, high: auto}", "4:16: lora_count: expected low <= high, got low 9"),
        ("lora_count: {low: 0}", "4:3: lora_count: expected the key 'high', got none"),
        (
            "lora_count: {low: 0, high: 4, step: 2}",
            "4:33: lora_count: expected the keys 'low' and 'high', got 'step'",
        ),
        (
            "lora_count: {low: 0, high: 5000}",
            "4:3: lora_count: expected at most 4096 values, got 5001",
        ),
        ("ffn_layer_mask: top", "4:3: ffn_layer_mask: expected the name of a mask or a list"),
        ("ffn_layer_mask: [0, 2]", "4:23: ffn_layer_mask: expected 0 or 1, got 2"),
        (
            "ffn_layer_mask: [0, 1, 1, 0, 1]",
            "4:3: ffn_layer_mask: mask longer than the model: expected 4 entries, got 5",
        ),
        (
            "ffn_layer_mask: [0, 1]",
            "4:3: ffn_layer_mask: mask shorter than the model: expected 4 entries, got 2",
        ),
        ("time_splits: [0, 5]", "4:17: time_splits: expected 1 to 65536, got 0"),
        ("communities: 0", "4:3: communities: expected 1 to 65536, got 0"),
        ("retrieved_items: [1, -1]", "4:24: retrieved_items: expected 0 to 65536, got -1"),
    ],
)
def test_a_bad_dimension_is_refused_at_its_place(tmp_path: Path, line: str, message: str) -> None:
    assert refusal(tmp_path, f"{HEAD}  {line}\n").startswith(f"space.yaml:{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\n", "1:1: expected the key 'dimensions', got none"),
        ("name: a\ndimensions: 3\n", "2:1: dimensions: expected a mapping, got 3"),
        ("name: a\nlayers: many\ndimensions: {}\n", "2:1: layers: expected a valid integer or 'au"),
        ("name: a\nlayers: 0\ndimensions: {}\n", "2:1: layers: expected 1 to 1024, got 0"),
        ("name: a\nlayrs: 4\ndimensions: {}\n", "2:1: unknown key 'layrs'\n  did you mean `layer"),
        ("name: a\ndimensions: {}\n", "1:1: layers: expected a base model for 'auto', got none"),
        (
            "name: a\nlayers: 4\nalpha_over_rank: 0\ndimensions: {}\n",
            "3:1: alpha_over_rank: expected greater than 0, got 0",
        ),
        (
            "name: a\nlayers: 4\ncount_reading: derived\ndimensions: {lora_count: 3}\n",
            "4:14: lora_count: expected no such dimension where `count_reading` is 'derived'",
        ),
    ],
)
def test_a_bad_file_is_refused_at_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text).startswith(f"space.yaml:{message}")


def test_a_space_for_another_model_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEAD + "  lora_rank: 8\n", layers=8).startswith(
        "space.yaml:2:1: layers: expected 8 as in the base model, got 4"
    )


def test_a_mask_longer_than_an_auto_model_is_refused(tmp_path: Path) -> None:
    text = "name: a\nlayers: auto\ndimensions:\n  ffn_layer_mask: [1, 1, 1]\n"
    assert "4:3: ffn_layer_mask: mask longer than the model" in refusal(tmp_path, text, layers=2)


def test_a_space_of_a_thousand_million_layers_is_refused_at_once(tmp_path: Path) -> None:
    text = "name: a\nlayers: 1000000000\ndimensions: {ffn_layer_mask: search}\n"
    load_search_space("milp", layers=2)  # imports are not what is timed
    start = time.process_time()
    assert "expected 1 to 1024" in refusal(tmp_path, text)
    assert time.process_time() - start < 0.1


def test_an_unknown_name_suggests_a_shipped_space() -> None:
    with pytest.raises(SpecError, match="did you mean `milp_logo`"):
        load_search_space("milp_lgoo", layers=8)


def test_every_shipped_space_opens_with_one_comment_that_names_its_source() -> None:
    for file in shipped_spaces().values():
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# ")
        assert "Source: " in lines[0]
        assert not lines[1].startswith("#")


def test_every_shipped_space_is_called_as_its_file() -> None:
    assert {name: load_search_space(name, layers=8).name for name in shipped_spaces()} == {
        name: name for name in shipped_spaces()
    }


# Sizes by hand for L = 32: 33 counts, 5 ranks, 2^32 masks; 3 T, 3 k, 4 c.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("milp", 33 * 5 * 2**32),
        ("logo", 3 * 3 * 4),
        ("logo_quickstart", 1),
        # T, k, c, notes on or off, and their length.
        ("logo_blackbox", 4 * 4 * 4 * 2 * 3),
        ("milp_logo", 33 * 5 * 2**32 * 36),
        ("milp_num", 33),
        ("milp_size", 5),
        ("milp_layer", 2**32),
        ("milp_num_size", 33 * 5),
        ("milp_num_layer", 33 * 2**32),
        ("milp_size_layer", 5 * 2**32),
        ("milp_num_size_layer", 33 * 5 * 2**32),
        ("quickstart", 33 * 4 * 2**32 * 27),
        ("adapter_scope", 3 * 2**32 * 4 * 4 * 2 * 3),
    ],
)
def test_shipped_spaces_have_the_papers_sizes(name: str, size: int) -> None:
    assert load_search_space(name, layers=32).size == size


def test_no_shipped_space_is_left_out_above() -> None:
    assert len(shipped_spaces()) == 14
