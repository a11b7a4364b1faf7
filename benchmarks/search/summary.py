"""The table of the search benchmark."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from methods import PEERS
from ours import OURS
from single_run import LOOKUP, PROBLEMS

AT = (40, 60, 100)
MAIN = next(iter(OURS))
EARLY, LATE = 60, 100

Runs = Sequence[dict[str, Any]]


def machine_line() -> str:
    """Returns processor, cores and Python of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or "unknown processor"
    return (
        f"{platform.machine()} {name}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )


def markdown(runs: Runs) -> str:
    """Returns the tables: a verdict, then a table per problem, peers before ablations."""
    parts = [
        "Share of the hypervolume of the best front known, by the truth of the plans tried (noise "
        "is for the method only), mean ± standard deviation over seeds; each seed is another "
        "instance of a family. CPU seconds are those of asking and telling, per trial, on one "
        "thread. All methods start from as many trials of their own design as there are "
        "parameters, 20 at most (20 on the families, 10 on the trainings), NSGA-II from its first "
        "generation of 10; `botorch_autopeft` proposes four at a time, all others one.",
        "",
        f"## {MAIN} at {EARLY} trials against the best peer at {LATE}",
        "",
        f"| problem | {MAIN} at {EARLY} | best peer at {LATE} | peer | its seeds | at or above |",
        "|---|---|---|---|---|---|",
        *_verdicts(runs),
        "",
        "## What each ingredient is worth",
        "",
        f"{MAIN}'s share at {EARLY} trials less that without the ingredient, mean ± standard "
        "deviation over the seeds that both ran (their number); above 0 it is worth having. "
        f"{MAIN} starts from 20 trials on the families and from 10 on the trainings.",
        "",
        "| changed | " + " | ".join(PROBLEMS) + " | mean |",
        "|---|" + "---|" * (len(PROBLEMS) + 1),
        *_worths(runs),
    ]
    for problem in PROBLEMS:
        rows = [*_rows([run for run in runs if run["problem"] == problem])]
        if rows:
            title = "table of real trainings" if problem == LOOKUP else problem
            head = "| method | seeds | " + " | ".join(f"{count} trials" for count in AT)
            parts += ["", f"## {title}", "", head + " | CPU s per trial | failed | repeated |"]
            parts += ["|---|---|" + "---|" * len(AT) + "---|---|---|", *rows]
    return "\n".join([*parts, "", *_footer(runs)]) + "\n"


def shares(runs: Runs, problem: str, method: str, count: int) -> dict[int, float]:
    """Returns the shares after so many trials, by seed."""
    return {
        run["seed"]: run["shares"][count - 1]
        for run in runs
        if (run["problem"], run["method"]) == (problem, method) and len(run["shares"]) >= count
    }


def _verdicts(runs: Runs) -> Iterator[str]:
    for problem in PROBLEMS:
        ours = shares(runs, problem, MAIN, EARLY)
        peers = {name: values for name in PEERS if (values := shares(runs, problem, name, LATE))}
        if ours and peers:
            means = {name: statistics.fmean(values.values()) for name, values in peers.items()}
            name = max(means, key=lambda one: means[one])
            mean = statistics.fmean(ours.values())
            verdict = "yes" if mean >= means[name] else "NO"
            yield (
                f"| {problem} | {mean:.3f} | {means[name]:.3f} | {name} | {len(peers[name])} | "
                f"{verdict} |"
            )


def _worths(runs: Runs) -> Iterator[str]:
    """Yields a row per ablation; an instance's difficulty is in both runs of a seed."""
    for name in OURS:
        gains = {problem: _gains(runs, problem, name) for problem in PROBLEMS}
        if name == MAIN or not any(gains.values()):
            continue
        cells = [
            f"{_spread(each, sign='+')} ({len(each)})" if each else "" for each in gains.values()
        ]
        means = [statistics.fmean(each) for each in gains.values() if each]
        yield f"| {name} | {' | '.join(cells)} | {statistics.fmean(means):+.3f} |"


def _gains(runs: Runs, problem: str, name: str) -> list[float]:
    """Returns how far ours is ahead of an ablation, one per seed."""
    ours, changed = (shares(runs, problem, one, EARLY) for one in (MAIN, name))
    return [ours[seed] - changed[seed] for seed in sorted(ours.keys() & changed.keys())]


def _rows(runs: Runs) -> Iterator[str]:
    """Yields ours, the peers and the ablations, in this order."""
    for name in (MAIN, *PEERS, *(one for one in OURS if one != MAIN)):
        mine = [run for run in runs if run["method"] == name]
        if not mine:
            continue
        cells = []
        for count in AT:
            values = [run["shares"][count - 1] for run in mine if len(run["shares"]) >= count]
            cells.append(_spread(values) if values else "")
        cost = statistics.fmean(run["cpu_s"] / len(run["shares"]) for run in mine)
        failed = statistics.fmean(run["failed"] for run in mine)
        repeated = statistics.fmean(run["repeated"] for run in mine)
        label = f"ours, {name}" if name in OURS and name != MAIN else name
        yield (
            f"| {label} | {len(mine)} | {' | '.join(cells)} | {cost:.2f} | {failed:.1f} | "
            f"{repeated:.1f} |"
        )


def _spread(values: Sequence[float], sign: str = "") -> str:
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.3f}{deviation}"


def _footer(runs: Runs) -> Iterator[str]:
    versions = {f"{name} {one}" for run in runs for name, one in run["versions"].items()}
    yield from sorted({run["machine"] for run in runs})
    yield ""
    yield ", ".join(sorted(versions))
