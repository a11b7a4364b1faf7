"""The commands `compare` and `analyze`, from their options on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from milp_search.core.errors import SpecError
from milp_search.dispatch.comparison.compare import run_comparison
from milp_search.dispatch.comparison.figures import make_figure
from milp_search.dispatch.comparison.paper import checked_paper_data, paper_data
from milp_search.dispatch.comparison.request import Subject, subject
from milp_search.dispatch.comparison.tables import SEARCHING, Seeds, make_table
from milp_search.metrics.table import METRIC_DIRECTIONS
from milp_search.space.yaml_reader import read_yaml
from milp_search.study.spec_file import load_study_spec

# File systems take 255 bytes; a part's name says more than the study's.
_LONGEST_NAME = 200


def compare_studies(
    files: Sequence[Path],
    table: str,
    out: Path,
    seeds: int | None,
    paper: str | None,
    overrides: Mapping[str, Any],
    console: Console,
) -> int:
    """Makes a table of the papers; returns the exit code.

    Args:
        files: Study files, each with a name of its own.
        table: The table's name.
        out: Its folder.
        seeds: The number of training seeds, counted from 0; None are the first study's test seeds.
        paper: The paper's data set beside which the results stand; None goes by each study's data.
        overrides: What takes the place of the files' settings, by dotted key.
        console: Where progress and the table are printed.

    Returns:
        0; the exit code of the signal that stopped it; 3 where no trial of any part succeeded.

    Raises:
        InputError: A file cannot be used, or the folder holds something else.
    """
    if "data.path" in overrides and len(files) > 1:
        raise SpecError(
            f"expected --data with a single study, got {len(files)} studies",
            remedy="write `data: {path: ...}` in each study file",
        )
    if "budget.trials" in overrides and table not in SEARCHING:
        raise SpecError(
            f"expected no --trials for {table!r}, which trains its rows and searches nothing",
            remedy=f"leave it out; it bounds the searches of {', '.join(SEARCHING)}",
        )
    given = None if paper is None else checked_paper_data(table, paper)
    subjects = [_subject(file, overrides, given) for file in files]
    for one in subjects:
        _require_folder_name(one)
    names = [one.name for one in subjects]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(
                f"expected studies of different names, got {name!r} {names.count(name)} times",
                remedy="set `name` in one of the files",
            )
    comparison = make_table(table, subjects, _seeds(seeds, subjects[0]))
    return run_comparison(comparison, out, console)


def analyze_study(
    file: Path,
    figure: str,
    out: Path,
    seeds: int | None,
    levels: str | None,
    overrides: Mapping[str, Any],
    console: Console,
) -> int:
    """Makes an analysis of the papers; returns the exit code.

    Args:
        file: The study file.
        figure: The analysis' name.
        out: Its folder.
        seeds: The number of training seeds, counted from 0; None are the study's test seeds.
        levels: Whole numbers between commas; None chooses them by the data.
        overrides: What takes the place of the file's settings, by dotted key.
        console: Where progress and tables are printed.

    Returns:
        0; the exit code of the signal that stopped it; 3 where no trial of any part succeeded.

    Raises:
        InputError: The file or an option cannot be used, or the folder holds something else.
    """
    one = _subject(file, overrides, None)
    chosen = None if levels is None else parse_levels(levels)
    return run_comparison(make_figure(figure, one, _seeds(seeds, one), chosen), out, console)


def parse_levels(text: str) -> tuple[int, ...]:
    """Returns the whole numbers of a text such as `5,10,20`, ascending and each once.

    Raises SpecError if it is no such list.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise SpecError(
            f"expected --levels as positive whole numbers between commas, got {text!r}",
            remedy="write for instance --levels 5,10,20",
        )
    return tuple(found)


def _require_folder_name(one: Subject) -> None:
    """Raises SpecError if a study's name cannot be a folder's."""
    too_long = len(os.fsencode(one.name)) > _LONGEST_NAME
    if one.name in (".", "..") or set(one.name) & set("/\\\0") or too_long:
        raise SpecError(
            f"expected a study name that can be a folder's, got {one.name!r}",
            at=read_yaml(one.file).location(("name",)),
            remedy="shorten `name`" if too_long else "take slashes out of `name`",
        )


def _subject(file: Path, overrides: Mapping[str, Any], paper: str | None) -> Subject:
    spec = load_study_spec(file, overrides, metrics=tuple(METRIC_DIRECTIONS))
    return subject(file, spec, paper or paper_data(spec))


def _seeds(count: int | None, one: Subject) -> Seeds:
    if count is None and one.spec.test_seeds:
        return one.spec.test_seeds
    if count is None or count < 1:
        given = "no `test_seeds`" if count is None else f"--seeds {count}"
        raise SpecError(
            f"expected at least one training seed, got {given}", remedy="give --seeds 3, say"
        )
    return tuple(range(count))
