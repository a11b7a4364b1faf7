"""LaMP's layout: `*_questions.json` with one profile per question, `*_outputs.json` beside it.

Every questions file of the source is read (train and dev alike; they hold different users in
LaMP's user split). A user is named by `user_id`; where LaMP leaves that out, each question is a
user of its own, named by file and question id. The question is the user's test query.
"""

from __future__ import annotations

from pathlib import Path

from milp_search.core.errors import DataError, Location
from milp_search.core.settings import DataSettings
from milp_search.data.fields import as_list, as_object, as_text
from milp_search.data.lamp_profile import Question, build_population, profile_of
from milp_search.data.population import Population
from milp_search.data.read_json import json_array, json_object
from milp_search.data.source import Source

QUESTIONS = "_questions.json"


def read_lamp(source: Source, settings: DataSettings) -> Population:
    """Returns the users of all questions files.

    Raises DataError if a file or record cannot be used.
    """
    questions, tasks = [], set()
    for file in source.files:
        task, answers = _read_outputs(outputs_file(file))
        tasks.add(task)
        questions += _read_questions(file, answers)
    if not questions:
        raise DataError(
            "expected at least one question, got none", at=Location(source.files[0], 1, 1)
        )
    # Only what all files agree on is taken from them.
    named = tasks.pop() if len(tasks) == 1 else None
    return build_population(questions, settings.task or named or source.task)


def outputs_file(questions: Path) -> Path:
    """Returns the path of the answers that belong to a questions file.

    Raises DataError if the questions file's name does not end as LaMP's do.
    """
    if not questions.name.endswith(QUESTIONS):
        raise DataError(
            f"expected a file named *{QUESTIONS}, got {questions.name!r}",
            at=Location(questions),
            remedy="Give the questions file or the folder that holds questions and outputs.",
        )
    return questions.with_name(questions.name.removesuffix(QUESTIONS) + "_outputs.json")


def _read_outputs(file: Path) -> tuple[str | None, dict[str, str]]:
    """Returns the task's name, if given, and the answers by question id."""
    if not file.exists():
        raise DataError(
            "expected the answers to the questions here, got no such file",
            at=Location(file),
            remedy="Put the outputs file beside the questions file.",
        )
    record, at = json_object(file), Location(file, 1, 1)
    golds = [as_object(gold, at) for gold in as_list(record, "golds", at)]
    answers = {as_text(gold, "id", at): as_text(gold, "output", at) for gold in golds}
    if len(answers) < len(golds):
        raise DataError("expected one answer per question id, got several", at=at)
    return (as_text(record, "task", at) if "task" in record else None), answers


def _read_questions(file: Path, answers: dict[str, str]) -> list[Question]:
    seen: set[str] = set()
    questions = []
    for at, value in json_array(file):
        record = dict(as_object(value, at))
        identifier = as_text(record, "id", at)
        if identifier in seen:
            raise DataError(f"expected distinct question ids, got {identifier!r} twice", at=at)
        seen.add(identifier)
        questions.append(
            Question(
                user=_user(record, identifier, file, at),
                text=as_text(record, "input", at),
                gold=_answer(answers, identifier, file, at),
                profile=profile_of(record, at),
                at=at,
            )
        )
    return questions


def _user(record: dict[str, object], identifier: str, file: Path, at: Location) -> str:
    user = as_text(record, "user_id", at) if "user_id" in record else ""
    # LaMP numbers the questions of each file anew.
    return user or f"{file.name.removesuffix(QUESTIONS)}-{identifier}"


def _answer(answers: dict[str, str], identifier: str, file: Path, at: Location) -> str:
    if identifier not in answers:
        raise DataError(
            f"expected an answer to question {identifier!r} in {outputs_file(file).name}, got none",
            at=at,
            remedy="Complete the outputs file.",
        )
    return answers[identifier]
