"""The benchmark of trials, at small size: its one command measures every part."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trials" / "run.py"
SMALL = ("--small", "--repeats", "1", "--trials", "6")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of the results, without ending."""
    out: Path = tmp_path_factory.mktemp("results") / "trials"
    subprocess.run([sys.executable, SCRIPT, *SMALL, "--out", out], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def parts(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows by part."""
    content = json.loads(out.with_suffix(".json").read_text())
    return {name: part["rows"] for name, part in content.items()}


def test_every_part_is_measured(parts: dict[str, list[dict[str, Any]]]) -> None:
    assert all(parts[name] for name in ("masks", "generation", "study", "overhead", "memory"))


def test_every_mask_is_timed_cold_and_warm_at_both_lengths(
    parts: dict[str, list[dict[str, Any]]],
) -> None:
    keys = {(row["setting"], row["mask"], row["state"]) for row in parts["masks"]}
    assert len(keys) == len(parts["masks"]) == 2 * 5 * 2
    assert all(row["plain_s"][0] > 0 and row["packed_s"][0] > 0 for row in parts["masks"])


def test_packed_and_plain_trials_agree(parts: dict[str, list[dict[str, Any]]]) -> None:
    assert max(row["loss_difference"] for row in parts["masks"]) < 1e-4
    assert sum(row["different_generations"] for row in parts["masks"]) == 0


def test_packed_and_plain_studies_try_the_same_arms_and_find_the_same_front(
    parts: dict[str, list[dict[str, Any]]],
) -> None:
    packed, plain = parts["study"]
    assert (packed["way"], packed["trials"], plain["way"], plain["trials"]) == (
        "packed", 6, "plain", 6,
    )  # fmt: skip
    assert plain["same_arms"]
    assert plain["same_front"]
    assert plain["largest_pack"] == 1
    assert not plain["reused"]


def test_the_closed_form_of_memory_is_no_less_than_the_measured_peak(
    parts: dict[str, list[dict[str, Any]]],
) -> None:
    assert all(row["measured_mib"] <= row["predicted_mib"] for row in parts["memory"])


def test_the_tables_say_that_no_gpu_was_measured(out: Path) -> None:
    assert "Not measured on a GPU." in out.with_suffix(".md").read_text()


def test_the_plot_is_a_picture(out: Path) -> None:
    assert ElementTree.parse(out.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_the_model_for_a_gpu_has_more_than_half_a_billion_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    built = importlib.import_module("built")
    model = built.llama(built.LARGE, "meta")
    assert sum(weight.numel() for weight in model.parameters()) > 5e8
