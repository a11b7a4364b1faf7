"""LoRA cut into pieces, one per linear map: gates that name them, and adapters made of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from milp_search.adapters.additions import Addition, added
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.encoding import Encoded, PromptEncoder, training_batch
from milp_search.adapters.jobs import Adapter, AdapterTrainer, Example, TrainJob
from milp_search.adapters.peft_trainer import fit, step_plan, token_losses
from milp_search.adapters.reusing_trainer import adapter_digest, training_content

_TOKENS = 8192  # ours: bounds the pass that composes (rows x length); older texts are left out


@dataclass(frozen=True, eq=False)
class Pieces:
    """A frozen adapter whose maps can be taken one by one.

    Attributes:
        adapter: The adapter.
        gates: Per linear map the vector that names its piece (d_in, float32 on the CPU).
    """

    adapter: Adapter
    gates: Mapping[str, torch.Tensor] = field(repr=False)


def train_gates(
    trainer: AdapterTrainer, adapter: Adapter, job: TrainJob, checkpoints: Checkpoints | None = None
) -> Pieces:
    """Returns the adapter's pieces, each with a gate trained while base and adapter are frozen.

    A map answers `W x + sigmoid(g x) s B A x` for each token's input `x`, with s the plan's
    scaling. Gates start at 0, which halves every piece, and learn the job's examples by AdamW as
    the trainer's settings say; without steps they stay there. Of the job, examples, order and
    length count; the gates live inside the trainer's base while this runs. Gates that an earlier
    attempt has learned come from the checkpoints.

    Source: Tan et al. 2024a (PER-PCS), post-hoc gates.
    """
    if checkpoints is None:
        return Pieces(adapter, _gates(trainer, adapter, job))
    content = [*training_content(job, trainer.settings), adapter_digest(adapter)]
    learned = checkpoints.learned("gates", content, lambda: _gates(trainer, adapter, job))
    return Pieces(adapter, learned)


def _gates(trainer: AdapterTrainer, adapter: Adapter, job: TrainJob) -> dict[str, torch.Tensor]:
    base, settings, scaling = trainer.base, trainer.settings, adapter.plan.alpha_over_rank
    gates = {
        path: nn.Parameter(torch.zeros(a.shape[1], device=base.device))
        for path, (a, _) in adapter.tensors.items()
    }
    additions = {
        path: _gated(gates[path], a.to(base.device), scaling * b.to(base.device))
        for path, (a, b) in adapter.tensors.items()
    }
    rows = _encoded(trainer, job.examples)
    steps = [[rows[place] for place in step] for step in step_plan(job, settings)]

    def summed(some: Sequence[Encoded]) -> torch.Tensor:
        return token_losses(base.model, *training_batch(some, _pad(base), base.device)).sum()

    with added(base, additions):
        fit([*gates.values()], steps, summed, settings, trainer.halvings)
    return {path: gate.detach().cpu() for path, gate in gates.items()}


@torch.no_grad()
def composed(
    trainer: AdapterTrainer, pool: Sequence[Pieces], top: int, examples: Sequence[Example], key: str
) -> Adapter:
    """Returns an adapter made of the pieces that suit the examples best, without training.

    One pass goes through the base from the bottom. Where it comes to a linear map, the mean input
    over all tokens is compared with the pool's gates by cosine; the `top` best pieces, weighted by
    the softmax of their cosines, make up the map's LoRA, which is active from there on. Its
    matrices are the pieces' side by side, with the weights in B, so that the plan's ranks are so
    many times the pieces' and its scaling is theirs.

    Args:
        trainer: Whose base the pass goes through, texts encoded as its settings say.
        pool: Pieces of one plan, at least one.
        top: How many pieces a map takes; all where there are fewer. Of equal ones the first.
        examples: The texts, at least one, oldest first; the latest that fit into one pass count.
        key: The adapter's key.

    Returns:
        The adapter.

    Source: Tan et al. 2024a (PER-PCS), selection and assembly from the bottom layer up.
    """
    base = trainer.base
    latest = _latest(_encoded(trainer, examples), _TOKENS)
    ids, mask, _ = training_batch(latest, _pad(base), base.device)
    plan, tokens = pool[0].adapter.plan, mask.flatten().float()
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def composing(path: str) -> Addition:
        def addition(inputs: torch.Tensor) -> torch.Tensor:
            mean = (tokens @ inputs.flatten(0, -2) / tokens.sum()).cpu()
            a, b = found[path] = _side_by_side(pool, path, mean, top)
            return inputs @ a.to(inputs.device).T @ (plan.alpha_over_rank * b).to(inputs.device).T

        return addition

    with added(base, {path: composing(path) for path in pool[0].adapter.tensors}):
        base.model.base_model(input_ids=ids, attention_mask=mask)
    ranks = tuple(rank * min(top, len(pool)) for rank in plan.ranks)
    return Adapter(key, replace(plan, ranks=ranks), found)


def _side_by_side(
    pool: Sequence[Pieces], path: str, mean: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns A and B of the best pieces of a map, B with the weights in it."""
    gates = torch.stack([pieces.gates[path] for pieces in pool])
    cosines, order = cosine_similarity(gates, mean, dim=1).sort(descending=True, stable=True)
    weights = torch.softmax(cosines[:top], 0)
    chosen = [pool[place].adapter.tensors[path] for place in order[:top].tolist()]
    scaled = [weight * b for weight, (_, b) in zip(weights, chosen, strict=True)]
    return torch.cat([a for a, _ in chosen]), torch.cat(scaled, dim=1)


def _gated(gate: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Addition:
    return lambda inputs: torch.sigmoid(inputs @ gate).unsqueeze(-1) * (inputs @ a.T @ b.T)


def _latest(rows: Sequence[Encoded], tokens: int) -> Sequence[Encoded]:
    """Returns the last rows, at least one, that take at most so many tokens when padded."""
    count, longest = 0, 0
    for row in reversed(rows):
        longest = max(longest, len(row))
        if count and (count + 1) * longest > tokens:
            break
        count += 1
    return rows[len(rows) - count :]


def _encoded(trainer: AdapterTrainer, examples: Sequence[Example]) -> list[Encoded]:
    texts = PromptEncoder(trainer.base.tokenizer, trainer.settings)
    return [texts.encode(example) for example in examples]


def _pad(base: BaseModel) -> int:
    return int(base.tokenizer.pad_token_id)
