"""From data settings to a task: locate, read, clean, split, fingerprint, leave out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from milp_search.core.errors import SpecError
from milp_search.core.forgotten import is_mark
from milp_search.core.records import PersonalizationTask
from milp_search.core.settings import DataSettings
from milp_search.data.clean import clean
from milp_search.data.fingerprint import fingerprint
from milp_search.data.forgotten import without_forgotten
from milp_search.data.formats import FORMATS
from milp_search.data.locate import locate
from milp_search.data.population import Population
from milp_search.data.split import split_population

log = logging.getLogger(__name__)


def load_task(settings: DataSettings) -> PersonalizationTask:
    """Returns the population that the settings mean, split without leaks.

    More `targets` than users make every user a target. Then nobody is left for `others` and base
    training has no data; that is no error.

    The fingerprint is that of the data as they are, forgotten users included: it tells whether
    the data are those that a study began with.

    Raises SpecError if a setting is out of range. Raises DataError if the data are missing,
    ambiguous or broken, no user has enough of them, or every target is to be forgotten.
    """
    _check(settings)
    source = locate(settings)
    log.info("reading %s", source)
    population = clean(FORMATS[source.format].read(source, settings))
    task, left_out = split_population(population, settings)
    _log_counts(population, task, left_out)
    task = replace(task, fingerprint=fingerprint(task))
    return without_forgotten(task, settings.forgotten)


def _check(settings: DataSettings) -> None:
    if settings.format != "auto" and settings.format not in FORMATS:
        raise SpecError(
            f"expected `data.format` to be auto or one of {list(FORMATS)}, got {settings.format!r}"
        )
    for name in ("targets", "max_history", "max_target_history", "max_queries"):
        count = getattr(settings, name)
        if count is not None and count < 1:
            raise SpecError(f"expected `data.{name}` to be at least 1, got {count}")
    if settings.others is not None and settings.others < 0:
        raise SpecError(f"expected `data.others` to be at least 0, got {settings.others}")
    for mark in settings.forgotten:
        if not is_mark(mark):
            raise SpecError(
                "expected `data.forgotten` to hold marks that `milp-search forget` wrote, got "
                f"{mark!r}",
                remedy="Take it out, and forget the user by that command.",
            )
    shares = (settings.validation, settings.test)
    if not (min(shares) > 0 and sum(shares) < 1):
        raise SpecError(
            "expected `data.validation` and `data.test` above 0 and together below 1, got "
            f"{settings.validation} and {settings.test}"
        )


def _log_counts(population: Population, task: PersonalizationTask, left_out: Counter[str]) -> None:
    log.info(
        "%s: %d users, %d interactions; dropped: %s",
        task.name,
        len(population.users),
        sum(user.size for user in population.users),
        _words(population.dropped),
    )
    log.info(
        "%d targets, %d others; left out: %s",
        len(task.targets),
        len(task.others),
        _words(left_out),
    )


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items() if count) or "nothing"
