"""Kinds of models that cannot be searched are refused before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milp_search.adapters.base_model import load_base_model, read_config, read_shape
from milp_search.core.errors import ModelError

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "t5": ({"model_type": "t5"}, r"encoder-decoder \(t5\)(.|\n)*one stack(.|\n)*RoBERTa"),
    "bart": ({"model_type": "bart"}, r"encoder-decoder \(bart\)(.|\n)*decoder-only"),
    "mixtral": ({"model_type": "mixtral"}, r"mixture of 8 experts \(mixtral\)(.|\n)*dense model"),
    "qwen_moe": ({"model_type": "qwen2_moe", "num_experts": 60}, r"mixture of 60 experts"),
    "deepseek": ({"model_type": "deepseek_v3"}, r"mixture of 256 experts"),
    # Its number of experts stands in a configuration of its own.
    "dbrx": ({"model_type": "dbrx", "ffn_config": {"moe_num_experts": 16}}, "of 16 experts"),
    "distilbert": ({"model_type": "distilbert"}, r"neither a causal(.|\n)*bert, camembert"),
}


def folder(tmp_path: Path, config: dict[str, Any]) -> str:
    """Returns a model folder that holds nothing but a configuration."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


@pytest.mark.parametrize("read", [read_config, read_shape, load_base_model])
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_by_its_configuration_alone(kind: str, read: Any, tmp_path: Path) -> None:
    config, message = REFUSED[kind]
    with pytest.raises(ModelError, match=message):
        read(folder(tmp_path, config))


def test_a_dense_model_whose_configuration_knows_experts_is_taken(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_local_experts": 1, "num_experts": None}
    assert read_config(folder(tmp_path, config)).model_type == "llama"
