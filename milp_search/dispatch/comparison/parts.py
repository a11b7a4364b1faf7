"""The studies that a table or figure is made of, each in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from milp_search.adapters.base_model import read_config
from milp_search.adapters.supported import is_encoder
from milp_search.core.errors import ModelError, StudyError
from milp_search.core.methods import METHODS
from milp_search.core.records import PersonalizationTask
from milp_search.dispatch.drive import Prepared, prepare, resume_study, run_study
from milp_search.space.row_space import Row, Space, row_space
from milp_search.space.search_space import SearchSpace
from milp_search.study.spec import Budget, StudySpec
from milp_search.study.study import STORE_NAME, Study

# Exit codes above this are those of signals.
_SIGNALLED = 128

MakeSpace = Callable[[SearchSpace, PersonalizationTask], Space]


@dataclass(frozen=True)
class Part:
    """One study: the rows of a table with every seed, or a search.

    Attributes:
        name: Its folder's name.
        spec: What it is run with; its space is what `make_space` starts from.
        make_space: The rows or the space that is searched.
        file: The study file it comes from, for the places in error messages.
    """

    name: str
    spec: StudySpec
    make_space: MakeSpace
    file: Path | None = None


def rows_part(
    name: str, spec: StudySpec, rows: Sequence[Row], seeds: Sequence[int], file: Path | None = None
) -> Part:
    """Returns the part that measures rows on the test queries, with every seed.

    Rows of methods that need a decoder are left out where the base model is an encoder.

    Args:
        name: Its folder's name.
        spec: Data, training and metrics.
        rows: The rows.
        seeds: Training seeds.
        file: The study file.

    Returns:
        The part.

    Raises:
        ModelError: The base model cannot be read, or serves none of the rows.
    """
    if is_encoder(read_config(spec.base_model)):
        rows = [row for row in rows if not METHODS[row.method].needs_decoder]
    if not rows:
        raise ModelError(
            f"expected a decoder-only base model for {name!r}, got the encoder {spec.base_model!r}",
            remedy="Set `base_model` to a decoder-only model.",
        )
    count = len(rows) * len(seeds)
    changes = {
        # The study's own method is not trained, and should not be what is refused.
        "method": rows[0].method,
        "proposer": "grid",
        "preset": "default",
        "initial_trials": count,
        "budget": Budget(trials=count),
        "batch": min(count, 1024),
        "constraints": (),
    }

    def make(space: SearchSpace, task: PersonalizationTask) -> Space:
        return row_space(name, space, tuple(rows), tuple(seeds), len(task.targets))

    return Part(name, spec.model_copy(update=changes), make, file)


def search_part(
    name: str,
    spec: StudySpec,
    narrowed: Callable[[SearchSpace], SearchSpace] = lambda space: space,
    file: Path | None = None,
) -> Part:
    """Returns the part that searches, and tests its front."""
    return Part(name, spec, lambda space, task: narrowed(space), file)


def run_parts(parts: Sequence[Part], folder: Path, console: Console) -> int:
    """Runs what is missing of each part; finished ones are looked at only.

    Args:
        parts: In the order in which they run.
        folder: Where their folders lie.
        console: Where progress is printed.

    Returns:
        0, or the exit code of the part that a signal stopped.

    Raises:
        InputError: Something that a part names cannot be read, or its folder holds another study.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        title = f"Part {number + 1} of {len(parts)}: {part.name}"
        console.print(title, markup=False, highlight=False)
        code = _run_part(part, folder / part.name, console)
        if code > _SIGNALLED:
            return code
    return 0


def _run_part(part: Part, folder: Path, console: Console) -> int:
    """Runs one part to its end, from where it stands, and returns its exit code."""
    prepared = prepare(part.spec, part.file)
    space = part.make_space(_search_space(prepared), prepared.task)
    prepared = replace(prepared, space=space)
    if not (folder / STORE_NAME).exists():
        _adopt_base_stages(folder)
        return run_study(prepared, folder, console)
    return 0 if _finished(prepared, folder) else resume_study(folder, console)


def _search_space(prepared: Prepared) -> SearchSpace:
    assert isinstance(prepared.space, SearchSpace)  # a study file names no rows
    return prepared.space


def _finished(prepared: Prepared, folder: Path) -> bool:
    """Returns whether the part has ended; raises StudyError if the folder holds another one."""
    with Study.open(folder, read_only=True) as study:
        same = study.created.space == prepared.space.as_dict()
        data = study.settings.get("data_fingerprint")
        if not same or data != prepared.task.fingerprint:
            what = "rows, seeds or space" if not same else "data"
            raise StudyError(
                f"{folder} holds a study of other {what}",
                remedy="Go on with the same command as before, or give another --out.",
            )
        return study.finished is not None


def _adopt_base_stages(folder: Path) -> None:
    """Copies the base stages of the other parts: each is named by what decides it."""
    for stage in sorted(folder.parent.glob("*/base-*")):
        target = folder / stage.name
        if stage.suffix or stage.parent == folder or target.exists():
            continue
        folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = target.with_suffix(".partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(stage, unfinished)
        unfinished.rename(target)
