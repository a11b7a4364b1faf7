"""How MiLP's LoRA count n is read beside the layer mask: how many modules each layer gets.

Source: MiLP, Eq. 6, Fig. 2 and Table 6, by the readings of PAPERS.md, section 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Literal

CountReading = Literal["budget", "derived", "per_layer"]
ModulesPerLayer = Callable[[int, Sequence[int]], tuple[int, ...]]


def budget(count: int, mask: Sequence[int]) -> tuple[int, ...]:
    """Returns the modules of each layer where `count` is the total number of modules.

    With a active layers: up to a modules go to active layers evenly spaced with both ends kept;
    more give every active layer `count // a`, and the first `count % a` of them one more.
    """
    active = tuple(compress(range(len(mask)), mask))
    if not active:
        return (0,) * len(mask)
    if count <= len(active):
        chosen = {active[place] for place in evenly_spaced(count, len(active))}
        return tuple(int(layer in chosen) for layer in range(len(mask)))
    each, more = divmod(count, len(active))
    modules = {layer: each + (place < more) for place, layer in enumerate(active)}
    return tuple(modules.get(layer, 0) for layer in range(len(mask)))


def derived(count: int, mask: Sequence[int]) -> tuple[int, ...]:
    """Returns one module for each active layer; `count` plays no part."""
    return tuple(mask)


def per_layer(count: int, mask: Sequence[int]) -> tuple[int, ...]:
    """Returns `count` modules for each active layer."""
    return tuple(count * active for active in mask)


def evenly_spaced(count: int, size: int) -> tuple[int, ...]:
    """Returns `count <= size` distinct places out of `0..size-1`, both ends kept from two on.

    A single one is the last place, ours: the layers near the output are the ones that adaptation
    to a task changes most, and the paper says nothing. Halves are rounded up.
    """
    if count == 1:
        return (size - 1,)
    gaps = count - 1
    return tuple((2 * i * (size - 1) + gaps) // (2 * gaps) for i in range(count))


COUNT_READINGS: dict[CountReading, ModulesPerLayer] = {
    "budget": budget,
    "derived": derived,
    "per_layer": per_layer,
}
