"""Examples of many lanes side by side: one flat run of tokens, padded inside attention only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch

from milp_search.adapters.encoding import Encoded


@dataclass(frozen=True)
class Row:
    """One example in one lane; `weight` is the share of each of its targets in the lane's loss."""

    lane: int
    text: Encoded
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Spans:
    """Which run of tokens belongs to which lane.

    Attributes:
        runs: (lane, first, end), lanes ascending.
        device: Where the tokens lie.
        batched: Whether the runs are so short that one product over all of them beats one each;
            always so on a GPU, where each product is a launch.
    """

    runs: tuple[tuple[int, int, int], ...]
    device: torch.device
    batched: bool

    @cached_property
    def lanes(self) -> torch.Tensor:
        """The lanes, in order of their runs."""
        return torch.tensor([lane for lane, _, _ in self.runs], device=self.device)

    def at(self, places: torch.Tensor) -> Spans:
        """Returns the runs that are left when only the tokens at ascending places are."""
        runs, start = [], 0
        ends = torch.searchsorted(places.cpu(), torch.tensor([end for _, _, end in self.runs]))
        for (lane, _, _), end in zip(self.runs, ends.tolist(), strict=True):
            if end > start:
                runs.append((lane, start, end))
            start = end
        return Spans(tuple(runs), self.device, self.batched)

    @property
    def longest(self) -> int:
        """The number of tokens of the longest run."""
        return max(end - first for _, first, end in self.runs)

    @cached_property
    def gather(self) -> torch.Tensor:
        """For each of runs x longest the token that stands there.

        In the padding the run's own first token: what is not finite must not reach other lanes.
        """
        gather = torch.zeros((len(self.runs), self.longest), dtype=torch.long)
        for place, (_, first, end) in enumerate(self.runs):
            gather[place] = first
            gather[place, : end - first] = torch.arange(first, end)
        return gather.reshape(-1).to(self.device)

    @cached_property
    def filled(self) -> torch.Tensor:
        """Whether a token stands there (runs x longest x 1, as float32)."""
        filled = torch.zeros((len(self.runs), self.longest, 1))
        for place, (_, first, end) in enumerate(self.runs):
            filled[place, : end - first] = 1.0
        return filled.to(self.device)

    @cached_property
    def scatter(self) -> torch.Tensor:
        """For each token its place in runs x longest."""
        longest = self.longest
        places = [
            torch.arange(end - first) + place * longest
            for place, (_, first, end) in enumerate(self.runs)
        ]
        return torch.cat(places).to(self.device)


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of many lanes as flat tensors.

    Attributes:
        ids: Token ids (N).
        positions: Place of each token in its row (N).
        gather: For each of rows x longest row the token that stands there; in the padding the
            row's own first one, which causal attention never sees from a token before it.
        slots: For each token its place in rows x longest row (N).
        shape: (rows, longest row).
        spans: The lanes' runs of tokens.
        supervised: The tokens whose next token is a target (S).
        targets: That next token (S).
        weights: Share of each target in its lane's loss (S).
        target_spans: The lanes' runs of targets.
        target_lanes: The lane of each target (S).
        counts: Targets per row.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    gather: torch.Tensor
    slots: torch.Tensor
    shape: tuple[int, int]
    spans: Spans
    supervised: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    target_spans: Spans
    target_lanes: torch.Tensor
    counts: tuple[int, ...]


def pack_rows(rows: Sequence[Row], device: torch.device) -> PackedRows:
    """Returns the rows side by side; they must come in ascending order of their lanes."""
    lengths = [len(row.text) for row in rows]
    starts = [sum(lengths[:place]) for place in range(len(rows))]
    longest, lanes = max(lengths), [row.lane for row in rows]
    counts = [row.text.supervised for row in rows]
    ids = torch.tensor([token for row in rows for token in row.text.prompt + row.text.response])
    positions = torch.cat([torch.arange(length) for length in lengths])
    owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(lengths))
    gather = torch.tensor(starts).repeat_interleave(longest)
    slots = owner * longest + positions
    gather[slots] = torch.arange(len(ids))
    # The token before a target predicts it.
    supervised = torch.cat(
        [
            torch.arange(start + row.text.border - 1, start + length - 1)
            for start, length, row in zip(starts, lengths, rows, strict=True)
        ]
    )
    weights = torch.repeat_interleave(
        torch.tensor([row.weight for row in rows]), torch.tensor(counts)
    )
    return PackedRows(
        ids.to(device),
        positions.to(device),
        gather.to(device),
        slots.to(device),
        (len(rows), longest),
        lane_spans(lanes, lengths, device),
        supervised.to(device),
        ids[supervised + 1].to(device),
        weights.to(device),
        lane_spans(lanes, counts, device),
        torch.repeat_interleave(torch.tensor(lanes), torch.tensor(counts)).to(device),
        tuple(counts),
    )


def lane_spans(
    lanes: Sequence[int], sizes: Sequence[int], device: torch.device, *, batched: bool = False
) -> Spans:
    """Returns the runs of lanes whose rows have these sizes, both in the order of the rows.

    Lanes without any token have no run.
    """
    runs, first = [], 0
    for lane, group in groupby(zip(lanes, sizes, strict=True), key=lambda pair: pair[0]):
        end = first + sum(size for _, size in group)
        if end > first:
            runs.append((lane, first, end))
        first = end
    return Spans(tuple(runs), device, bool(runs) and (batched or device.type == "cuda"))
