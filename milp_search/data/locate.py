"""Finds out which files of which format `data.path`, `data.format` and `data.task` mean.

1. No path: the synthetic population. `hub:NAME` or `hf://...`: JSON Lines records of the hub.
2. A file (it alone is read): the named format; under `auto` by its name (`*.jsonl`,
   `*_questions.json`), then by how it begins (`{` JSON Lines; a list of lists MaLP; of objects
   with `profile` and `query` OPPU).
3. A folder holds these candidates:
   - jsonl: `interactions.jsonl`, else every `*.jsonl`;
   - lamp: every task folder with `*_questions.json`; oppu: with `user_top_*_history.json`
     (task folders are the folder itself, its subfolders and those of `lamp/`);
   - malp: all `dialogues*.json` of the folder, else of its `raw/`.
   Candidates of another format or task than asked for fall away: `text`, `rating` and
   `classification` are jsonl's tasks, a LaMP task's name means the lamp or oppu folder of that
   name (failing that, one whose name is no task's), `dialogues` is malp's. Of what is left, the
   first format in the order jsonl, lamp, oppu, malp is taken; one candidate of it has to remain.
"""

from __future__ import annotations

from pathlib import Path

from milp_search.core.errors import DataError, Location
from milp_search.core.settings import DataSettings
from milp_search.data.jsonl import KINDS
from milp_search.data.lamp import QUESTIONS
from milp_search.data.lamp_tasks import canonical_task
from milp_search.data.read_json import first_character, json_array
from milp_search.data.source import HUB_PREFIXES, Source

ORDER = ("jsonl", "lamp", "oppu", "malp")
_DIALOGUES = "dialogues"


def locate(settings: DataSettings) -> Source:
    """Returns the source that the settings mean.

    Raises DataError if there is none, or more than one; the error lists what was found. It is
    raised too where the path cannot be looked at.
    """
    if settings.path is None or settings.format == "synthetic":
        return _synthetic(settings)
    if settings.path.startswith(HUB_PREFIXES):
        return _hub(settings.path, settings.format)
    try:
        return _at(Path(settings.path).expanduser(), settings)
    except (OSError, RuntimeError) as error:  # RuntimeError: `~name` of nobody here
        raise DataError(
            f"expected a path that can be read, got: {getattr(error, 'strerror', None) or error}",
            at=Location(settings.path),
            remedy="Correct `data.path` or `--data`, or its permissions.",
        ) from error


def _at(path: Path, settings: DataSettings) -> Source:
    if path.is_dir():
        return _choose(candidates(path), path, settings)
    if path.is_file():
        named = settings.format if settings.format != "auto" else recognise(path)
        return Source(named, (path,))
    raise DataError(
        "expected a file or folder with data, got no such path",
        at=Location(path),
        remedy="Correct `data.path` or `--data`.",
    )


def recognise(file: Path) -> str:
    """Returns the format of a file, by its name and beginning.

    Raises DataError if it is none of the known ones.
    """
    if file.suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if file.name.endswith(QUESTIONS):
        return "lamp"
    start = first_character(file)
    if start == "{" and not file.name.endswith("_outputs.json"):
        return "jsonl"
    found = _recognise_array(file) if start == "[" else None
    if found is None:
        raise DataError(
            f"expected data in one of the formats {', '.join(ORDER)}, got something else",
            at=Location(file, 1, 1),
            remedy="Name it with `data.format`; for LaMP give the questions file or the folder.",
        )
    return found


def candidates(folder: Path) -> list[Source]:
    """Returns every source in a folder, in the order of preference."""
    tasks = [folder, *_subfolders(folder), *_subfolders(folder / "lamp")]
    questions = [(task, _questions(task)) for task in tasks]
    oppu = [(task, file) for task in tasks for file in sorted(task.glob("user_top_*_history.json"))]
    dialogues = _dialogues(folder)
    return [
        *(Source("jsonl", (file,)) for file in _json_lines(folder)),
        *(Source("lamp", files, canonical_task(task.name)) for task, files in questions if files),
        *(Source("oppu", (file,), canonical_task(task.name)) for task, file in oppu),
        *([Source("malp", dialogues, _DIALOGUES)] if dialogues else []),
    ]


def _synthetic(settings: DataSettings) -> Source:
    if settings.format not in ("auto", "synthetic"):
        raise DataError(
            f"expected a path for the format {settings.format!r}, got none",
            remedy="Set `data.path` or `--data`.",
        )
    if settings.path is not None:
        raise DataError(
            "expected no path for the format 'synthetic', got one",
            at=Location(settings.path),
            remedy="Leave out `data.path`, or choose another `data.format`.",
        )
    return Source("synthetic")


def _hub(name: str, format: str) -> Source:
    if format not in ("auto", "jsonl"):
        raise DataError(
            f"expected a file or folder for the format {format!r}, got a hub data set",
            at=Location(name),
            remedy="Leave out `data.format`: hub records are read as JSON Lines are.",
        )
    return Source("jsonl", hub=name)


def _recognise_array(file: Path) -> str | None:
    _, first = next(json_array(file), (None, None))
    if isinstance(first, list):
        return "malp"
    if isinstance(first, dict) and {"profile", "query"} <= first.keys():
        return "oppu"
    return None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.glob("*") if entry.is_dir())


def _json_lines(folder: Path) -> list[Path]:
    usual = folder / "interactions.jsonl"
    return [usual] if usual.is_file() else sorted(folder.glob("*.jsonl"))


def _questions(folder: Path) -> tuple[Path, ...]:
    """Returns a task folder's questions files; LaMP publishes its test questions unanswered."""
    files = sorted(folder.glob(f"*{QUESTIONS}"))
    unanswered = folder / f"test{QUESTIONS}"
    answered = (folder / "test_outputs.json").is_file()
    return tuple(file for file in files if file != unanswered or answered)


def _dialogues(folder: Path) -> tuple[Path, ...]:
    pattern = f"{_DIALOGUES}*.json"
    return tuple(sorted(folder.glob(pattern)) or sorted((folder / "raw").glob(pattern)))


def _choose(found: list[Source], folder: Path, settings: DataSettings) -> Source:
    fitting = [source for source in found if _fits(source, settings)]
    if not fitting:
        raise DataError(
            f"expected data of format {settings.format!r} for the task {settings.task!r}, got "
            + _listing(found),
            at=Location(folder),
            remedy="Correct `data.path`, `data.format` or `data.task`.",
        )
    preferred = min(fitting, key=lambda source: ORDER.index(source.format)).format
    best = [source for source in fitting if source.format == preferred]
    # A folder named for the task goes before folders whose names say nothing.
    named = [source for source in best if settings.task and source.task]
    best = named or best
    if len(best) > 1:
        raise DataError(
            f"expected one data set, got {_listing(best)}",
            at=Location(folder),
            remedy="Choose one with `data.task`, or give its own path.",
        )
    return best[0]


def _fits(source: Source, settings: DataSettings) -> bool:
    if settings.format not in ("auto", source.format):
        return False
    asked = settings.task
    if asked is None or (source.format in ("lamp", "oppu") and source.task is None):
        return True
    if source.format == "jsonl":
        return asked in KINDS
    return source.task == (canonical_task(asked) or asked)


def _listing(sources: list[Source]) -> str:
    return "; ".join(map(str, sources)) or "nothing that looks like one"
