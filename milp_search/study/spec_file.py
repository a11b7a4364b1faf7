"""Reads and writes study files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from milp_search.core.errors import Location, SpecError
from milp_search.core.settings import EndpointSettings
from milp_search.core.whole_file import write_whole
from milp_search.data.source import HUB_PREFIXES
from milp_search.metrics.subgroups import AT, check_subgroup
from milp_search.search.constraints import check_beside
from milp_search.search.proposers import check_any_measured, check_heeded
from milp_search.space.space_file import shipped_spaces
from milp_search.space.suggestion import suggestion
from milp_search.space.yaml_reader import YamlDocument, read_yaml, validate
from milp_search.study.credentials import refuse_credentials, refuse_given_credentials
from milp_search.study.requested import CLOSED_FORMS, check_measured
from milp_search.study.spec import EMBEDDED, Resolved, StudySpec
from milp_search.study.spec_endpoint import check_endpoint
from milp_search.study.spec_ranges import Place, check_ranges

SPEC_NAME = "study.yaml"

_EMBEDDINGS = ("hidden", "tfidf")  # what is no model of its own


def load_study_spec(
    path: Path | str,
    overrides: Mapping[str, Any] | None = None,
    *,
    metrics: Sequence[str] | None = None,
) -> StudySpec:
    """Returns the study that a file asks for; its paths are absolute.

    Args:
        path: The study file.
        overrides: Dotted keys to values that take the place of the file's (`budget.trials`);
            paths among them are relative to the working directory. A budget smaller than the
            initial design shortens that too.
        metrics: The names of all metrics there are; None leaves metric names unchecked.

    Returns:
        The study.

    Raises:
        SpecError: The file or an override cannot be used; the message says where.
    """
    document = read_yaml(path)
    refuse_credentials(document)
    refuse_given_credentials(overrides or {})
    folder = Path(path).absolute().parent
    spec = _with_paths(validate(document, StudySpec), folder, overrides or {})
    if overrides:
        spec = _overridden(spec, overrides)

    def place(*keys: str | int) -> Location:
        dotted = ".".join(str(key) for key in keys)
        return Location("command line") if dotted in (overrides or {}) else document.location(keys)

    check_ranges(spec, place)
    _check_objectives(spec, place)
    _check_metrics(spec, metrics, place)
    _check_constraints(spec, metrics or (), place)
    _check_budget(spec, place)
    _check_precision(spec, place)
    check_endpoint(spec, place)
    _check_files(spec, place)
    return spec if spec.name else spec.model_copy(update={"name": Path(path).stem})


def write_resolved(
    spec: StudySpec, folder: Path, *, versions: Mapping[str, str], data_fingerprint: str
) -> Path:
    """Writes `study.yaml` with every default spelled out; `load_study_spec` reads it back.

    Args:
        spec: The study.
        folder: The run directory.
        versions: Library to version.
        data_fingerprint: The fingerprint of the data.

    Returns:
        The file.
    """
    resolved = Resolved(versions=dict(versions), data_fingerprint=data_fingerprint)
    values = spec.model_copy(update={"resolved": resolved}).model_dump(mode="json")
    text = StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump(values, text)
    header = "# What this study was run with, every default spelled out.\n"
    return write_whole(folder / SPEC_NAME, header + text.getvalue())


def read_kept(folder: Path) -> StudySpec:
    """Returns the study that a run directory's study file holds, whether its paths exist or not.

    Raises SpecError if the file cannot be used.
    """
    return validate(read_yaml(folder / SPEC_NAME), StudySpec)


def add_mark(folder: Path, mark: str) -> Path:
    """Writes a mark of a user who is to be forgotten into a run directory's study file.

    Args:
        folder: The run directory.
        mark: The mark; one that stands there already is not written again.

    Returns:
        The file.

    Raises:
        SpecError: The file cannot be used.
    """
    spec = read_kept(folder)
    resolved = spec.resolved or Resolved()
    marks = tuple(dict.fromkeys((*spec.data.forgotten, mark)))
    return write_resolved(
        spec.model_copy(update={"data": replace(spec.data, forgotten=marks)}),
        folder,
        versions=resolved.versions,
        data_fingerprint=resolved.data_fingerprint,
    )


def _overridden(spec: StudySpec, overrides: Mapping[str, Any]) -> StudySpec:
    values = spec.model_dump(mode="json")
    for key, value in overrides.items():
        *parents, last = key.split(".")
        inner = values
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    given = "budget.trials" in overrides and "initial_trials" not in overrides
    if given and spec.initial_trials is not None:
        values["initial_trials"] = min(spec.initial_trials, max(1, values["budget"]["trials"]))
    try:
        changed = validate(YamlDocument("command line", values, {}), StudySpec)
    except SpecError as error:
        place = Location("command line")
        raise SpecError(error.message, at=place, remedy=error.remedy) from None
    return _with_paths(changed, Path.cwd(), {})


def _with_paths(spec: StudySpec, folder: Path, skipped: Mapping[str, Any]) -> StudySpec:
    """Returns the spec with the paths in it made absolute, but for the skipped keys."""
    update: dict[str, Any] = {}
    path = spec.data.path
    if path is not None and not path.startswith(HUB_PREFIXES) and "data.path" not in skipped:
        update["data"] = replace(spec.data, path=_absolute("data.path", path, folder))
    if "space" not in skipped and _is_space_file(spec.space):
        update["space"] = _absolute("space", spec.space, folder)
    for key, server in (("endpoint", spec.endpoint), ("judge", spec.judge)):
        if server is not None:
            update[key] = _server_with_paths(key, server, folder)
    if spec.prompts is not None and "prompts" not in skipped:
        update["prompts"] = _absolute("prompts", spec.prompts, folder)
    if "base_model" not in skipped and _is_model_folder(spec.base_model, folder):
        update["base_model"] = _absolute("base_model", spec.base_model, folder)
    embedding = spec.training.embedding
    by_name = embedding in _EMBEDDINGS or "training.embedding" in skipped
    if not by_name and _is_model_folder(embedding, folder):
        path = _absolute("training.embedding", embedding, folder)
        update["training"] = replace(spec.training, embedding=path)
    return spec.model_copy(update=update)


def _server_with_paths(key: str, server: EndpointSettings, folder: Path) -> EndpointSettings:
    key_file, responses = (
        None if path is None else _absolute(f"{key}.{name}", path, folder)
        for name, path in (("key_file", server.key_file), ("responses", server.responses))
    )
    return replace(server, key_file=key_file, responses=responses)


def _absolute(key: str, path: str, folder: Path) -> str:
    """Returns a path made absolute; raises SpecError for none, which would be the folder itself."""
    if not path:
        raise SpecError(
            f"{key}: expected a path, got an empty text", remedy=f"name one, or leave {key} out"
        )
    return os.path.normpath(folder / Path(path).expanduser())


def _is_space_file(space: str) -> bool:
    return space.endswith((".yaml", ".yml")) or os.sep in space


def _is_model_folder(model: str, folder: Path) -> bool:
    """Whether a model's name is a path; `owner/name` may be either, and a folder wins."""
    if model == EMBEDDED:
        return False
    return model.startswith((".", "~", os.sep)) or (folder / model).exists()


def _check_objectives(spec: StudySpec, place: Place) -> None:
    names = [objective.metric for objective in spec.objectives]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise SpecError(
                f"expected each objective once, got {name!r} again",
                at=place("objectives", position, "metric"),
                remedy="take one of them out",
            )
    with _at(place("objectives")):
        check_any_measured(names, CLOSED_FORMS)


def _check_metrics(spec: StudySpec, known: Sequence[str] | None, place: Place) -> None:
    named: list[tuple[str, tuple[str | int, ...]]] = [
        (objective.metric, ("objectives", position, "metric"))
        for position, objective in enumerate(spec.objectives)
    ]
    named += [(metric, ("metrics", position)) for position, metric in enumerate(spec.metrics)]
    for metric, keys in named:
        if known is not None:
            with _at(place(*keys)):
                _check_metric(metric, known)


def _check_metric(name: str, known: Sequence[str]) -> None:
    """Raises SpecError if a name is neither a metric's nor `METRIC@PART`, over a part of users."""
    metric, at, part = name.partition(AT)
    if at and metric in CLOSED_FORMS:
        raise SpecError(
            f"expected a metric of predictions before {AT!r}, got {name!r}",
            remedy=f"`{metric}` is the same for every user: name it alone",
        )
    if metric not in known:
        raise SpecError(f"expected a known metric, got {name!r}", remedy=suggestion(metric, known))
    if at:
        check_subgroup(part)


def _check_constraints(spec: StudySpec, known: Sequence[str], place: Place) -> None:
    measured = [*(one.metric for one in spec.objectives), *spec.metrics, *CLOSED_FORMS]
    for position, constraint in enumerate(spec.constraints):
        with _at(place("constraints", position)):
            others = known
            if known and AT in constraint.metric:
                _check_metric(constraint.metric, known)
                others = (*known, constraint.metric)
            check_measured(constraint, tuple(dict.fromkeys(measured)), others)
            check_beside(constraint, spec.constraints[:position], spec.objectives)
    with _at(place("constraints")):
        check_heeded(spec.constraints, spec.proposer, spec.preset, spec.engine)


@contextmanager
def _at(place: Location) -> Iterator[None]:
    """Gives errors the place in the file."""
    try:
        yield
    except SpecError as error:
        raise SpecError(error.message, at=place, remedy=error.remedy) from None


def _check_budget(spec: StudySpec, place: Place) -> None:
    if spec.initial_trials is not None and spec.initial_trials > spec.budget.trials:
        raise SpecError(
            f"expected initial_trials of at most the budget of {spec.budget.trials} trials, "
            f"got {spec.initial_trials}",
            at=place("initial_trials"),
            remedy="raise `budget.trials` or lower `initial_trials`",
        )


def _check_precision(spec: StudySpec, place: Place) -> None:
    if spec.base_precision == "auto":
        return
    if spec.training.base_training != "none":
        raise SpecError(
            f"expected base_training none with {spec.base_precision} weights, which cannot be "
            f"trained or merged with a LoRA, got {spec.training.base_training}",
            at=place("base_precision"),
            remedy="set `training.base_training` to none, or `base_precision` to auto",
        )
    if spec.dispatch.device == "cpu":
        raise SpecError(
            f"expected a GPU for {spec.base_precision} weights, got `dispatch.device` cpu",
            at=place("base_precision"),
            remedy="set `dispatch.device` to auto or cuda, or `base_precision` to auto",
        )


def _check_files(spec: StudySpec, place: Place) -> None:
    path = spec.data.path
    if path is not None and not path.startswith(HUB_PREFIXES) and not Path(path).exists():
        raise SpecError(
            f"expected data at {path}, found nothing there",
            at=place("data", "path"),
            remedy="correct `path`, or leave it out for the embedded population",
        )
    if not _is_space_file(spec.space) and spec.space not in shipped_spaces():
        raise SpecError(
            f"expected a space file or the name of a shipped space, got {spec.space!r}",
            at=place("space"),
            remedy=suggestion(spec.space, tuple(shipped_spaces())),
        )
    if _is_space_file(spec.space) and not Path(spec.space).is_file():
        raise SpecError(
            f"expected a space file, found none at {spec.space}",
            at=place("space"),
            remedy="correct `space`; `milp-search list spaces` names the shipped ones",
        )
    models = (
        (spec.base_model, "base_model", "embedded"),
        (spec.training.embedding, "training.embedding", "hidden"),
    )
    for model, key, default in models:
        if Path(model).is_absolute() and not Path(model).is_dir():
            raise SpecError(
                f"expected a model folder, found none at {model}",
                at=place(*key.split(".")),
                remedy=f"correct `{key}`, or use `{default}`",
            )
