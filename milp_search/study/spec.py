"""The study file: what a search is to be, as a typed object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
)

from milp_search.core.errors import SpecError
from milp_search.core.methods import KNOWN_METHODS
from milp_search.core.settings import (
    BasePrecision,
    DataSettings,
    EndpointSettings,
    TrainingSettings,
)
from milp_search.core.trial import Objective
from milp_search.search.constraints import OutcomeConstraint, parse_constraint
from milp_search.search.presets import PRESETS, EngineOptions, EngineSettings, filled_options
from milp_search.search.proposers import PROPOSERS
from milp_search.space.suggestion import suggestion

EMBEDDED = "embedded"


def _preset(validated: dict[str, Any]) -> EngineSettings:
    # An unknown preset is refused in its own place.
    return PRESETS.get(validated.get("preset", ""), PRESETS["default"])


def _preset_initial_trials(validated: dict[str, Any]) -> int | None:
    preset = _preset(validated)
    return None if preset.initial_by_parameters else preset.initial_trials


def _preset_batch(validated: dict[str, Any]) -> int:
    return _preset(validated).batch


def _constraint(value: object) -> OutcomeConstraint:
    return value if isinstance(value, OutcomeConstraint) else parse_constraint(str(value))


# In the file a text, as Ax writes outcome constraints.
Constraint = Annotated[OutcomeConstraint, PlainValidator(_constraint), PlainSerializer(str)]


class Settings(BaseModel):
    """A part of the study file: unchangeable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(Settings):
    """How long to search.

    Attributes:
        trials: The number of trials, failed ones included.
    """

    trials: int = Field(default=40, ge=1, le=100_000)


class DispatchSettings(Settings):
    """Where and how many trials run.

    Attributes:
        local: Runs trials in this process, without Ray.
        parallel: How many workers run side by side.
        cpus_per_trial: The CPU cores that Ray sets aside for a worker.
        gpus_per_trial: The GPUs, or share of one, that Ray sets aside for a worker. Left out, the
            workers share the GPUs of the machine on which the study begins; none on a cluster.
        device: Where a trial computes; `auto` is a GPU where there is one, or, through Ray, where
            one is set aside.
        ray_address: The cluster to run on; None is this machine.
        trainer: `packed` trains many adapters in one pass, `plain` one after another with PEFT;
            their results are the same.
        reuse: Keeps what several trials have in common (global adapters, embeddings, ...) in the
            study's folder, and looks there first.
        cache_gib: The bound on what is kept so; what was longest unused goes first.
        pack: How many trials a worker may train together; `auto` is as many as memory holds and
            leave no worker idle.
        memory_gib: The memory that a trainer may fill beside the base model; measured where left
            out.
        hang_after_s: A worker that trains and gives no sign of life for so many seconds is ended,
            and its trials are tried again once; null waits for ever.
        time_limit_s: So many seconds a trial may take, then the same; null for no limit. Trials
            that are trained together have their sum.
        look_ahead: Makes proposals while trials run, so that workers do not wait; what those
            trials will show is then not known yet, only that they are under way. Local runs
            never do.
    """

    local: bool = False
    parallel: int = Field(default=1, ge=1, le=1024)
    cpus_per_trial: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    gpus_per_trial: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ray_address: str | None = None
    trainer: Literal["packed", "plain"] = "packed"
    reuse: bool = True
    cache_gib: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    pack: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    memory_gib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    hang_after_s: float | None = Field(default=1800.0, gt=0, allow_inf_nan=False)
    time_limit_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    look_ahead: bool = True

    @property
    def gpus(self) -> float:
        """What is set aside for a worker; 0 until the study begins, where it is left out."""
        return self.gpus_per_trial or 0.0


class Resolved(Settings):
    """What a study was run with; stands only in the study file that a run writes.

    Attributes:
        versions: Library to version.
        data_fingerprint: The fingerprint of the data, 16 hex digits.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    data_fingerprint: str = ""


class StudySpec(Settings):
    """A study file.

    Attributes:
        name: The study's name; the file's where left out.
        space: The search space: a shipped one's name, or a file relative to the study file.
        data: Where the users' histories come from.
        base_model: `embedded`, a model folder or a hub name.
        base_precision: `auto` computes with the base's weights in bfloat16 on a GPU and float32
            on the CPU; `8bit` and `4bit` quantise them as they are read, which needs a GPU and
            bitsandbytes, and leaves the base without a base stage.
        trust_remote_code: Whether code that comes with the base model may be run to load it. No
            other model's is ever run.
        method: The personalisation method.
        objectives: What is searched for; references left out are inferred.
        metrics: What is measured beside the objectives.
        constraints: The bounds that a trial of the front keeps.
        proposer: What proposes arms.
        preset: The proposer's settings, by name.
        engine: What of the proposer's engine differs from the preset.
        initial_trials: The size of the initial design; by the preset where left out, and None
            where that goes by the space, which the file only names.
        budget: How long to search.
        batch: How many trials are proposed together, q; the preset's where left out.
        training: How adapters are trained.
        dispatch: Where trials run.
        seed: Seed of the search and of training.
        endpoint: The chat model that methods `chat...` ask, in place of a base model.
        prompts: A folder with prompts of one's own for it and the judge; what is missing is ours.
        judge: The chat model that judges answers, for `win_rate`.
        test_seeds: The front's trials are retrained with each of these for the final test.
        examples: How many answers of each final test are kept in the study's folder and shown in
            its report, which are then users' texts; none unless asked for.
        resolved: What a run was done with.
    """

    name: str = Field(default="", max_length=200)
    space: str = Field(min_length=1)
    data: DataSettings = DataSettings()
    base_model: str = Field(default=EMBEDDED, min_length=1)
    base_precision: BasePrecision = "auto"
    trust_remote_code: bool = False
    method: str = "milp_logo"
    objectives: tuple[Objective, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    proposer: str = "saas_nehvi"
    preset: str = "default"
    engine: EngineOptions = Field(default=EngineOptions(), validate_default=True)
    initial_trials: int | None = Field(default_factory=_preset_initial_trials, ge=1)
    budget: Budget = Budget()
    batch: int = Field(default_factory=_preset_batch, ge=1, le=1024)
    training: TrainingSettings = TrainingSettings()
    dispatch: DispatchSettings = DispatchSettings()
    seed: int = Field(default=0, ge=0, lt=2**31)
    test_seeds: tuple[int, ...] = (0,)
    endpoint: EndpointSettings | None = None
    prompts: str | None = None
    judge: EndpointSettings | None = None
    examples: int = Field(default=0, ge=0, le=1000)
    resolved: Resolved | None = None

    @field_validator("proposer")
    @classmethod
    def _known_proposer(cls, proposer: str) -> str:
        if proposer not in PROPOSERS:
            message = f"expected a known proposer, got {proposer!r}"
            raise SpecError(message, remedy=suggestion(proposer, tuple(PROPOSERS)))
        return proposer

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            message = f"expected a known preset, got {preset!r}"
            raise SpecError(message, remedy=suggestion(preset, tuple(PRESETS)))
        return preset

    @field_validator("engine")
    @classmethod
    def _spelled_out(cls, engine: EngineOptions, info: ValidationInfo) -> EngineOptions:
        # An unknown preset is refused in its own place.
        preset = info.data.get("preset", "")
        return filled_options(preset, engine) if preset in PRESETS else engine

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        if method not in KNOWN_METHODS:
            message = f"expected a known method, got {method!r}"
            raise SpecError(message, remedy=suggestion(method, tuple(KNOWN_METHODS)))
        return method
