"""Thousands of very short trials through Ray Tune with random failures: does anything grow?

    python benchmarks/soak/run.py --out benchmarks/results/soak
    python benchmarks/soak/run.py --out benchmarks/results/soak --proposer saas_nehvi --trials 200

Exit code 1 says that something grows or that the store does not agree with the ledger. Runs of
other settings that are in the result already stay there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import beside  # noqa: F401
from check import compared
from figures import figures
from luck import Luck
from machine import machine, machine_text
from rich.console import Console
from soaked import soak, study_spec
from table import markdown


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what a soak showed."""
    facts = machine("cpu")
    luck = Luck(arguments.seed)
    spec = study_spec(arguments.trials, arguments.parallel, arguments.proposer)
    console = Console(stderr=True, quiet=arguments.quiet)
    with tempfile.TemporaryDirectory() as name:
        folder, ledger = Path(name) / "study", Path(name) / "ledger"
        ledger.mkdir()
        every = max(arguments.trials // 80, 5)
        samples = soak(folder, ledger, spec, luck, every, console)
        verdict = compared(folder, ledger, arguments.trials)
    found = [{**asdict(one), "flat": one.flat} for one in figures(samples)]
    return {
        "proposer": arguments.proposer,
        "trials": arguments.trials,
        "parallel": arguments.parallel,
        "seed": arguments.seed,
        "command": " ".join(["python", "benchmarks/soak/run.py", *sys.argv[1:]]),
        "machine": machine_text(facts),
        "seconds": samples.seconds,
        "store": asdict(verdict),
        "figures": found,
        "looks": samples.driver,
        "workers": samples.workers,
    }


def write(run: dict[str, Any], out: Path) -> str:
    """Writes figures and table, in place of an earlier run of the proposer; returns the table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    before = json.loads(file.read_text())["runs"] if file.exists() else []
    runs = [one for one in before if one["proposer"] != run["proposer"]] + [run]
    text = markdown({"runs": runs})
    file.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    return text


def main() -> int:
    """Soaks, prints and writes the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak"))
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--proposer", default="random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    arguments = parser.parse_args()
    run = measured(arguments)
    print(write(run, arguments.out))
    return int(bool(run["store"]["faults"]) or not all(one["flat"] for one in run["figures"]))


if __name__ == "__main__":
    sys.exit(main())
