"""Every search method on every problem, from the same number of initial trials.

    python benchmarks/search/run.py --processes 2      # goes on where it stopped
    python benchmarks/search/run.py --table            # the table from what there is

Each run is a process of its own. Finished runs are kept as JSON Lines beside the table, so that a
benchmark of many hours may be interrupted, and made of single runs by other machines. Peers come
with `pip install -e '.[peers]'`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from curves import curves
from methods import PEERS
from ours import OURS
from single_run import PROBLEMS
from summary import machine_line, markdown

RESULTS = Path(__file__).parents[1] / "results" / "search"
SCRIPT = Path(__file__).parent / "single_run.py"
# Seeds of one method and problem that a process runs; the first blocks come first.
BLOCK = 2

Key = tuple[str, str, int]


def runs_in(file: Path) -> list[dict[str, Any]]:
    """Returns the finished runs, the last of each where there are several."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = {key_of(run): run for run in map(json.loads, lines)}
    return [*found.values()]


def key_of(run: dict[str, Any]) -> Key:
    """Returns method, problem and seed of a run."""
    return run["method"], run["problem"], run["seed"]


def blocks(
    methods: Sequence[str], problems: Sequence[str], seeds: Sequence[int], done: set[Key]
) -> Iterator[tuple[str, str, list[int]]]:
    """Yields the missing seeds by method and problem, early seeds of all before later ones."""
    for first in range(0, len(seeds), BLOCK):
        for problem in problems:
            for method in methods:
                block = seeds[first : first + BLOCK]
                missing = [seed for seed in block if (method, problem, seed) not in done]
                if missing:
                    yield method, problem, missing


def make(arguments: argparse.Namespace, file: Path) -> None:
    """Runs what is missing, until all is there or the time is over."""
    done = {key_of(run) for run in runs_in(file)}
    lock, end = Lock(), time.monotonic() + 3600 * arguments.hours
    machine = machine_line()
    file.parent.mkdir(parents=True, exist_ok=True)

    def work(block: tuple[str, str, list[int]]) -> None:
        method, problem, seeds = block
        if time.monotonic() > end:
            return
        command = [sys.executable, "-W", "ignore", str(SCRIPT), "--method", method]
        command += ["--problem", problem, "--seeds", *map(str, seeds)]
        command += ["--budget", str(arguments.budget)] if arguments.budget else []
        # SMAC orders candidates by hashes of strings, and its forest would use every core.
        fixed = {**os.environ, "PYTHONHASHSEED": "0", "LOKY_MAX_CPU_COUNT": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=fixed) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                run = json.loads(line) | {"machine": machine}
                with lock, open(file, "a", encoding="utf-8") as out:
                    out.write(json.dumps(run) + "\n")
                print(
                    f"{problem}, {method}, seed {run['seed']}: {run['shares'][-1]:.3f}, "
                    f"{run['cpu_s']:.0f} s",
                    flush=True,
                )
        if process.returncode != 0:
            print(f"{problem}, {method}: ended with code {process.returncode}", flush=True)

    with ThreadPoolExecutor(arguments.processes) as pool:
        missing = blocks(arguments.methods, arguments.problems, range(arguments.seeds), done)
        list(pool.map(work, missing))


def main() -> None:
    """Runs what is missing, then writes table and plot."""
    known = [*OURS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, help="fewer trials, to try the script")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--hours", type=float, default=1000.0)
    parser.add_argument("--table", action="store_true", help="only write table and plot")
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".jsonl")
    if not arguments.table:
        make(arguments, file)
    runs = runs_in(file)
    text = markdown(runs)
    arguments.out.with_suffix(".md").write_text(text)
    arguments.out.with_suffix(".svg").write_text(curves(runs))
    print(text)


if __name__ == "__main__":
    main()
