"""A table of real trainings: every plan of a grid of the quick start, trained with two seeds.

    python benchmarks/search/trainings.py --processes 2     # goes on where the table stops
    python benchmarks/search/trainings.py --write           # the table from what there is

The grid is complete, so that any search method can be run on it by look-up: LoRA on each of the
upper six layers or not (64 masks), rank, T, k and c. Rows are kept as JSON Lines while they are
made, and written as one Parquet file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pyarrow
import pyarrow.parquet

from milp_search.core.methods import METHODS
from milp_search.core.plan import AdapterPlan, TrialPlan
from milp_search.study.spec_file import load_study_spec

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "experiments" / "quickstart.yaml"
TABLE = ROOT / "benchmarks" / "results" / "trainings.parquet"
METRICS = ("loss", "rouge_l")
LAYERS, FREE = 8, 6  # the upper six of eight layers carry LoRA or not
RANKS, SPLITS, ITEMS, COMMUNITIES = (2, 8, 16), (1, 4), (0, 1, 2), (1, 4)
ALPHA_OVER_RANK = 4.0  # the quick start's
SEEDS = (0, 1)

Group = tuple[tuple[int, ...], int, int, int, int]
"""(mask, rank, T, c, seed): its plans differ in k only, and share what they train without it."""


def groups() -> list[Group]:
    """Returns all groups, the first seed's before the second's, each in random order."""
    found = []
    for seed in SEEDS:
        grid = [
            (mask, rank, splits, count, seed)
            for mask in itertools.product((0, 1), repeat=FREE)
            for rank, splits, count in itertools.product(RANKS, SPLITS, COMMUNITIES)
            # Without LoRA nothing but k matters.
            if any(mask) or (rank, splits, count) == (RANKS[0], SPLITS[0], COMMUNITIES[0])
        ]
        random.Random(seed).shuffle(grid)
        found += grid
    return found


def plan_of(mask: Sequence[int], rank: int, splits: int, count: int, items: int) -> TrialPlan:
    """Returns the plan of a row, in its canonical form."""
    ranks = (*(0 for _ in range(LAYERS - FREE)), *(rank * bit for bit in mask))
    plan = TrialPlan("milp_logo", AdapterPlan(ranks, ALPHA_OVER_RANK), splits, count, items)
    return plan.canonical(METHODS["milp_logo"])


@cache
def runner(folder: str) -> Any:
    """Returns this process's trial runner, loaded once."""
    import torch

    from milp_search.dispatch.worker import TrialRunner

    torch.set_num_threads(1)
    return TrialRunner(Path(folder), load_study_spec(STUDY))


def trained(group: Group, folder: str) -> list[dict[str, Any]]:
    """Returns a row per k: what the plan measures on the validation queries."""
    mask, rank, splits, count, seed = group
    rows = []
    for items in ITEMS:
        plan = plan_of(mask, rank, splits, count, items)
        start = time.process_time()
        values, _ = runner(folder).evaluate(plan, seed, "validation")
        row: dict[str, Any] = {f"layer_{2 + place}": bit for place, bit in enumerate(mask)}
        row |= {"rank": rank, "time_splits": splits, "communities": count}
        row |= {"retrieved_items": items, "seed": seed, "fingerprint": plan.fingerprint()}
        row["trainable_params"] = int(values["trainable_params"].mean)
        for name in METRICS:
            row[name], row[f"{name}_sem"] = values[name].mean, values[name].sem
            row[f"{name}_per_user"] = [float(value) for value in values[name].per_user]
        row["cpu_s"] = time.process_time() - start
        rows.append(row)
    return rows


def key_of(row: dict[str, Any]) -> Group:
    """Returns the group of a row."""
    mask = tuple(row[f"layer_{2 + place}"] for place in range(FREE))
    return mask, row["rank"], row["time_splits"], row["communities"], row["seed"]


def rows_in(file: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows made so far, those of the table first; a line cut short is left out."""
    if TABLE.exists():
        yield from pyarrow.parquet.read_table(TABLE).to_pylist()
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def make(file: Path, processes: int, seconds: float) -> None:
    """Trains what is missing, until all is there or the time is over."""
    made = {(key_of(row), row["retrieved_items"]) for row in rows_in(file)}
    counts = Counter(group for group, _ in made)
    missing = [group for group in groups() if counts[group] < len(ITEMS)]
    end = time.monotonic() + seconds
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        open(file, "a", encoding="utf-8") as out,
    ):
        waiting = iter(missing)
        running = {pool.submit(trained, g, folder) for g in itertools.islice(waiting, processes)}
        done = 0
        while running:
            future = next(as_completed(running))
            running.remove(future)
            out.write("".join(json.dumps(row) + "\n" for row in future.result()))
            out.flush()
            done += 1
            if done % 20 == 0:
                print(f"{len(made) // len(ITEMS) + done} of {len(groups())} groups", flush=True)
            if time.monotonic() < end:
                more = itertools.islice(waiting, 1)
                running |= {pool.submit(trained, group, folder) for group in more}


def write(file: Path) -> None:
    """Writes the rows made so far, each once, as one Parquet file."""
    rows = {(row["fingerprint"], row["seed"]): row for row in rows_in(file)}
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (key[1], key[0]))]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(ordered)
    pyarrow.parquet.write_table(table, TABLE, compression="zstd")
    plans = len({fingerprint for fingerprint, _ in rows})
    print(
        f"{TABLE}: {len(rows)} trainings of {plans} plans, {TABLE.stat().st_size / 2**10:.0f} KiB"
    )


def main() -> None:
    """Makes the rows that are missing, or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "trainings.jsonl")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not arguments.write:
        make(arguments.cache, arguments.processes, 3600 * arguments.hours)
    write(arguments.cache)


if __name__ == "__main__":
    main()
