"""How far each dimension moves each objective on the quick-start study, against the seed spread.

    python benchmarks/landscape.py --out benchmarks/results/landscape

One dimension at a time leaves a default plan; every setting is trained with several seeds. The
effect of a dimension is the range of its settings' means, the spread is the standard deviation
over seeds, pooled over all settings. Writes a table (Markdown) and every measured value (JSON).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from milp_search.core.plan import TrialPlan
from milp_search.dispatch.drive import installed_versions

STUDY = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
METRICS = ("loss", "rouge_l", "trainable_params")
LAYERS = 8
DEFAULT: dict[str, Any] = {
    "rank": 8, "count": LAYERS, "mask": "11111111", "T": 2, "k": 1, "c": 4,
}  # fmt: skip
SETTINGS: dict[str, tuple[Any, ...]] = {
    "rank": (2, 4, 8, 16),
    "count": (1, 2, 4, 8),
    "mask": ("11111111", "00001111", "11110000", "00000001"),
    "T": (1, 2, 4),
    "k": (0, 1, 2),
    "c": (1, 2, 4),
}


def plan_of(setting: dict[str, Any]) -> TrialPlan:
    """Returns the plan of a setting, by the same reading of n as the search space's."""
    space = search_space()
    arm = {
        "lora_count": setting["count"],
        "lora_rank": setting["rank"],
        **{f"ffn_layer_{layer}": int(bit) for layer, bit in enumerate(setting["mask"])},
        "time_splits": setting["T"],
        "retrieved_items": setting["k"],
        "communities": setting["c"],
    }
    plan: TrialPlan = space.plan(arm, "milp_logo")
    return plan


@cache
def search_space() -> Any:
    """Returns the quick start's space."""
    from milp_search.space.space_file import load_search_space

    return load_search_space("quickstart", layers=LAYERS)


@cache
def runner(spec_file: str) -> Any:
    """Returns this process's trial runner, loaded once."""
    import torch

    from milp_search.dispatch.worker import TrialRunner
    from milp_search.study.spec_file import load_study_spec

    torch.set_num_threads(1)
    # Stages that settings share are kept while the benchmark runs.
    return TrialRunner(Path(tempfile.mkdtemp()), load_study_spec(spec_file))


def measured(setting: dict[str, Any], seed: int, spec_file: str) -> dict[str, float]:
    """Returns a setting's validation metrics after training with a seed, and the seconds."""
    start = time.monotonic()
    values, _ = runner(spec_file).evaluate(plan_of(setting), seed, "validation")
    return {name: values[name].mean for name in METRICS} | {"seconds": time.monotonic() - start}


def settings() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yields dimension, value and the whole setting, the default once per dimension."""
    for dimension, values in SETTINGS.items():
        for value in values:
            yield dimension, value, DEFAULT | {dimension: value}


def effects(results: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Returns (range of means, pooled seed spread) by dimension and metric."""
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for metric in METRICS:
        groups: dict[tuple[str, str], list[float]] = {}
        for row in results:
            groups.setdefault((row["dimension"], str(row["value"])), []).append(row[metric])
        pooled = statistics.fmean(statistics.variance(values) for values in groups.values()) ** 0.5
        for dimension in SETTINGS:
            means = [statistics.fmean(v) for (name, _), v in groups.items() if name == dimension]
            table.setdefault(dimension, {})[metric] = (max(means) - min(means), pooled)
    return table


def markdown(results: list[dict[str, Any]], seeds: int) -> str:
    """Returns the table of effects, then every setting's means."""
    lines = [
        f"Quick-start population, {seeds} seeds; default {DEFAULT}; "
        f"{platform.machine()}, {os.cpu_count()} cores, "
        + ", ".join(f"{k} {v}" for k, v in installed_versions().items() if k in ("torch", "peft")),
        "",
        "| dimension | "
        + " | ".join(f"{m}: range / spread" for m in METRICS)
        + " | moves by > 2 spreads |",
        "|---|" + "---|" * (len(METRICS) + 1),
    ]
    for dimension, row in effects(results).items():
        cells = [f"{size:.4g} / {spread:.3g}" for size, spread in row.values()]
        moved = [metric for metric, (size, spread) in row.items() if size > 2 * spread]
        lines.append(f"| {dimension} | {' | '.join(cells)} | {', '.join(moved) or 'none'} |")
    lines += ["", "| dimension | value | loss | rouge_l | seconds |", "|---|---|---|---|---|"]
    for dimension, value, _ in settings():
        rows = [r for r in results if (r["dimension"], r["value"]) == (dimension, value)]
        cells = [f"{statistics.fmean(r[m] for r in rows):.4f}" for m in ("loss", "rouge_l")]
        seconds = statistics.median(r["seconds"] for r in rows)
        lines.append(f"| {dimension} | {value} | {' | '.join(cells)} | {seconds:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes the landscape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/landscape"))
    parser.add_argument("--study", default=str(STUDY))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    unique = {json.dumps(setting): setting for _, _, setting in settings()}
    keys = [(key, seed) for key in unique for seed in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        futures = {
            (key, seed): pool.submit(measured, unique[key], seed, arguments.study)
            for key, seed in keys
        }
        values = {key: future.result() for key, future in futures.items()}
    results = [
        {"dimension": dimension, "value": value, "seed": seed, **values[json.dumps(setting), seed]}
        for dimension, value, setting in settings()
        for seed in range(arguments.seeds)
    ]
    text = markdown(results, arguments.seeds)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(text)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
