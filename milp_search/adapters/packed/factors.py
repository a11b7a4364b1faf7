"""The low-rank matrices of many lanes, and what they add to the frozen maps.

A map y = W x of a layer becomes y + s B A x, with matrices of its own in each lane. Maps that read
the same input (gate and up; q and v) form a group, whose A stand on top of one another. Lanes of
smaller rank, or without LoRA in a layer, are padded with zeros, which stay zero: where A and B
are zero, so are their gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from milp_search.adapters.jobs import Adapter
from milp_search.adapters.packed.rows import Spans

GROUPS = {"attention": ("q", "v"), "ffn": ("gate", "up"), "middle": ("down",)}


class _Shape(NamedTuple):
    """The sizes of one group in one layer."""

    layer: int
    name: str
    maps: tuple[str, ...]
    rank: int
    d_in: int
    widths: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of weights of a lane."""
        return self.rank * (len(self.maps) * self.d_in + sum(self.widths))


Paths = dict[str, tuple[int, str]]
"""Full module path to (layer, short name of the map)."""


@dataclass(frozen=True, eq=False)
class Group:
    """One group's matrices in one layer, all lanes.

    Attributes:
        maps: The maps' short names, in the order of their A.
        a: Stacked A (lanes x maps r x d_in), a view of the lanes' flat weights.
        bs: Per map B transposed (lanes x r x d_out), views too.
    """

    maps: tuple[str, ...]
    a: torch.Tensor
    bs: tuple[torch.Tensor, ...]

    @property
    def rank(self) -> int:
        """The rank r, padding included."""
        return int(self.bs[0].shape[1])


@dataclass(frozen=True, eq=False)
class Factors:
    """The matrices of all lanes.

    Attributes:
        flat: All weights, float32 (lanes x weights of a lane).
        groups: Views of `flat` by (layer, group).
        scales: The factor s of each lane.
        places: Per module path where its A and B lie: (layer, group, place in the group).
    """

    flat: torch.Tensor
    groups: dict[tuple[int, str], Group]
    scales: tuple[float, ...]
    places: dict[str, tuple[int, str, int]]

    @property
    def first_layer(self) -> int | None:
        """The lowest layer with LoRA in any lane, None where there is none."""
        return min((layer for layer, _ in self.groups), default=None)

    def like(self, flat: torch.Tensor) -> Factors:
        """Returns the same layout over other numbers, such as gradients."""
        return _laid_out(flat, self._layout(), self.scales, self.places)

    def read(self, lane: int, like: Adapter) -> Adapter:
        """Returns a lane's weights in the shape of an adapter, as copies on the CPU."""
        tensors = {}
        for path, (a, b) in like.tensors.items():
            mine, other = self.matrices(path, lane, a.shape[0])
            tensors[path] = (mine.cpu().clone(), other.T.cpu().contiguous().clone())
            assert b.shape == tensors[path][1].shape
        return Adapter(like.key, like.plan, tensors)

    def matrices(self, path: str, lane: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns views of a lane's A (rank x d_in) and transposed B (rank x d_out)."""
        layer, name, place = self.places[path]
        group = self.groups[layer, name]
        first = place * group.rank
        return group.a[lane, first : first + rank], group.bs[place][lane, :rank]

    def _layout(self) -> list[_Shape]:
        return [
            _Shape(layer, name, group.maps, group.rank, group.a.shape[2], _widths(group))
            for (layer, name), group in self.groups.items()
        ]


def trainable(adapters: Sequence[Adapter], paths: Paths, device: torch.device) -> Factors:
    """Returns one lane per adapter, scaled by its plan's alpha / r."""
    scales = tuple(adapter.plan.alpha_over_rank for adapter in adapters)
    return _filled([(adapter,) for adapter in adapters], paths, device, scales)


def frozen(stacks: Sequence[Sequence[Adapter]], paths: Paths, device: torch.device) -> Factors:
    """Returns one lane per stack of adapters, which count as one of their summed rank.

    Scales are multiplied into B.
    """
    return _filled(stacks, paths, device, (1.0,) * len(stacks), scaled=True)


def lane_weights(stacks: Sequence[Sequence[Adapter]], paths: Paths) -> int:
    """Returns the weights of one lane, padding included, if all these lie side by side."""
    return sum(shape.size for shape in _layout_of(stacks, paths)[0])


def add_low_rank(
    factors: Factors, layer: int, name: str, x: torch.Tensor, ys: dict[str, torch.Tensor],
    spans: Spans,
) -> torch.Tensor | None:  # fmt: skip
    """Adds a group's s B A x to the maps' outputs, in place; returns s A x for the way back.

    `x` is n x d_in, each of `ys` n x d_out, what returns n x maps r (None without LoRA there).
    """
    group = factors.groups.get((layer, name))
    if group is None:
        return None
    if spans.batched:
        return _add_batched(factors, group, x, ys, spans)
    inner = x.new_empty((len(x), group.a.shape[1]), dtype=torch.float32)
    wide, r = x.float(), group.rank
    for lane, first, end in spans.runs:
        torch.mm(wide[first:end], group.a[lane].T, out=inner[first:end])
        inner[first:end] *= factors.scales[lane]
        for place, map_name in enumerate(group.maps):
            part = inner[first:end, place * r : (place + 1) * r]
            _add_product(ys[map_name][first:end], part, group.bs[place][lane])
    return inner


def low_rank_gradients(
    factors: Factors, gradients: Factors | None, layer: int, name: str, x: torch.Tensor | None,
    inner: torch.Tensor | None, dys: dict[str, torch.Tensor], dx: torch.Tensor | None,
    spans: Spans,
) -> None:  # fmt: skip
    """Adds a group's part to the gradients of A and B, and to that of the input, in place.

    `inner` is what `add_low_rank` returned. Without `gradients` (frozen lanes) only `dx` grows;
    without `dx` only the gradients.
    """
    group = factors.groups.get((layer, name))
    if group is None:
        return
    into = None if gradients is None else gradients.groups[layer, name]
    if spans.batched:
        _gradients_batched(factors, group, into, x, inner, dys, dx, spans)
        return
    r = group.rank
    wide = None if x is None else x.float()
    for lane, first, end in spans.runs:
        back = torch.empty((end - first, group.a.shape[1]), device=factors.flat.device)
        for place, map_name in enumerate(group.maps):
            dy = dys[map_name][first:end].float()
            part = back[:, place * r : (place + 1) * r]
            torch.mm(dy, group.bs[place][lane].T, out=part)
            if into is not None and inner is not None:
                into.bs[place][lane].addmm_(inner[first:end, place * r : (place + 1) * r].T, dy)
        back *= factors.scales[lane]
        if dx is not None:
            _add_product(dx[first:end], back, group.a[lane])
        if into is not None and wide is not None:
            into.a[lane].addmm_(back.T, wide[first:end])


def _add_product(y: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if y.dtype == left.dtype:
        y.addmm_(left, right)
    else:
        y += left @ right


def _add_batched(
    factors: Factors, group: Group, x: torch.Tensor, ys: dict[str, torch.Tensor], spans: Spans
) -> torch.Tensor:
    scale = _scales(factors, spans)
    inner = torch.bmm(_spread(x, spans), _of(group.a, spans).transpose(1, 2)).mul_(scale)
    r = group.rank
    for place, map_name in enumerate(group.maps):
        part = inner[..., place * r : (place + 1) * r]
        delta = torch.bmm(part, _of(group.bs[place], spans))
        ys[map_name] += _collected(delta, spans)
    return _collected(inner, spans)


def _gradients_batched(
    factors: Factors, group: Group, into: Group | None, x: torch.Tensor | None,
    inner: torch.Tensor | None, dys: dict[str, torch.Tensor], dx: torch.Tensor | None,
    spans: Spans,
) -> None:  # fmt: skip
    r, parts = group.rank, []
    wide_inner = None if inner is None else _spread(inner, spans)
    for place, map_name in enumerate(group.maps):
        dy = _spread(dys[map_name], spans) * spans.filled
        parts.append(torch.bmm(dy, _of(group.bs[place], spans).transpose(1, 2)))
        if into is not None and wide_inner is not None:
            part = wide_inner[..., place * r : (place + 1) * r]
            into.bs[place].index_add_(0, spans.lanes, torch.bmm(part.transpose(1, 2), dy))
    back = torch.cat(parts, dim=2).mul_(_scales(factors, spans))
    if dx is not None:
        dx += _collected(torch.bmm(back, _of(group.a, spans)), spans)
    if into is not None and x is not None:
        into.a.index_add_(0, spans.lanes, torch.bmm(back.transpose(1, 2), _spread(x, spans)))


def _spread(x: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Returns tokens as runs x longest x width, float32; anything stands in the padding."""
    return x.index_select(0, spans.gather).view(len(spans.runs), spans.longest, -1).float()


def _collected(y: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Returns runs x longest x width as tokens again."""
    return y.reshape(-1, y.shape[2]).index_select(0, spans.scatter)


def _of(matrices: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Returns the lanes' matrices in the order of the runs."""
    if [lane for lane, _, _ in spans.runs] == list(range(len(matrices))):
        return matrices
    return matrices.index_select(0, spans.lanes)


def _scales(factors: Factors, spans: Spans) -> torch.Tensor:
    scales = [factors.scales[lane] for lane, _, _ in spans.runs]
    return torch.tensor(scales, device=factors.flat.device).view(-1, 1, 1)


def _filled(
    stacks: Sequence[Sequence[Adapter]], paths: Paths, device: torch.device,
    scales: tuple[float, ...], *, scaled: bool = False,
) -> Factors:  # fmt: skip
    layout, places = _layout_of(stacks, paths)
    flat = torch.zeros((len(stacks), sum(shape.size for shape in layout)))
    factors = _laid_out(flat, layout, scales, places)
    for lane, stack in enumerate(stacks):
        used: dict[str, int] = {}
        for adapter in stack:
            for path, (a, b) in adapter.tensors.items():
                layer, name, place = places[path]
                group = factors.groups[layer, name]
                first, rank = used.get(path, 0), a.shape[0]
                row = place * group.rank + first
                group.a[lane, row : row + rank] = a
                factor = adapter.plan.alpha_over_rank if scaled else 1.0
                group.bs[place][lane, first : first + rank] = b.T * factor
                used[path] = first + rank
    return _laid_out(flat.to(device), layout, scales, places)


def _layout_of(
    stacks: Sequence[Sequence[Adapter]], paths: Paths
) -> tuple[list[_Shape], dict[str, tuple[int, str, int]]]:
    """Returns per (layer, group) its maps, rank and sizes, and each path's place in them."""
    ranks: dict[str, int] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for stack in stacks:
        own: dict[str, int] = {}
        for adapter in stack:
            for path, (a, b) in adapter.tensors.items():
                own[path] = own.get(path, 0) + a.shape[0]
                sizes[path] = (a.shape[1], b.shape[0])
        for path, rank in own.items():
            ranks[path] = max(ranks.get(path, 0), rank)
    by_map = {paths[path]: path for path in ranks}
    layout, places = [], {}
    for layer in sorted({layer for layer, _ in by_map}):
        for name, members in GROUPS.items():
            found = tuple(m for m in members if (layer, m) in by_map)
            if not found:
                continue
            full = [by_map[layer, m] for m in found]
            rank = max(ranks[path] for path in full)
            widths = tuple(sizes[path][1] for path in full)
            layout.append(_Shape(layer, name, found, rank, sizes[full[0]][0], widths))
            places.update({path: (layer, name, place) for place, path in enumerate(full)})
    return layout, places


def _laid_out(
    flat: torch.Tensor,
    layout: Sequence[_Shape],
    scales: tuple[float, ...],
    places: dict[str, tuple[int, str, int]],
) -> Factors:
    lanes, first, groups = len(flat), 0, {}

    def view(rows: int, columns: int) -> torch.Tensor:
        nonlocal first
        part = flat[:, first : first + rows * columns].view(lanes, rows, columns)
        first += rows * columns
        return part

    for layer, name, maps, rank, d_in, widths in layout:
        a = view(len(maps) * rank, d_in)
        groups[layer, name] = Group(maps, a, tuple(view(rank, width) for width in widths))
    return Factors(flat, groups, scales, places)


def _widths(group: Group) -> tuple[int, ...]:
    return tuple(b.shape[2] for b in group.bs)
