"""Whether a study's base model can do what the study asks of it, before anything is trained."""

from __future__ import annotations

import math

import torch

from milp_search.adapters.base_model import (
    read_config,
    read_tokenizer,
    require_positions,
    require_weights,
    resolve_device,
)
from milp_search.adapters.chat_template import chat_frame, require_room
from milp_search.adapters.encoder_trainer import require_choices
from milp_search.adapters.quantised import require_quantising
from milp_search.adapters.supported import is_encoder
from milp_search.core.errors import ModelError
from milp_search.core.methods import METHODS
from milp_search.core.records import PersonalizationTask
from milp_search.space.row_space import RowSpace, Space
from milp_search.study.spec import StudySpec


def check_base(spec: StudySpec, space: Space, task: PersonalizationTask) -> None:
    """Refuses a base model that cannot serve the study's task, method and lengths.

    Args:
        spec: The study.
        space: Its search space, or the rows of a table.
        task: Its data.

    Raises:
        ModelError: What the base lacks.
    """
    trust, training = spec.trust_remote_code, spec.training
    config = read_config(spec.base_model, trust_remote_code=trust)
    require_weights(spec.base_model)
    if spec.base_precision != "auto" and spec.dispatch.ray_address is None:
        # The machines of a cluster are not known here; each looks at itself.
        require_quantising(spec.base_precision, resolve_device(workers_device(spec)))
    require_positions(spec.base_model, config, training.max_length)
    if is_encoder(config):
        require_choices(spec.base_model, task.choices)
        _require_no_writing(spec, space)
    else:
        frame = chat_frame(
            read_tokenizer(spec.base_model, trust_remote_code=trust), training.chat_template
        )
        require_room(frame, training.max_length, training.max_new_tokens)


def workers_device(spec: StudySpec) -> str:
    """Returns the device that the workers compute on, and whose number format they use.

    Ray does not hide the GPUs that nobody asked for: left to themselves, all workers would
    compute on the first.
    """
    settings = spec.dispatch
    none = not settings.local and settings.gpus == 0 and settings.device == "auto"
    return "cpu" if none else settings.device


def with_gpus(spec: StudySpec) -> StudySpec:
    """Returns the study with the GPUs of this machine shared among its workers, where left out.

    No more workers share a GPU than have to. Where a study runs on a cluster, or computes on the
    CPU or behind an endpoint, none is set aside.
    """
    settings = spec.dispatch
    if settings.gpus_per_trial is not None:
        return spec
    elsewhere = settings.ray_address is not None or spec.endpoint is not None
    unused = settings.local or settings.device == "cpu" or elsewhere
    count = 0 if unused else torch.cuda.device_count()
    # Ray counts GPUs in parts of 10,000.
    share = math.floor(10_000 / math.ceil(settings.parallel / count)) / 10_000 if count else 0.0
    dispatch = settings.model_copy(update={"gpus_per_trial": share})
    return spec.model_copy(update={"dispatch": dispatch})


def for_workers(spec: StudySpec) -> StudySpec:
    """Returns the study with the device that its workers compute on."""
    dispatch = spec.dispatch.model_copy(update={"device": workers_device(spec)})
    return spec.model_copy(update={"dispatch": dispatch})


def _require_no_writing(spec: StudySpec, space: Space) -> None:
    """Raises ModelError if a plan of the space needs of an encoder what only a decoder can do."""
    for method, profile in _methods(spec, space):
        if profile:
            raise ModelError(
                f"base model {spec.base_model!r} fills in masked tokens and cannot write the "
                f"profile texts that method {method!r} is to put into prompts here",
                remedy="Use a decoder-only base model, or a method and space without profile.",
            )
        if METHODS[method].open_base:
            raise ModelError(
                f"method {method!r} works inside a decoder, and base model {spec.base_model!r} "
                "is an encoder",
                remedy="Use a decoder-only base model, or another method.",
            )


def _methods(spec: StudySpec, space: Space) -> list[tuple[str, bool]]:
    """Returns the methods that may be trained, and whether with a profile in prompts."""
    if isinstance(space, RowSpace):
        return [(plan.method, plan.profile) for plan in space.rows.values()]
    axes = {one.name: one.values for one in space.parameters}
    named = {*axes.get("profile", ()), space.fixed.get("profile", "off")}
    # What the space says goes before the method's default.
    by_default = "profile" not in axes | dict(space.fixed) and METHODS[spec.method].needs_profile
    return [(spec.method, "on" in named or by_default)]
