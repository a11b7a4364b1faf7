"""A seeded population with what personalisation is about: communities, drift and personal facts.

Every response is built from five parts, each with a different owner, so that each part of a plan
has something to gain:

- the *opener* is the community's habit and changes from regime to regime (drift);
- the *recommendation* for a topic is the community's too; some topics change at each new regime;
- the *name*, the *action* and the *facts* are the user's own and never change;
- the *closer* is the user's and changes once.

An earlier item on the same topic reveals the user's own part and perhaps an outdated habit;
what the community does now is to be learnt from everybody's latest items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from milp_search.core.errors import SpecError
from milp_search.core.records import Interaction, UserHistory
from milp_search.data import lexicon

_FIRST_DAY = 1_640_995_200.0  # 2022-01-01, the start of the population's two years
_SPAN_S = 2 * 365 * 86_400.0


@dataclass(frozen=True)
class PopulationSettings:
    """The size and make-up of a synthetic population.

    Attributes:
        users: Number of users; who is a target and who trains the base is decided by the split.
        communities: Number of groups with habits of their own; users are dealt round robin.
        topics: Topics that the population talks about.
        fact_groups: Facts per user; a topic always brings up the same one.
        shortest: Interactions of the least active user.
        longest: Interactions of the most active one; lengths between fall geometrically.
        regimes: Points of the time line (0 to 1) where the communities' habits change.
        drift: Share of a community's recommendations that change there.
        skew: How unevenly a user's interactions spread over the topics: those of the i-th of the
            user's favourites go by `i ** -skew` (Zipf's law); 0 spreads them evenly.
    """

    users: int = 16
    communities: int = 4
    topics: int = 10
    fact_groups: int = 4
    shortest: int = 20
    longest: int = 60
    regimes: tuple[float, ...] = (0.2, 0.45)
    drift: float = 0.5
    skew: float = 0.0


@dataclass(frozen=True)
class Habits:
    """What a community does during one regime."""

    opener: str
    recommendations: dict[str, str]


@dataclass(frozen=True)
class Persona:
    """What one user brings along: name, habits of wording and facts by topic."""

    name: str
    action: str
    facts: dict[str, str]
    closers: tuple[str, str]


def synthetic_histories(population: dict[str, Any] | None, seed: int) -> list[UserHistory]:
    """Returns the histories of a population, most active users first.

    `population` holds `PopulationSettings` by name; None is the default population. Equal seeds
    and settings give equal populations. Raises SpecError for a setting that does not exist or
    cannot be met.
    """
    settings = _settings(population or {})
    random = Random(f"population {seed}")
    topics = random.sample(sorted(lexicon.TOPICS), settings.topics)
    groups = [community_habits(random, topics, settings) for _ in range(settings.communities)]
    return [
        _history(Random(f"user {seed} {number}"), number, groups, topics, settings)
        for number in range(settings.users)
    ]


def community_habits(
    random: Random, topics: list[str], settings: PopulationSettings
) -> list[Habits]:
    """Returns a community's habits, one entry per regime; some carry over to the next."""
    openers = lexicon.distinct(random, lexicon.OPENERS, len(settings.regimes) + 1)
    current = {topic: _recommendation(random) for topic in topics}
    habits = [Habits(openers[0], current)]
    for opener in openers[1:]:
        changed = random.sample(topics, round(settings.drift * len(topics)))
        current = current | {topic: _recommendation(random) for topic in changed}
        habits.append(Habits(opener, current))
    return habits


def persona(random: Random, topics: list[str], fact_groups: int) -> Persona:
    """Returns a random user over these topics."""
    phrases = lexicon.distinct(random, lexicon.FACTS, fact_groups)
    facts = [phrase.format(fact=lexicon.made_up_name(random)) for phrase in phrases]
    first, second = random.sample(lexicon.CLOSERS, 2)
    return Persona(
        name=lexicon.made_up_name(random),
        action=random.choice(lexicon.ACTIONS),
        facts={topic: facts[place % fact_groups] for place, topic in enumerate(topics)},
        closers=(first, second),
    )


def exchange(
    random: Random, topic: str, who: Persona, habits: Habits, *, late: bool
) -> tuple[str, str]:
    """Returns one (query, response) of a user about a topic."""
    thing = random.choice(lexicon.TOPICS[topic])
    query = random.choice(lexicon.QUESTIONS).format(thing=thing, topic=topic)
    recommendation, closer = habits.recommendations[topic], who.closers[late]
    response = (
        f"{habits.opener} {who.name}, {who.action} the {recommendation} "
        f"{who.facts[topic]}. {closer}."
    )
    return query, response


def _recommendation(random: Random) -> str:
    return f"{random.choice(lexicon.ADJECTIVES)} {random.choice(lexicon.NOUNS)}"


def _history(
    random: Random,
    number: int,
    groups: list[list[Habits]],
    topics: list[str],
    settings: PopulationSettings,
) -> UserHistory:
    who = persona(random, topics, settings.fact_groups)
    habits, user = groups[number % len(groups)], f"user{number:03d}"
    moments = sorted(random.random() for _ in range(_length(number, settings)))
    favourites = random.sample(topics, len(topics)) if settings.skew else topics
    items = []
    for moment in moments:
        regime = sum(moment >= start for start in settings.regimes)
        topic = _topic(random, favourites, settings.skew)
        query, response = exchange(random, topic, who, habits[regime], late=moment >= 0.4)
        items.append(Interaction(user, query, response, _FIRST_DAY + moment * _SPAN_S))
    return UserHistory(user, tuple(items))


def _topic(random: Random, favourites: list[str], skew: float) -> str:
    if skew == 0:
        return random.choice(favourites)
    return random.choices(favourites, [place**-skew for place in range(1, len(favourites) + 1)])[0]


def _length(number: int, settings: PopulationSettings) -> int:
    """Returns the number of interactions of the user with this activity rank."""
    place = number / max(settings.users - 1, 1)
    return round(settings.longest * float((settings.shortest / settings.longest) ** place))


def _settings(population: dict[str, Any]) -> PopulationSettings:
    known = {field.name for field in fields(PopulationSettings)}
    unknown = sorted(set(population) - known)
    if unknown:
        raise SpecError(
            f"unknown population setting {unknown[0]!r}",
            remedy=f"Known: {', '.join(sorted(known))}",
        )
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in population.items()
    }
    settings = PopulationSettings(**values)
    for name in ("users", "communities", "topics", "fact_groups", "shortest", "longest"):
        if type(size := getattr(settings, name)) is not int or size < 1:
            raise SpecError(f"expected a positive whole number of {name!r}, got {size!r}")
    if settings.longest < settings.shortest:
        raise SpecError(
            f"expected shortest <= longest, got {settings.shortest} and {settings.longest}"
        )
    if settings.topics > len(lexicon.TOPICS):
        raise SpecError(f"expected at most {len(lexicon.TOPICS)} topics, got {settings.topics}")
    _check_time_line(settings.regimes, settings.drift)
    if not isinstance(settings.skew, int | float) or not 0 <= settings.skew < math.inf:
        raise SpecError(f"expected a 'skew' of 0 or more, got {settings.skew!r}")
    return settings


def _check_time_line(regimes: object, drift: object) -> None:
    if not isinstance(regimes, tuple) or not all(map(_is_share, regimes)):
        raise SpecError(f"expected 'regimes' as a list of points from 0 to 1, got {regimes!r}")
    if not _is_share(drift):
        raise SpecError(f"expected a 'drift' from 0 to 1, got {drift!r}")


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1
