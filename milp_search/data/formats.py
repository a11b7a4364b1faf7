"""The table of formats: to add one, write a reader and a line here (and a rule in `locate.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from milp_search.core.settings import DataSettings
from milp_search.data.jsonl import read_jsonl
from milp_search.data.lamp import read_lamp
from milp_search.data.malp import read_malp
from milp_search.data.oppu import read_oppu
from milp_search.data.population import Population, UserRecords
from milp_search.data.source import Source


@dataclass(frozen=True)
class Format:
    """A layout of data on disk.

    Attributes:
        summary: The layout in a few words.
        read: Reads a source into users' records.
    """

    summary: str
    read: Callable[[Source, DataSettings], Population]


def read_synthetic(source: Source, settings: DataSettings) -> Population:
    """Returns the generated population: a pure function of its settings and the seed."""
    from milp_search.data.synthetic import synthetic_histories

    histories = synthetic_histories(settings.population, settings.seed)
    users = tuple(UserRecords(history.user, history.interactions) for history in histories)
    return Population("synthetic", "text", users)


FORMATS: dict[str, Format] = {
    "synthetic": Format("The generated default population; takes no path", read_synthetic),
    "jsonl": Format("JSON Lines of user_id, query, response, timestamp; file or hub", read_jsonl),
    "lamp": Format("LaMP's *_questions.json and *_outputs.json", read_lamp),
    "oppu": Format("OPPU's user_top_*_history.json", read_oppu),
    "malp": Format("MaLP's dialogues (MedDia)", read_malp),
}
