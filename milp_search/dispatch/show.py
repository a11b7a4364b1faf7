"""What the smaller commands print: status, front, names, checks."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from milp_search.core.errors import StudyError
from milp_search.core.methods import KNOWN_METHODS
from milp_search.core.plan import AdapterPlan
from milp_search.core.private_files import keep_private
from milp_search.core.trial import Measurement, Trial
from milp_search.data.formats import FORMATS
from milp_search.dispatch.folders import adapters_folder
from milp_search.dispatch.paying import PAID, account_lines
from milp_search.dispatch.progress import progress_line
from milp_search.metrics.subgroups import AT, SUBGROUPS
from milp_search.metrics.table import METRIC_DIRECTIONS, METRICS
from milp_search.personalize.chat_prompts import PROMPTS, shipped_folder
from milp_search.space.row_space import RowSpace
from milp_search.space.space_file import load_search_space, shipped_spaces
from milp_search.space.yaml_reader import read_yaml
from milp_search.study.export import over_seeds
from milp_search.study.outcome import completed, constraint_texts
from milp_search.study.reuse import reuse_text, total_reuse
from milp_search.study.spec_file import SPEC_NAME, load_study_spec, read_kept
from milp_search.study.study import Study

_LAYERS_FOR_CHECK = 32  # `auto` layers need some number when a space file is checked alone


def print_status(folder: Path, console: Console) -> None:
    """Prints the progress line, the trials by status, and why the study ended if it did."""
    with Study.open(folder, read_only=True) as study:
        # A study that Python made has no study file, and no budget that is known.
        spec = read_kept(folder) if (folder / SPEC_NAME).exists() else None
        line = progress_line(study, spec.budget.trials if spec else None, None)
        console.print(line, soft_wrap=True, markup=False)
        counts = Counter(trial.status.value for trial in study.trials)
        states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        console.print(states or "no trial yet", markup=False)
        reused = reuse_text(total_reuse(study.trials))
        if reused:
            console.print(f"reused: {reused}", soft_wrap=True, markup=False, highlight=False)
        for line in account_lines(folder, spec) if spec else ():
            console.print(line, soft_wrap=True, markup=False, highlight=False)
        _print_constraints(study, console)
        if study.finished:
            console.print(f"finished: {study.finished}", markup=False)


def print_front(folder: Path, console: Console) -> None:
    """Prints the Pareto front, validation and test side by side, and its hypervolume."""
    with Study.open(folder, read_only=True) as study:
        front = study.front()
        names = [objective.metric for objective in study.objectives]
        tested = any(study.tests(trial.index) for trial in front)
        paid = [name for name in PAID if any(name in trial.measurements for trial in front)]
        columns = [*names, *(f"test {name}" for name in names if tested), *paid]
        table = Table("trial", "origin", title=f"Pareto front of {len(front)} trials", box=None)
        asks = _asks_a_server(study)
        table.add_column("T, c, k" if asks else "rank per layer, T, c, k", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right", no_wrap=True)
        for trial in front:
            values = [value_text(trial.measurements, name) for name in names]
            tests = over_seeds(study.tests(trial.index))
            values += [value_text(tests, name) for name in names if tested]
            values += [value_text(trial.measurements, name) for name in paid]
            table.add_row(str(trial.index), trial.origin, plan_text(trial), *values)
        console.print(table)
        _print_constraints(study, console)
        hypervolume = study.hypervolume()
        if hypervolume is not None:
            console.print(f"Hypervolume: {hypervolume:.6g}", highlight=False)


def _print_constraints(study: Study, console: Console) -> None:
    lines = constraint_texts(study.trials, study.constraints)
    if completed(study.trials) and not study.eligible():
        lines.append("no completed trial keeps every constraint: the front is empty")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def value_text(measurements: Mapping[str, Measurement], name: str) -> str:
    """Returns a measurement as mean ± standard error."""
    if name not in measurements:
        return "-"
    value = measurements[name]
    return f"{value.mean:.4g}±{value.sem:.1g}" if value.sem else f"{value.mean:.6g}"


def plan_text(trial: Trial) -> str:
    """Returns a plan in few characters: rank per layer, then what else counts in it."""
    if trial.plan is None:
        return ""
    plan = trial.plan
    counts = {"T": plan.time_splits, "c": plan.communities, "k": plan.retrieved_items}
    parts = [_ranks_text(plan.adapter)] if plan.adapter.ranks else []
    parts += [f"{name}{count}" for name, count in counts.items() if count]
    parts += ["profile"] if plan.profile else []
    parts += [f"lines={plan.summary_lines}"] if plan.summary_lines else []
    parts += [f"scope={plan.scope}"] if plan.scope != "user" else []
    return " ".join(parts)


def _asks_a_server(study: Study) -> bool:
    """Whether the study's model is behind an endpoint."""
    return "endpoint" in (study.settings.get("servers") or {})


def _ranks_text(adapter: AdapterPlan) -> str:
    return "-".join(map(str, adapter.ranks)) if adapter.total_rank else "no adapter"


def copy_adapters(folder: Path, to: Path) -> list[Path]:
    """Copies the front's adapters, and the base stage they stand on, and returns the folders.

    Args:
        folder: The study's folder.
        to: Where to; made if it is not there.

    Returns:
        One folder a front trial.

    Raises:
        StudyError: A front trial has no adapters on disk, no completed trial keeps every
            constraint, the study is part of a table, its model can only be asked, or nothing can
            be written there.
    """
    with Study.open(folder, read_only=True) as study:
        if completed(study.trials) and not study.eligible():
            raise StudyError(
                f"{folder} has no adapters to export: no completed trial keeps every constraint",
                remedy="Loosen the constraints in a new study.",
            )
        if isinstance(study.space, RowSpace):
            raise StudyError(
                f"{folder} has no adapters to export: the rows of a table are measured only",
                remedy="Run the row's method as a study of its own.",
            )
        if _asks_a_server(study):
            raise StudyError(
                f"{folder} has no adapters to export: its model is behind an endpoint",
                remedy="front.json says what stands in the prompts of its front.",
            )
        sources = [adapters_folder(folder, trial.index) for trial in study.front()]
    missing = [source for source in sources if not source.is_dir()]
    if missing or not sources:
        raise StudyError(
            f"{folder} has no adapters to export: {missing[0] if missing else 'no front yet'}",
            remedy=f"Finish the study first: milp-search resume {folder}"
            if (folder / SPEC_NAME).exists()
            else "It was made in Python, which keeps none; they are where its trials ran.",
        )
    _copy([*sources, *sorted(folder.glob("base-*"))], folder, to)
    return [to / source.relative_to(folder) for source in sources]


def _copy(sources: Sequence[Path], folder: Path, to: Path) -> None:
    """Copies folders of a study's folder to the same places of another."""
    if to.resolve() == folder.resolve():
        raise StudyError(
            f"expected another folder than the study's own to export to, got {to}",
            remedy="Choose another by `--to`.",
        )
    try:
        for source in sources:
            shutil.copytree(source, to / source.relative_to(folder), dirs_exist_ok=True)
            keep_private(to / source.relative_to(folder))
    except OSError as error:
        # Of many files that could not be copied, the first one's reason.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise StudyError(
            f"cannot copy the adapters to {to}: {reason}", remedy="Choose another folder by `--to`."
        ) from error


def check_file(file: Path) -> str:
    """Returns a line that says what kind of file it is, if it is a good one.

    Args:
        file: A study or space file.

    Returns:
        The line.

    Raises:
        SpecError: It is not.
    """
    content = read_yaml(file).data
    if isinstance(content, dict) and "dimensions" in content:
        layers = content.get("layers")
        space = load_search_space(
            file, layers=None if isinstance(layers, int) else _LAYERS_FOR_CHECK
        )
        return f"{file}: search space {space.name}, {len(space.parameters)} parameters"
    spec = load_study_spec(file, metrics=tuple(METRIC_DIRECTIONS))
    return f"{file}: study {spec.name}, {spec.budget.trials} trials of {spec.method}"


def print_names(what: str, console: Console) -> None:
    """Prints what can be named in a study file, with a word on each."""
    rows = {
        "spaces": {name: _first_comment(path) for name, path in shipped_spaces().items()},
        "methods": {name: traits.summary for name, traits in KNOWN_METHODS.items()},
        "datasets": {name: layout.summary for name, layout in FORMATS.items()},
        "metrics": {name: _metric_summary(name) for name in METRIC_DIRECTIONS},
        "prompts": {f"{name}.txt": _values_text(values) for name, values in PROMPTS.items()},
    }[what]
    width = max(map(len, rows))
    for name, text in sorted(rows.items()):
        console.print(f"{name:{width}}  {text}", markup=False, highlight=False, soft_wrap=True)
    if what == "metrics":
        _print_parts(console)
    if what == "prompts":
        where = f"They lie in {shipped_folder()}; `prompts: FOLDER` replaces those of its files."
        console.print(where, markup=False, highlight=False, soft_wrap=True)


def _print_parts(console: Console) -> None:
    """Prints once what may be added to the name of every metric of predictions."""
    console.print(f"All but trainable_params may be measured over a part of users, METRIC{AT}PART:")
    width = max(map(len, SUBGROUPS)) + 1
    for name, text in SUBGROUPS.items():
        console.print(f"{AT + name:{width}}  {text}", markup=False, highlight=False)


def _values_text(values: Collection[str]) -> str:
    return ", ".join(f"${value}" for value in sorted(values)) or "no values"


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def _metric_summary(name: str) -> str:
    if name not in METRICS:
        return "Parameters of one adapter, in closed form (minimize)"
    return f"{METRICS[name].summary} ({METRIC_DIRECTIONS[name]})"
