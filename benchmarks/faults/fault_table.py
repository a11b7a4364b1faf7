"""The fault table: a row a fault, a column a subject."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cell import Amount
from kills import EARLY
from matrix import FAULTS
from subjects import SUBJECTS
from verdict import AT_KILL_S

Cells = Mapping[str, Mapping[str, Any]]

_PACKAGES = ("milp-search", "optuna", "ray", "torch")

_HEAD = """\
# Faults

    python benchmarks/faults/run.py

Each study is started, meets the fault, and is resumed until it ends. What its trials wrote to a
ledger of their own is the truth that its state is held against.

Studies of {trials}; {machine}; {versions}.
Of the kills, {early} % come while a driver starts, the others while trials run. Drivers are forked
from a process that has imported the libraries.

A cell tells of trials, out of so many that ended:

- **lost**: they ended, and the state after the last resume does not have them as completed;
- **twice**: they came to their end more than once; `+n`: so many whose earlier end was less than
  {at_kill} s before a kill, when their system may not have had them on disk yet;
- **stuck**: open for ever, or never begun in a study that came to no end in time;
- **differing**: a value is not an undisturbed study's (ours only: elsewhere values depend on more
  than the seed);
- **accepted**: completed, to the system, with NaN or infinity;
- **over**: completed beyond the budget; Optuna's processes count for themselves, so that one more
  for each further process is its way also where nothing befalls it;
- failed: the state has them as failed.

Then the exit code: of the driver that met the fault, and where drivers are killed of the last one.
Of a damaged store, how many copies were shown whole, refused, or shown as something else. n/a: the
subject has no such thing; a blank: not run.
"""


def key_of(fault: str, subject: str) -> str:
    """Returns what a cell is kept under."""
    return f"{fault} {subject}"


def machine() -> dict[str, Any]:
    """Returns where the figures were made: machine and versions."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def markdown(cells: Cells, facts: Mapping[str, Any], amount: Amount) -> str:
    """Returns the table, and below it what was said and what was left behind.

    Args:
        cells: The finished cells.
        facts: Machine and versions.
        amount: How much of each fault.

    Returns:
        The text of a Markdown page.
    """
    return "\n".join([_head(facts, amount), *_rows(cells), "", *_words(cells), ""])


def _head(facts: Mapping[str, Any], amount: Amount) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    size = amount.size
    return _HEAD.format(
        trials=f"{size.trials} trials of {size.seconds} s, {size.parallel} side by side",
        machine=f"{facts['processor']}, {facts['cores']} cores, {facts['system']}",
        versions=f"Python {facts['python']}; {versions}",
        early=round(100 * EARLY),
        at_kill=AT_KILL_S,
    )


def _rows(cells: Cells) -> Iterator[str]:
    shown = [name for name in SUBJECTS if any(key.endswith(f" {name}") for key in cells)]
    titles = [SUBJECTS[name].title for name in shown]
    yield "| fault | " + " | ".join(titles) + " |"
    yield "|---|" + "---|" * len(shown)
    for name, fault in FAULTS.items():
        texts = [
            cell_text(cells.get(key_of(name, one))) if fault.applies(SUBJECTS[one]) else "n/a"
            for one in shown
        ]
        yield f"| {fault.title} | " + " | ".join(texts) + " |"


def cell_text(cell: Mapping[str, Any] | None) -> str:
    """Returns a cell's text; empty where it has not been run."""
    if cell is None:
        return ""
    if "error" in cell:
        return "the harness failed"
    if "samples" in cell:
        parts = f"{cell['whole']} whole, {cell['refused']} refused"
        return f"{parts}, {_bold(cell['wrong'], 'wrong')} of {cell['samples']}"
    near = f"+{cell['twice_at_kill']} " if cell["twice_at_kill"] else ""
    parts = [
        _bold(cell["lost"], "lost"),
        _bold(cell["twice"], f"{near}twice"),
        _bold(cell["stuck"], "stuck"),
    ]
    parts += [
        _bold(cell[kind], kind) for kind in ("differing", "accepted", "over") if cell.get(kind)
    ]
    if cell["failed"]:
        parts.append(f"{cell['failed']} failed")
    kills = f", {cell['kills']} kills in {cell['studies']} studies" if cell["kills"] else ""
    codes = ", ".join(
        f"{code}" if count == cell["studies"] else f"{count} x {code}"
        for code, count in cell["codes"].items()
    )
    return f"{', '.join(parts)} of {cell['ended']}{kills}; exit {codes}"


def _bold(count: int, word: str) -> str:
    return f"**{count} {word}**" if count else f"0 {word}"


def _words(cells: Cells) -> Iterator[str]:
    """Yields the last lines that drivers printed, and what they left behind."""
    yield "## What was said and left behind"
    yield ""
    for key, cell in cells.items():
        fault, _, subject = key.partition(" ")
        said = cell.get("error") or cell.get("message", "")
        # The last line of a driver that ended well tells nothing.
        well = set(cell.get("codes", ())) == {"0"} and not cell.get("lost")
        quiet = well and not said.startswith("exit codes")
        said = "" if quiet else said
        left = [name.rstrip("0123456789") for name in cell.get("left", ())]
        more = f"; left behind: {len(left)} ({left[0]})" if left else ""
        if fault in FAULTS and (said or left):
            text = said.replace("|", "/")[:160]
            yield f"- {FAULTS[fault].title}, {SUBJECTS[subject].title}: `{text}`{more}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
