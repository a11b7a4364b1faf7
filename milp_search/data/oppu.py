"""OPPU's cut of LaMP: one file, per user a profile and the later queries with their answers.

`[{user_id, profile: [...], query: [{id, input, gold}]}]`; the queries are the test part.
"""

from __future__ import annotations

from milp_search.core.errors import DataError, Location
from milp_search.core.settings import DataSettings
from milp_search.data.fields import as_list, as_object, as_text
from milp_search.data.lamp_profile import Question, build_population, profile_of
from milp_search.data.population import Population
from milp_search.data.read_json import json_array
from milp_search.data.source import Source


def read_oppu(source: Source, settings: DataSettings) -> Population:
    """Returns the users of the file.

    Raises DataError if the file or a record cannot be used.
    """
    questions: list[Question] = []
    for file in source.files:
        for at, value in json_array(file):
            questions += _read_user(value, at)
    if not questions:
        raise DataError("expected at least one user, got none", at=Location(source.files[0], 1, 1))
    return build_population(questions, settings.task or source.task)


def _read_user(value: object, at: Location) -> list[Question]:
    record = dict(as_object(value, at))
    user, profile = as_text(record, "user_id", at), profile_of(record, at)
    queries = [as_object(query, at) for query in as_list(record, "query", at)]
    if not queries:
        raise DataError(
            "expected at least one query of the user, got an empty 'query'",
            at=at,
            remedy="Remove the record, or give the user a query.",
        )
    return [
        # The profile comes with the first query only: it is one and the same.
        Question(user, as_text(query, "input", at), as_text(query, "gold", at), part, at)
        for query, part in zip(queries, [profile, *[()] * len(queries)], strict=False)
    ]
