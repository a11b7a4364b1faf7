"""What the surrogate costs and how good it is: single fits against BoTorch's, whole proposals.

    python benchmarks/search/surrogate.py        # about a quarter of an hour on one core

Seconds are those that the process computed on its one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import runpy
import statistics
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

from surrogate_fits import DIMENSION, HELD_OUT, NOISE, TRUTHS, Row, data_of, our_fits, stock_fit
from surrogate_proposals import CASES, CLOSED_FORM, Case, proposals

from milp_search.search.presets import EngineSettings, FitSettings
from milp_search.search.threads import single_thread

OUT = Path(__file__).parents[1] / "results" / "surrogate"
MACHINE = Path(__file__).parents[1] / "trials" / "machine.py"
PACKAGES = ("numpy", "scipy", "torch", "gpytorch", "botorch", "jax", "numpyro")
STOCK = "stock BoTorch"
SIZES = (100, 30)  # with warm fits and BoTorch's, and without
SMALL = EngineSettings(
    fit=FitSettings(windows=(6, 8, 12, 6), warmup=2, samples=8, draws=8, max_tree_depth=3),
    evaluations=60,
    restarts=2,
)
SMALL_CASE = Case(3, 12, ("loss", CLOSED_FORM), {1: 3.0, 2: 6.0})


def fits(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yields all single fits."""
    truths, sizes, settings = [*TRUTHS], SIZES, FitSettings()
    if arguments.small:
        truths, sizes, settings = truths[:1], (20, 12), SMALL.fit
    for truth in truths:
        for size in sizes:
            data, full = data_of(truth, size), size == sizes[0]
            made = [
                row
                for seed in range(arguments.seeds)
                for row in our_fits(data, seed, settings, warm=full)
            ]
            made += [stock_fit(data, seed) for seed in range(arguments.stock_seeds if full else 0)]
            print(f"{truth}, {size} observations: {len(made)} fits", flush=True)
            yield from ({"truth": truth, "size": size} | row for row in made)


def engine_runs(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yields all proposals."""
    settings = SMALL if arguments.small else EngineSettings()
    for case in [SMALL_CASE] if arguments.small else CASES:
        for seed in range(arguments.proposal_seeds):
            yield from proposals(case, seed, settings)
        print(f"{', '.join(case.metrics)}, {case.trials} trials: proposed", flush=True)


def markdown(found: dict[str, Any]) -> str:
    """Returns both tables and where they were measured."""
    lines = [
        f"Single fits, d = {DIMENSION}, noise {NOISE} of the truth's standard deviation, held-out "
        f"errors at {HELD_OUT} points. Warm fits go on from a study that grew to these "
        "observations; in some, chains start anew, as they do in turn while a study grows (one) or "
        "where new trials surprise them (two at a fit). The stock fit is "
        "`fit_fully_bayesian_model_nuts` by its defaults.",
        "",
        "| truth | n | fit | seeds | CPU s, median (highest) | stock / this | RMSE, mean "
        "[lowest, highest] | worst / best | NLL, mean [lowest, highest] |",
        "|---|---|---|---|---|---|---|---|---|",
        *_fit_lines(found["fits"]),
        "",
        "Whole proposals after a Sobol design, measured objectives noisy, trainable_params in "
        "closed form; q is the number of proposals made at once.",
        "",
        "| objectives | n | parameters | q | fit | seeds | CPU s, median (highest) | of it fit, "
        "median (highest) | target |",
        "|---|---|---|---|---|---|---|---|---|",
        *_proposal_lines(found["proposals"]),
        "",
        _where(found["machine"]),
    ]
    return "\n".join(lines) + "\n"


def _where(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']} before it "
        f"began; Python {machine['python']}, {versions}"
    )


def _fit_lines(rows: Sequence[Row]) -> Iterator[str]:
    for (truth, size, fit), some in _groups(rows, "truth", "size", "fit"):
        stock = [one["cpu_s"] for one in rows if _is(one, truth=truth, size=size, fit=STOCK)]
        spent, rmse = [one["cpu_s"] for one in some], [one["rmse"] for one in some]
        ratio = f"{statistics.median(stock) / statistics.median(spent):.1f}x" if stock else ""
        yield (
            f"| {truth} | {size} | {fit} | {len(some)} | {_seconds(spent)} | {ratio} | "
            f"{_range(rmse)} | {max(rmse) / min(rmse):.2f} | "
            f"{_range([one['nll'] for one in some])} |"
        )


def _proposal_lines(rows: Sequence[Row]) -> Iterator[str]:
    keys = ("metrics", "trials", "dimension", "batch", "fit", "target_s")
    for (metrics, trials, dimension, batch, fit, target), some in _groups(rows, *keys):
        yield (
            f"| {' + '.join(metrics)} | {trials} | {dimension} | {batch} | {fit} | {len(some)} | "
            f"{_seconds([one['cpu_s'] for one in some])} | "
            f"{_seconds([one['fit_cpu_s'] for one in some])} | {target:g} |"
        )


def _groups(rows: Sequence[Row], *keys: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Returns the rows by the values of keys, in the order in which these come first."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [*groups.items()]


def _is(row: Row, **values: Any) -> bool:
    return all(row[key] == value for key, value in values.items())


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({max(values):.2f})"


def _range(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def main() -> None:
    """Measures, prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=10, help="of our fits")
    parser.add_argument("--stock-seeds", type=int, default=4)
    parser.add_argument("--proposal-seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a trial run, of no meaning")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # BoTorch's and JAX's of the stock fit
    with single_thread():
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        # The other benchmarks' scripts are no package.
        machine = runpy.run_path(str(MACHINE))["machine"]("cpu") | {"versions": versions}
        found: dict[str, Any] = {
            "machine": machine,
            "fits": [*fits(arguments)],
            "proposals": [*engine_runs(arguments)],
        }
    text = markdown(found)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text(text)
    arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
