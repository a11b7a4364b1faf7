"""Arms as levels: the place of each value in its parameter's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from milp_search.core.arm import Arm
from milp_search.space.parameter import Parameter


@dataclass(frozen=True)
class Levels:
    """What the peers that want numbers see of a space; a parameter of one value is left out."""

    parameters: tuple[Parameter, ...]

    @property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters with more than one value."""
        return tuple(one for one in self.parameters if len(one.values) > 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each of them has."""
        return tuple(len(one.values) for one in self.free)

    def arm(self, levels: Sequence[int]) -> Arm:
        """Returns the arm at these levels, one for each free parameter."""
        chosen = dict(zip((one.name for one in self.free), levels, strict=True))
        return Arm({one.name: one.values[chosen.get(one.name, 0)] for one in self.parameters})


def is_boolean(parameter: Parameter) -> bool:
    """Returns whether a parameter is a switch; all others are ordered numbers."""
    return all(isinstance(value, bool) for value in parameter.values)
