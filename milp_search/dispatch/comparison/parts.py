"""The studies that a table or figure is made of, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from milp_search.adapters.base_model import read_config
from milp_search.adapters.supported import is_encoder
from milp_search.core.errors import ModelError, SpecError, StudyError
from milp_search.core.methods import CHAT_METHODS, KNOWN_METHODS
from milp_search.core.private_files import refuse_link
from milp_search.core.records import PersonalizationTask
from milp_search.data.forgotten import without_forgotten
from milp_search.dispatch.drive import (
    NO_TRIAL_SUCCEEDED,
    MakeSpace,
    Prepared,
    prepare,
    resume_study,
    run_study,
)
from milp_search.search.presets import filled_options
from milp_search.space.row_space import Row, Space, row_space
from milp_search.space.search_space import SearchSpace
from milp_search.study.spec import Budget, DispatchSettings, StudySpec
from milp_search.study.spec_file import SPEC_NAME, load_study_spec, read_kept
from milp_search.study.store import begun
from milp_search.study.study import STORE_NAME, Study, made_folder

# Exit codes above this are those of signals.
_SIGNALLED = 128


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
        SpecError: The rows ask a model behind an endpoint and there is none, or the reverse.
    """
    _require_endpoint(name, spec, rows)
    trusted = spec.trust_remote_code
    if spec.endpoint is None and is_encoder(
        read_config(spec.base_model, trust_remote_code=trusted)
    ):
        rows = [row for row in rows if not KNOWN_METHODS[row.method].needs_decoder]
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
        "engine": filled_options("default"),
        "initial_trials": count,
        "budget": Budget(trials=count),
        "batch": min(count, 1024),
        "constraints": (),
    }

    def make(space: SearchSpace, task: PersonalizationTask) -> Space:
        return row_space(name, space, tuple(rows), tuple(seeds), len(task.targets))

    return Part(name, spec.model_copy(update=changes), make, file)


def _require_endpoint(name: str, spec: StudySpec, rows: Sequence[Row]) -> None:
    asks = all(row.method in CHAT_METHODS for row in rows)
    if asks and spec.endpoint is None:
        raise SpecError(
            f"the rows of this table ask a model behind an endpoint, and {name!r} has none",
            remedy="set `endpoint` and a method for endpoints, as in experiments/blackbox.yaml",
        )
    if not asks:
        refuse_endpoint(name, spec)


def refuse_endpoint(name: str, spec: StudySpec) -> None:
    """Raises SpecError if a study's model is behind an endpoint."""
    if spec.endpoint is not None:
        raise SpecError(
            f"this table or figure needs the model's weights, and {name!r} has an endpoint",
            remedy="choose the table logo-4, or take `endpoint` out and name a `base_model`",
        )


def search_part(
    name: str,
    spec: StudySpec,
    narrowed: Callable[[SearchSpace], SearchSpace],
    file: Path | None = None,
) -> Part:
    """Returns the part that searches, and tests its front.

    Raises SpecError if its model is behind an endpoint.
    """
    refuse_endpoint(name, spec)
    return Part(name, spec, lambda space, task: narrowed(space), file)


def run_parts(parts: Sequence[Part], folder: Path, console: Console) -> int:
    """Runs what is missing of each part; finished ones are looked at only.

    Args:
        parts: In the order in which they run.
        folder: Where their folders lie.
        console: Where progress is printed.

    Returns:
        0; the exit code of the part that a signal stopped; 3 where no trial of any part succeeded.

    Raises:
        InputError: Something that a part names cannot be read, or its folder holds another study.
    """
    made_folder(folder)
    codes = []
    for number, part in enumerate(parts):
        title = f"Part {number + 1} of {len(parts)}: {part.name}"
        console.print(title, markup=False, highlight=False)
        codes.append(_run_part(part, folder / part.name, console))
        if codes[-1] > _SIGNALLED:
            return codes[-1]
    return NO_TRIAL_SUCCEEDED if codes and min(codes) == NO_TRIAL_SUCCEEDED else 0


def _run_part(part: Part, folder: Path, console: Console) -> int:
    """Runs one part to its end, from where it stands, and returns its exit code."""
    prepared = prepare(part.spec, part.file, part.make_space)
    if not begun(folder / STORE_NAME):
        prepared = _without_forgotten(prepared, folder.parent)
        _adopt_base_stage(prepared.spec, folder)
        return run_study(prepared, folder, console)
    _check_same(prepared, folder)
    with Study.open(folder, read_only=True) as study:
        if study.finished is not None:
            return 0 if study.front() else NO_TRIAL_SUCCEEDED
    return resume_study(folder, console)


def _check_same(prepared: Prepared, folder: Path) -> None:
    """Raises StudyError if the folder's study is another than this one."""
    with Study.open(folder, read_only=True) as study:
        same = {
            "rows, seeds or space": study.created.space == prepared.space.as_dict(),
            "data": study.settings.get("data_fingerprint") == prepared.task.fingerprint,
            "settings": _decisive(_kept_spec(folder)) == _decisive(prepared.spec),
        }
    for what, is_same in same.items():
        if not is_same:
            raise StudyError(
                f"{folder} holds a study of other {what}",
                remedy="Go on with the same command and study file as before, or give another "
                "--out.",
            )


def _decisive(spec: StudySpec) -> StudySpec:
    """Returns a study without where it runs and where its space and data lie."""
    elsewhere = {
        "space": "",
        "data": replace(spec.data, path=None, forgotten=()),
        "dispatch": DispatchSettings(),
        "resolved": None,
    }
    return spec.model_copy(update=elsewhere)


def _without_forgotten(prepared: Prepared, parts: Path) -> Prepared:
    """Returns the study without the users who were forgotten in parts that were run before.

    Its rows and space stay those of all users, as in the parts before.
    """
    kept = [read_kept(file.parent).data.forgotten for file in sorted(parts.glob(f"*/{SPEC_NAME}"))]
    marks = tuple(dict.fromkeys(mark for of_part in kept for mark in of_part))
    data = replace(prepared.spec.data, forgotten=(*prepared.spec.data.forgotten, *marks))
    return replace(
        prepared,
        spec=prepared.spec.model_copy(update={"data": data}),
        task=without_forgotten(prepared.task, marks),
    )


def _adopt_base_stage(spec: StudySpec, folder: Path) -> None:
    """Takes over the base stage of a part that trains it of the same, where there is one."""
    for other in sorted(folder.parent.glob(f"*/{SPEC_NAME}")):
        if _base_stage_of(_kept_spec(other.parent)) != _base_stage_of(spec):
            continue
        for stage in other.parent.glob("base-*"):
            target = folder / stage.name
            if not stage.suffix and not target.exists():
                made_folder(folder)
                unfinished = target.with_suffix(".partial")
                refuse_link(unfinished)
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(stage, unfinished, copy_function=_linked)
                unfinished.rename(target)


def _linked(source: str, target: str) -> None:
    """Puts a file into a second place: a stage is never changed, and may be as large as the base.

    Copied where the file system has no such links, as on many mounts of a network or a host.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _base_stage_of(spec: StudySpec) -> tuple[object, ...]:
    """Returns what decides a study's base stage."""
    data = replace(spec.data, max_target_history=None)
    base = spec.base_model, spec.base_precision, spec.trust_remote_code
    return data, base, spec.training, spec.seed


def _kept_spec(folder: Path) -> StudySpec:
    return load_study_spec(folder / SPEC_NAME)
