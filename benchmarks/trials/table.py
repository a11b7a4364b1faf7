"""The figures as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from machine import machine_text
from timing import speed_up

Row = dict[str, Any]

# What was aimed at: on 2 CPU cores by mask (with a warm cache), and on a GPU.
CPU_TARGETS = {
    "all layers": 1.4,
    "upper half": 1.9,
    "top quarter": 2.7,
    "last layer": 3.2,
    "generation": 2.5,
    "study": 3.0,
}
GPU_TARGETS = {"short records": 2.0, "generation": 10.0, "study": 5.0}
OVERHEAD_S = 0.05


def markdown(parts: dict[str, dict[str, Any]]) -> str:
    """Returns all tables, each with where it was measured."""
    lines = ["Packed trials against plain PEFT doing the same work, in the same process and run."]
    if not any(part["machine"]["gpu"] for part in parts.values()):
        lines[0] += " **Not measured on a GPU.**"
    lines.append(
        "Seconds are medians over runs that take turns: wall-clock ones on a GPU and through Ray, "
        "else those that the process computed on its one thread. A speed-up is the median of the "
        "ratios of neighbouring runs, with the lowest and highest in brackets."
    )
    for name, make in _TABLES.items():
        if name in parts:
            lines += ["", *make(parts[name]["rows"]), "", machine_text(parts[name]["machine"])]
    return "\n".join(lines) + "\n"


def target(what: str, setting: str = "quick start") -> float | None:
    """Returns the speed-up aimed at, None where none was named."""
    if setting == "quick start":
        return CPU_TARGETS.get(what)
    if setting not in ("128 tokens", "1024 tokens"):
        return None
    if what in ("generation", "study"):
        return GPU_TARGETS[what]
    return GPU_TARGETS["short records"] if setting == "128 tokens" else None


def _masks(rows: Sequence[Row]) -> list[str]:
    return [
        f"Whole trial: training, losses and generation of the validation answers; rank 8, T = 2, "
        f"c = 2, k = 1, {len(rows[0]['plain_s'])} runs each. Cold is a new trainer's first trial, "
        "warm its second (another seed). The random mask is another one in each run. Rounding is "
        "how far plain PEFT is from itself when its first matrices are one unit in the last place "
        "larger.",
        "",
        *_grid(
            "| study | mask | trainer | plain s | packed s | speed-up | target | "
            "largest difference of a user's loss | rounding | different generations |",
            [
                [
                    row["setting"],
                    row["mask"],
                    row["state"],
                    f"{statistics.median(row['plain_s']):.2f}",
                    f"{statistics.median(row['packed_s']):.2f}",
                    _ratio(row),
                    _aim(target(row["mask"], row["setting"]) if row["state"] == "warm" else None),
                    f"{row['loss_difference']:.1e}",
                    f"{row['rounding']:.1e}" if "rounding" in row else "",
                    f"{row['different_generations']} of {row['generations']}",
                ]
                for row in rows
            ],
        ),
    ]


def _generation(rows: Sequence[Row]) -> list[str]:
    return [
        "Greedy generation of all validation answers (answering less the losses alone), of one "
        f"plan and of four together, {len(rows[0]['plain_s'])} runs each.",
        "",
        *_grid(
            "| study | mask | plans | answers | plain s | packed s | speed-up | target | "
            "different |",
            [
                [
                    row["setting"],
                    row["mask"],
                    row["plans"],
                    row["generations"],
                    f"{statistics.median(row['plain_s']):.2f}",
                    f"{statistics.median(row['packed_s']):.2f}",
                    _ratio(row),
                    _aim(target("generation", row["setting"])),
                    row["different_generations"],
                ]
                for row in rows
            ],
        ),
    ]


def _study(rows: Sequence[Row]) -> list[str]:
    return [
        f"A study of {rows[0]['trials']} trials end to end (proposals, trials, final tests, "
        "export), by the driver. Packed: with reuse, in packs. Plain: PEFT, without either. The "
        "first packed study proposes by itself; the others are given its arms, and are charged for "
        "each as long as its proposer took. Seconds of trials and final tests are by the wall "
        "clock, through Ray those of both workers.",
        "",
        *_grid(
            "| study | runs | trainer | proposals | total s | speed-up | target | trials s | "
            "final tests s | proposals s | largest pack | reused |",
            [
                [
                    row["setting"],
                    "through Ray, 2 workers" if row["parallel"] else "in this process",
                    row["way"],
                    row["proposals"],
                    f"{row['seconds']:.1f}",
                    _study_ratio(rows, row),
                    _aim(target("study", row["setting"]) if row["way"] == "packed" else None),
                    f"{row['trials_s']:.1f}",
                    f"{row['tests_s']:.1f} ({row['tests']})",
                    f"{row['proposals_s']:.1f}",
                    row["largest_pack"],
                    ", ".join(f"{k} {h} of {n}" for k, (h, n) in row["reused"].items()) or "-",
                ]
                for row in rows
            ],
        ),
        "",
        *(_sameness(row) for row in rows if "same_front" in row),
    ]


def study_speed_up(rows: Sequence[Row], packed: Row) -> float:
    """Returns how much faster a packed study is than the plain ones of its setting."""
    plain = [
        row["seconds"] for row in rows if row["way"] == "plain" and _where(row) == _where(packed)
    ]
    return float(statistics.median(plain) / packed["seconds"])


def _where(row: Row) -> tuple[str, int]:
    return row["setting"], row["parallel"]


def _study_ratio(rows: Sequence[Row], row: Row) -> str:
    return f"{study_speed_up(rows, row):.2f}x" if row["way"] == "packed" else ""


def _sameness(row: Row) -> str:
    far = ", ".join(f"{metric} {value:.1e}" for metric, value in row["differences"].items())
    arms, front = ("the same" if row[key] else "OTHER" for key in ("same_arms", "same_front"))
    where = f"{row['setting']}, {'through Ray' if row['parallel'] else 'in this process'}"
    return (
        f"{where}: {arms} arms, {front} front ({len(row['front'])} trials); largest difference of "
        f"an objective's value between packed and plain: {far}.\n"
    )


def _overhead(rows: Sequence[Row]) -> list[str]:
    return [
        "Executor overhead: a study whose trials take no time and whose arms are random, "
        f"{len(rows[0]['first_s'])} runs each; a worker's milliseconds for each trial after the "
        "first.",
        "",
        *_grid(
            "| executor | until the first trial is told, s | per trial, ms | lowest to highest | "
            "target, ms |",
            [
                [
                    row["executor"],
                    f"{statistics.median(row['first_s']):.2f}",
                    f"{1000 * statistics.median(row['per_trial_s']):.1f}",
                    f"{1000 * min(row['per_trial_s']):.1f} to {1000 * max(row['per_trial_s']):.1f}",
                    f"{1000 * OVERHEAD_S:.0f}",
                ]
                for row in rows
            ],
        ),
    ]


def _memory(rows: Sequence[Row]) -> list[str]:
    return [
        "Peak memory of one packed training pass over a frozen adapter and one in training per "
        "lane: live tensors (on a GPU its allocator's) against the closed form that sizes passes.",
        "",
        *_grid(
            "| study | mask | tokens | longest | lanes | measured MiB | closed form MiB | "
            "closed form / measured |",
            [
                [
                    row["setting"],
                    row["mask"],
                    row["tokens"],
                    row["longest"],
                    row["lanes"],
                    f"{row['measured_mib']:.1f}",
                    f"{row['predicted_mib']:.1f}",
                    f"{row['predicted_mib'] / row['measured_mib']:.2f}",
                ]
                for row in rows
            ],
        ),
    ]


def _ratio(row: Row) -> str:
    middle, low, high = speed_up(row["plain_s"], row["packed_s"])
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"


def _aim(value: float | None) -> str:
    return "" if value is None else f"{value:g}x"


def _grid(head: str, rows: Sequence[Sequence[object]]) -> list[str]:
    columns = head.count("|") - 1
    return [head, "|---" * columns + "|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]


_TABLES: dict[str, Callable[[Sequence[Row]], list[str]]] = {
    "masks": _masks,
    "generation": _generation,
    "study": _study,
    "overhead": _overhead,
    "memory": _memory,
}
