"""The region that a front leaves undominated, cut into boxes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milp_search.search.orientation import Array

Indices = NDArray[np.intp]
# Lower and upper corners as ranks: 0 is the reference, F + 1 infinity.
Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Cells:
    """Disjoint boxes that make up the region above a reference which no point dominates.

    Attributes:
        levels: For each of the `m` objectives its `F + 1` coordinates, ascending, the reference
            first.
        lower: The boxes' lower corners as places in `levels`, shape `m x C`.
        upper: Their upper corners, shape `m x C`; `F + 1` stands for infinity.
    """

    levels: Array
    lower: Indices
    upper: Indices


def undominated_cells(front: Array, reference: Array) -> Cells:
    """Returns the boxes that a front leaves, all objectives maximised.

    With m = 1, 2 and 3 there are 1, F + 1 and at most 2 F + 1 boxes.

    Args:
        front: Points of which none dominates another, all above the reference, shape `F x m`;
            equal points and equal coordinates are allowed.
        reference: Shape `m`.

    Returns:
        The boxes.
    """
    count, objectives = front.shape
    order = front.argsort(axis=0, kind="stable")
    levels = np.vstack([reference, np.take_along_axis(front, order, axis=0)]).T
    ranks = np.empty((count, objectives), dtype=int)
    np.put_along_axis(ranks, order, np.arange(1, count + 1)[:, None], axis=0)
    # Ties are broken by rank, which adds boxes of no width.
    boxes = _BOXES[min(objectives, 4)](ranks)
    lower, upper = (np.array(side, dtype=np.intp).T for side in zip(*boxes, strict=True))
    edges = np.hstack([levels, np.full((objectives, 1), np.inf)])
    wide = np.take_along_axis(edges, lower, 1) < np.take_along_axis(edges, upper, 1)
    kept = wide.all(axis=0)
    return Cells(levels, lower[:, kept], upper[:, kept])


def undominated(points: Array) -> NDArray[np.bool_]:
    """Returns which points of each set no other point of it dominates, shape `M x b`.

    Args:
        points: Shape `M x b x m`, all maximised. Equal points are all kept.

    Returns:
        True where a point is on its set's front.
    """
    better = np.ones((len(points), points.shape[1], points.shape[1]), dtype=bool)
    strictly = np.zeros_like(better)
    for column in range(points.shape[-1]):
        one = points[..., column]
        better &= one[:, :, None] >= one[:, None, :]
        strictly |= one[:, :, None] > one[:, None, :]
    return np.asarray(~(better & strictly).any(axis=1))


def _one(ranks: Indices) -> list[Box]:
    return [((int(ranks.max(initial=0)),), (len(ranks) + 1,))]


def _two(ranks: Indices) -> list[Box]:
    """Returns the strips above a staircase."""
    infinity = len(ranks) + 1
    boxes: list[Box] = []
    right, height = infinity, 0
    for first, second in sorted(map(tuple, ranks.tolist()), reverse=True):
        if second > height:
            boxes.append(((first, height), (right, infinity)))
            right, height = first, second
    boxes.append(((0, height), (right, infinity)))
    return boxes


def _three(ranks: Indices) -> list[Box]:
    """Returns the boxes by a sweep down the third objective.

    The strips of the staircase of points swept so far live until a new point covers them.
    """
    infinity = len(ranks) + 1
    boxes: list[Box] = []
    # Strip i lies between lefts[i] and lefts[i + 1] above heights[i]; births[i] is its upper end.
    lefts, heights, births = [0], [0], [infinity]
    for first, second, third in sorted(map(tuple, ranks.tolist()), key=lambda point: -point[2]):
        end = bisect_left(lefts, first)
        # Heights fall from left to right.
        begin = bisect_right(heights, -second, hi=end, key=lambda height: -height)
        if begin == end:
            continue
        rights = [*lefts[begin + 1 : end], first]
        for left, right, height, birth in zip(
            lefts[begin:end], rights, heights[begin:end], births[begin:end], strict=True
        ):
            boxes.append(((left, height, third), (right, infinity, birth)))
        lefts[begin:end] = [lefts[begin], first]
        heights[begin:end] = [second, heights[end - 1]]
        births[begin:end] = [third, births[end - 1]]
    for left, right, height, birth in zip(
        lefts, [*lefts[1:], infinity], heights, births, strict=True
    ):
        boxes.append(((left, height, 0), (right, infinity, birth)))
    return boxes


def _many(ranks: Indices) -> list[Box]:
    """Returns the boxes by a sweep down the last objective.

    Boxes of one dimension less live until a new point covers part of them; what it leaves is cut
    off one side after the other.
    """
    infinity = len(ranks) + 1
    low = np.zeros((1, ranks.shape[1] - 1), dtype=np.intp)
    high = np.full_like(low, infinity)
    birth = np.array([infinity])
    done: list[Indices] = []
    for point in ranks[np.argsort(-ranks[:, -1])]:
        hit = (low < point[:-1]).all(axis=1)
        ends = np.broadcast_to(point[-1], hit.sum())
        done.append(np.column_stack([low[hit], ends, high[hit], birth[hit]]))
        pieces = _cut(low[hit], high[hit], point[:-1])
        low = np.concatenate([low[~hit], *(piece[0] for piece in pieces)])
        high = np.concatenate([high[~hit], *(piece[1] for piece in pieces)])
        fresh = len(low) - (~hit).sum()
        birth = np.concatenate([birth[~hit], np.full(fresh, point[-1])])
    done.append(np.column_stack([low, np.zeros_like(birth), high, birth]))
    corners = np.concatenate(done)
    split = ranks.shape[1]
    return [(tuple(row[:split]), tuple(row[split:])) for row in corners.tolist()]


def _cut(low: Indices, high: Indices, point: Indices) -> list[tuple[Indices, Indices]]:
    """Returns what is left of boxes beyond a point that lies above their lower corners."""
    pieces: list[tuple[Indices, Indices]] = []
    rest = high.copy()
    for axis, place in enumerate(point):
        beyond = rest[:, axis] > place
        start = low[beyond].copy()
        start[:, axis] = place
        pieces.append((start, rest[beyond].copy()))
        rest[:, axis] = np.minimum(rest[:, axis], place)
    return pieces


_BOXES = {1: _one, 2: _two, 3: _three, 4: _many}
