"""Loads a search space from a YAML file or, by name, one of those that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from milp_search.core.errors import SpecError
from milp_search.core.model_shape import MAX_LAYERS
from milp_search.space.count_readings import CountReading
from milp_search.space.dimension import SettingError
from milp_search.space.dimensions import DIMENSIONS
from milp_search.space.search_space import SearchSpace, TargetMaps, configure
from milp_search.space.suggestion import suggestion
from milp_search.space.yaml_reader import YamlDocument, read_yaml, validate

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries the spaces inside the package; in a checkout they lie beside it.
_SHIPPED = (_PACKAGE / "shipped" / "search_spaces", _PACKAGE.parent / "search_spaces")


class SpaceSettings(BaseModel, extra="forbid", frozen=True):
    """What a space file says, before `auto` is resolved.

    Attributes:
        name: The space's name.
        description: What the space is for.
        layers: The base model's number of layers, or `auto` to take it from there.
        count_reading: What the LoRA count means beside the layer mask.
        target_maps: Which linear maps carry LoRA; absent is the method's own choice.
        alpha_over_rank: The LoRA scaling alpha / r.
        dimensions: What to search, and fixed values for what not to.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    layers: int | Literal["auto"] = "auto"
    count_reading: CountReading = "budget"
    target_maps: TargetMaps | None = None
    alpha_over_rank: Annotated[float, Field(gt=0)] = 1.0
    dimensions: dict[str, Any]


def shipped_spaces() -> dict[str, Path]:
    """Returns the files of the spaces that ship, by name, in alphabetical order."""
    folder = next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[-1])
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def load_search_space(path_or_name: Path | str, layers: int | None = None) -> SearchSpace:
    """Returns the search space of a file.

    Args:
        path_or_name: A YAML file, or the name of a space that ships (`milp_logo`).
        layers: The base model's number of layers, which `auto` in the file stands for.

    Returns:
        The space with every `auto` resolved.

    Raises:
        SpecError: The file cannot be used, says `auto` where `layers` is not given, or was
            written for another number of layers.
    """
    document = read_yaml(_file(path_or_name))
    settings = validate(document, SpaceSettings)
    _check_names(document, settings)
    depth = _layers(document, settings.layers, layers)
    try:
        dimensions = configure(settings.dimensions, depth)
    except SettingError as error:
        at = document.location(("dimensions", *error.path))
        raise SpecError(error.message, at=at, remedy=error.remedy) from None
    return SearchSpace(
        name=settings.name,
        layers=depth,
        dimensions=dimensions,
        count_reading=settings.count_reading,
        target_maps=settings.target_maps,
        alpha_over_rank=settings.alpha_over_rank,
        description=settings.description,
    )


def _file(path_or_name: Path | str) -> Path:
    shipped = shipped_spaces()
    if str(path_or_name) in shipped:
        return shipped[str(path_or_name)]
    path = Path(path_or_name)
    is_name = isinstance(path_or_name, str) and path.name == path_or_name and not path.suffix
    if is_name and not path.exists():
        raise SpecError(
            f"expected a space file or the name of a shipped space, got {path_or_name!r}",
            remedy=suggestion(path.name, tuple(shipped)),
        )
    return path


def _check_names(document: YamlDocument, settings: SpaceSettings) -> None:
    for name in settings.dimensions:
        if name not in DIMENSIONS:
            at = document.location(("dimensions", name))
            remedy = suggestion(name, tuple(DIMENSIONS))
            raise SpecError(f"unknown dimension {name!r}", at=at, remedy=remedy)
    if settings.count_reading == "derived" and "lora_count" in settings.dimensions:
        raise SpecError(
            "lora_count: expected no such dimension where `count_reading` is 'derived'",
            at=document.location(("dimensions", "lora_count")),
            remedy="remove `lora_count`, or choose another `count_reading`",
        )


def _layers(document: YamlDocument, stated: int | str, model: int | None) -> int:
    at = document.location(("layers",))
    layers = model if stated == "auto" else stated
    if not isinstance(layers, int):
        remedy = "write the number of layers, or load the space with `layers=` of the base model"
        raise SpecError("layers: expected a base model for 'auto', got none", at=at, remedy=remedy)
    # A model that can only be asked has no layers that anyone knows of.
    if not (1 <= layers <= MAX_LAYERS or model == layers == 0):
        remedy = "write the base model's number of layers, or `auto`"
        raise SpecError(f"layers: expected 1 to {MAX_LAYERS}, got {layers}", at=at, remedy=remedy)
    if model is not None and layers != model:
        message = f"layers: expected {model} as in the base model, got {layers}"
        raise SpecError(message, at=at, remedy=f"write `layers: {model}` or `layers: auto`")
    return layers
