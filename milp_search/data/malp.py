"""MaLP's dialogues (MedDia): a list of dialogues, each a list of `{"0": {"Assistant", "User"}}`.

A dialogue is a user: the data name no patient. The order of the keys is not the order of speech.
By the source's generator, round 0 holds the doctor's greeting and the patient's opening; in the
rounds after it the doctor answers the patient's turn of the round before; in the last round the
patient speaks first, so the doctor answers that same round's turn and never sees the one before.
Of six rounds the pairs are U0>A1, U1>A2, U2>A3, U3>A4, U5>A5.

Source: MaLP (Zhang et al. 2024), dialogue_generation.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from milp_search.core.errors import DataError, Location
from milp_search.core.records import Interaction
from milp_search.core.settings import DataSettings
from milp_search.data.fields import as_object, as_text
from milp_search.data.population import Population, UserRecords
from milp_search.data.read_json import json_array, type_name
from milp_search.data.source import Source

Round = tuple[str, str]

_ERROR_TEXT = "Error Networking, check your network"
_ROLE = re.compile(r'^\s*(?:"\s*)?(?:Doctor|Patient|Assistant|User|AI)\s*:\s*')


def read_malp(source: Source, settings: DataSettings) -> Population:
    """Returns one user per dialogue; turns that are empty or an error text are dropped.

    Raises DataError if a file or dialogue cannot be used, or a file lies beside its cleaned copy.
    """
    dropped: Counter[str] = Counter()
    users = []
    for name, file in _named(source.files).items():
        for index, (at, dialogue) in enumerate(json_array(file)):
            user = f"{name}_{index:04d}"
            pairs = _pairs(_rounds(dialogue, at))
            history = tuple(_interactions(user, pairs, dropped))
            users.append(UserRecords(user, history, at=at))
    if not users:
        raise DataError(
            "expected at least one dialogue, got none", at=Location(source.files[0], 1, 1)
        )
    return Population(source.files[0].stem, "text", tuple(users), dropped=dropped)


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Returns the files by the name that their dialogues bear."""
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.stem.removesuffix("_cleaned"), file)
        if other != file:
            raise DataError(
                f"expected dialogues once, got {other.name} and {file.name}",
                at=Location(file),
                remedy="Give one of the files as `data.path` or `--data`.",
            )
    return named


def _rounds(dialogue: object, at: Location) -> list[Round]:
    """Returns what patient and doctor say in each round."""
    if not isinstance(dialogue, list):
        raise DataError(f"expected a dialogue as a list, got {type_name(dialogue)}", at=at)
    rounds = []
    for number, value in enumerate(dialogue):
        turns = as_object(as_object(value, at).get(str(number)), at)
        rounds.append((as_text(turns, "User", at), as_text(turns, "Assistant", at)))
    return rounds


def _pairs(rounds: list[Round]) -> list[Round]:
    """Returns the patient's turns with the doctor's answers to them."""
    if len(rounds) < 2:
        return []
    usual = [(rounds[i][0], rounds[i + 1][1]) for i in range(len(rounds) - 2)]
    return [*usual, rounds[-1]]


def _interactions(user: str, pairs: list[Round], dropped: Counter[str]) -> Iterator[Interaction]:
    for query, response in pairs:
        if _ERROR_TEXT in query or _ERROR_TEXT in response:
            dropped["generation error in place of a turn"] += 1
        else:
            yield Interaction(user, _without_role(query), _without_role(response))


def _without_role(turn: str) -> str:
    """Returns a turn without the role before it and quotes around it."""
    turn = _ROLE.sub("", turn).strip()
    quoted = len(turn) > 1 and turn[0] == turn[-1] == '"'
    return turn[1:-1].strip() if quoted else turn
