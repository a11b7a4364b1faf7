"""How much a community's global adapters differ from period to period."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from milp_search.adapters.jobs import Adapter
from milp_search.dispatch.check_base import for_workers
from milp_search.dispatch.worker import TrialRunner
from milp_search.personalize.global_chain import global_chains
from milp_search.space.row_space import RowSpace
from milp_search.study.spec_file import SPEC_NAME, load_study_spec
from milp_search.study.study import Study


def chain_similarities(folder: Path, label: str) -> list[list[float]]:
    """Returns the cosine similarity of global adapters between periods, mean over communities.

    The adapters are those of a row of a finished part with its first seed; they come from its
    cache, or are trained again to the same. Communities whose chain is shorter are left out.

    Args:
        folder: The part.
        label: The row, whose chain goes over all periods.

    Returns:
        A square with a row per period, empty where the plan has no rank.

    Source: LoGo, section 4.3 and Figure 6a.
    """
    with Study.open(folder, read_only=True) as study:
        space = study.space
        assert isinstance(space, RowSpace)  # a part of rows
        plan, seed = space.rows[label], space.seeds[0]
    if plan.adapter.total_rank == 0:
        return []
    # The number format is the workers': that of another device would be another base.
    spec = for_workers(load_study_spec(folder / SPEC_NAME))
    run = TrialRunner(folder, spec).run_of(plan, seed)
    chains = [chain for _, chain in global_chains(run)]
    longest = max(map(len, chains))
    squares = [cosines(chain) for chain in chains if len(chain) == longest]
    square: list[list[float]] = np.mean(squares, axis=0).tolist()
    return square


def cosines(chain: Sequence[Adapter]) -> np.ndarray:
    """Returns the cosine similarity of each two adapters of a chain (periods x periods).

    All LoRA matrices of an adapter are one vector, as the paper compares parameters.
    """
    vectors = [torch.cat([m.flatten() for ab in a.tensors.values() for m in ab]) for a in chain]
    rows = torch.nn.functional.normalize(torch.stack(vectors).double(), dim=1)
    square: np.ndarray = (rows @ rows.T).clamp(-1.0, 1.0).numpy()
    return square
