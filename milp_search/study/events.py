"""What can happen in a study: one frozen type per kind of event, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, Self

from milp_search.core.arm import Arm
from milp_search.core.model_shape import LinearMap, ModelShape
from milp_search.core.plan import TrialPlan, plan_from_dict
from milp_search.core.trial import Failure, Measurement, Objective
from milp_search.search.constraints import OutcomeConstraint
from milp_search.search.presets import EngineOptions

Json = dict[str, Any]
Measurements = Mapping[str, Measurement]


class Payload(Protocol):
    """What an event says beside its trial and attempt."""

    def as_dict(self) -> Json:
        """Returns plain JSON values."""

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        payload: What happened; its type is the kind.
        trial: The trial it happened to; None where it concerns the study.
        attempt: Which attempt of the trial, from 0; None where it concerns no attempt.
        at: Wall-clock seconds since the epoch; only to be shown, as the clock may be set.
        elapsed_s: Seconds since its driver took the study over, by a clock that nobody sets; None
            in studies of earlier versions.
    """

    payload: Payload
    trial: int | None = None
    attempt: int | None = None
    at: float = 0.0
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Created:
    """The study as it was asked for; always the first event.

    Attributes:
        space: `SearchSpace.as_dict()`.
        objectives: The objectives, with the references that were given.
        seed: Seed of the proposer.
        initial_trials: The size of the initial design.
        proposer: The proposer's name.
        preset: The proposer's preset.
        method: The personalisation method, which decides what collapses in a plan.
        metrics: All metrics a trial may be told; None where any may.
        exact: The metrics with a closed form, never modelled.
        shape: The base model's shape, where known.
        max_communities: The number of target users, where known.
        settings: Facts for the reader: name, versions, data fingerprint and the like.
        constraints: The bounds that a trial of the front keeps.
        engine: What of the proposer's engine differs from the preset.
    """

    space: Json
    objectives: tuple[Objective, ...]
    seed: int
    initial_trials: int
    proposer: str
    preset: str
    method: str
    metrics: tuple[str, ...] | None = None
    exact: tuple[str, ...] = ()
    shape: ModelShape | None = None
    max_communities: int | None = None
    settings: Json = field(default_factory=dict)
    constraints: tuple[OutcomeConstraint, ...] = ()
    engine: EngineOptions = field(default_factory=EngineOptions)

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        metrics, shape = values["metrics"], values["shape"]
        return cls(
            **{
                **values,
                "objectives": tuple(Objective(**objective) for objective in values["objectives"]),
                "metrics": None if metrics is None else tuple(metrics),
                "exact": tuple(values["exact"]),
                "shape": None if shape is None else _shape_from_dict(shape),
                # Studies of earlier versions have none of these.
                "constraints": tuple(
                    OutcomeConstraint(**constraint) for constraint in values.get("constraints", ())
                ),
                "engine": EngineOptions(**values.get("engine", {})),
            }
        )


@dataclass(frozen=True)
class Opened:
    """A driver took the study over; its epoch is one more than the last one's."""

    epoch: int
    host: str
    pid: int

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Referenced:
    """The missing reference values were inferred from the initial trials, once and for all."""

    objectives: tuple[Objective, ...]

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(tuple(Objective(**objective) for objective in values["objectives"]))


@dataclass(frozen=True)
class Asked:
    """An arm was proposed; committed before anything is dispatched.

    Attributes:
        arm: The values.
        plan: What they mean for training.
        origin: What proposed the arm.
        seed: The seed of the proposer.
        known: How many trials had been asked when the proposer looked.
        pending: Those of them that were under way; it knew how the others ended.
    """

    arm: Arm
    plan: TrialPlan | None
    origin: str
    seed: int
    known: int = 0
    pending: tuple[int, ...] = ()

    @property
    def seen(self) -> tuple[int, ...]:
        """The trials whose end the proposer knew."""
        return tuple(sorted({*range(self.known)} - {*self.pending}))

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return {
            "arm": dict(self.arm),
            "plan": None if self.plan is None else self.plan.as_dict(),
            "origin": self.origin,
            "seed": self.seed,
            "known": self.known,
            "pending": list(self.pending),
        }

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        plan, pending = values["plan"], tuple(values["pending"])
        # Studies of earlier versions list the trials whose end was known.
        known = values["known"] if "known" in values else len(values["seen"]) + len(pending)
        return cls(
            arm=Arm(values["arm"]),
            plan=None if plan is None else plan_from_dict(plan),
            origin=values["origin"],
            seed=values["seed"],
            known=known,
            pending=pending,
        )


@dataclass(frozen=True)
class Looked:
    """An ask ahead of time began, for so many trials: what happened before is what it knows."""

    count: int

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Remembered:
    """What the proposer leaves for its next proposals; follows the arms that were asked with it."""

    memory: Json | None

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return {"memory": self.memory}

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Started:
    """An attempt began; `after` says how the attempt before it was lost."""

    after: Failure | None = None

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        after = values["after"]
        return cls(None if after is None else Failure(**after))


@dataclass(frozen=True)
class Completed:
    """A trial ended with measurements.

    Attributes:
        measurements: Metric name to value.
        duration_s: Its share of the seconds of its pack.
        pack: How many trials were trained together.
        reused: Hits and lookups in the study's cache, by kind.
    """

    measurements: Measurements
    duration_s: float | None = None
    pack: int = 1
    reused: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return {
            "measurements": _measurements_as_dict(self.measurements),
            "duration_s": self.duration_s,
            "pack": self.pack,
            "reused": {kind: list(counts) for kind, counts in self.reused.items()},
        }

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(
            _measurements_from_dict(values["measurements"]),
            values["duration_s"],
            # Studies of earlier versions have neither of these.
            values.get("pack", 1),
            {kind: (hits, asked) for kind, (hits, asked) in values.get("reused", {}).items()},
        )


@dataclass(frozen=True)
class Failed:
    """A trial ended without measurements."""

    failure: Failure
    duration_s: float | None = None

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(Failure(**values["failure"]), values["duration_s"])


@dataclass(frozen=True)
class Abandoned:
    """A trial will not be evaluated any more, through no fault of its own."""

    reason: str

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class FinalTest:
    """A completed trial was retrained with a test seed and measured on the test split."""

    seed: int
    measurements: Measurements

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return {"seed": self.seed, "measurements": _measurements_as_dict(self.measurements)}

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(values["seed"], _measurements_from_dict(values["measurements"]))


@dataclass(frozen=True)
class Finished:
    """The budget is spent or the space exhausted; a later `asked` takes the study up again."""

    reason: str

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True)
class Forgotten:
    """A user was forgotten; comes last, when nothing of theirs is left but the aggregates.

    Attributes:
        mark: The salt of the user's mark in the study file, which says nothing of them.
        kept_shared: Whether what was trained on several users' texts was kept.
    """

    mark: str
    kept_shared: bool

    def as_dict(self) -> Json:
        """Returns plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Returns the payload that `as_dict` wrote."""
        return cls(**values)


KINDS: dict[str, type[Payload]] = {
    "created": Created,
    "opened": Opened,
    "reference": Referenced,
    "asked": Asked,
    "looked": Looked,
    "remembered": Remembered,
    "started": Started,
    "completed": Completed,
    "failed": Failed,
    "abandoned": Abandoned,
    "final_test": FinalTest,
    "finished": Finished,
    "forgotten": Forgotten,
}

_NAMES = {payload: name for name, payload in KINDS.items()}


def kind_of(payload: Payload) -> str:
    """Returns the name under which a payload is stored."""
    return _NAMES[type(payload)]


def as_replayed(event: Event) -> Event:
    """Returns the event as it comes back from disk, where JSON has no tuples and the like."""
    values = json.loads(json.dumps(event.payload.as_dict(), allow_nan=False))
    return replace(event, payload=type(event.payload).from_dict(values))


def _measurements_as_dict(measurements: Measurements) -> Json:
    return {
        metric: {"mean": value.mean, "sem": value.sem, "per_user": list(value.per_user)}
        for metric, value in measurements.items()
    }


def _measurements_from_dict(values: Json) -> dict[str, Measurement]:
    return {
        metric: Measurement(value["mean"], value["sem"], tuple(value["per_user"]))
        for metric, value in values.items()
    }


def _shape_from_dict(values: Json) -> ModelShape:
    maps = tuple(LinearMap(**linear) for linear in values["maps"])
    return ModelShape(values["layers"], values["layers_path"], maps)
