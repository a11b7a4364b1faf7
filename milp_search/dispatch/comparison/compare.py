"""Makes a table or figure: runs its parts, then writes it as Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from milp_search.core.errors import StudyError
from milp_search.core.whole_file import write_whole
from milp_search.dispatch.comparison.parts import Part, run_parts
from milp_search.dispatch.comparison.request import Comparison
from milp_search.dispatch.drive import NO_TRIAL_SUCCEEDED
from milp_search.dispatch.folders import PARTS
from milp_search.study.result_table import markdown, table_csv
from milp_search.study.study import STORE_NAME, Study, made_folder
from milp_search.study.table_page import render_tables


def run_comparison(comparison: Comparison, folder: Path, console: Console) -> int:
    """Runs a table's parts from where they stand and writes what they show.

    Args:
        comparison: The table.
        folder: Where its parts and files lie; given again, finished parts are only looked at.
        console: Where progress and the tables are printed.

    Returns:
        0; the exit code of the part that a signal stopped; 3 where no trial of any part succeeded.

    Raises:
        InputError: Something that a part names cannot be read, or the folder holds another study.
    """
    if (folder / STORE_NAME).exists():
        raise StudyError(
            f"{folder} holds a study, not a table",
            remedy="Give another --out; a table's studies lie in folders below it.",
        )
    code = run_parts(comparison.parts, made_folder(folder) / PARTS, console)
    if code not in (0, NO_TRIAL_SUCCEEDED):
        console.print(f"Stopped. Give the same command again to go on in {folder}.")
        return code
    for path in write_comparison(comparison, folder, console):
        console.print(f"Written: {path}", soft_wrap=True, markup=False, highlight=False)
    return code


def write_comparison(comparison: Comparison, folder: Path, console: Console) -> list[Path]:
    """Prints a finished comparison's tables, and writes them and the page; returns the files."""
    tables, figures = comparison.collect(folder / PARTS)
    written = []
    for table in tables:
        text = markdown(table)
        console.print(text, soft_wrap=True, markup=False, highlight=False)
        written.append(write_whole(folder / f"{table.name}.md", text))
        written.append(write_whole(folder / f"{table.name}.csv", table_csv(table)))
    page = render_tables(
        comparison.title, tables, figures, _facts(comparison.parts, folder / PARTS)
    )
    return [*written, write_whole(folder / f"{comparison.name}.html", page)]


def _facts(parts: Sequence[Part], folder: Path) -> list[tuple[str, str]]:
    """Returns what the page says of how it was measured."""
    facts = []
    for part in parts:
        with Study.open(folder / part.name, read_only=True) as study:
            completed = sum(trial.status.value == "completed" for trial in study.trials)
            told = f"{completed} of {len(study.trials)} trials completed"
            if completed and not study.eligible():
                told += ", none of which keeps every constraint"
            model, data = study.settings.get("base_model"), study.settings.get("data_fingerprint")
            code = " (its own code trusted)" if study.settings.get("trust_remote_code") else ""
            facts.append((part.name, f"{told}; base model {model}{code}, data {data}"))
    return facts
