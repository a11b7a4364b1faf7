"""The systems under test: a script each, and what the harness must know beside its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

_LOCAL = "milp_search_local"
_LATE = (
    *("cli", "dispatch.drive", "dispatch.ray_session", "dispatch.ray_trials"),
    *("search.proposers", "study.report", "dispatch.show"),
)


@dataclass(frozen=True)
class Subject:
    """A system under test.

    Attributes:
        name: What the command line calls it.
        title: What the table calls it.
        script: The script that runs a study as a user of the system would.
        options: Options of the script beside those that every subject has.
        store: Where in the study's folder its state lies, as a glob pattern.
        modules: What the script imports late; imported once for all drivers of the harness.
        trials_in_driver: Trials run in the process that is started, so that no worker can die
            without it.
        twin: A subject whose undisturbed study has the same values as any study of this one with
            the same seed, whatever befell it; None where values depend on more than the seed.
    """

    name: str
    title: str
    script: str
    store: str
    options: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    trials_in_driver: bool = False
    twin: str | None = None

    @property
    def path(self) -> Path:
        """The script's path."""
        return HERE / self.script


def _ours(name: str, title: str, *options: str, in_driver: bool = False) -> Subject:
    script, store = "milp_search_study.py", "study.sqlite3"
    modules = tuple(f"milp_search.{name}" for name in _LATE)
    return Subject(name, title, script, store, options, modules, in_driver, twin=_LOCAL)


SUBJECTS: Mapping[str, Subject] = {
    one.name: one
    for one in (
        _ours("milp_search", "milp-search (Ray)"),
        _ours(_LOCAL, "milp-search (--local)", "--local", in_driver=True),
        Subject(
            "optuna_rdb",
            "Optuna (SQLite, heartbeat)",
            "optuna_study.py",
            "study.db",
            ("--storage", "rdb"),
        ),
        Subject(
            "optuna_journal",
            "Optuna (journal)",
            "optuna_study.py",
            "journal.log",
            ("--storage", "journal"),
        ),
        Subject("ray_tune", "Ray Tune (restore)", "tune_study.py", "faults/experiment_state-*"),
    )
}
