"""Networks that are trained through the frozen base, told of each text's user by vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.content_key import tensors_digest
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.jobs import AdapterTrainer, TrainJob
from milp_search.adapters.lora import generator
from milp_search.adapters.peft_trainer import fit, step_plan
from milp_search.adapters.reusing_trainer import training_content


@dataclass(frozen=True, eq=False)
class KnownRow:
    """A text, and what is known of its user at that time: one vector, or one per item."""

    text: Encoded
    known: torch.Tensor

    def __len__(self) -> int:
        return len(self.text)

    @property
    def supervised(self) -> int:
        """The number of targets."""
        return self.text.supervised


def draw_weights(network: nn.Module, *parts: object) -> None:
    """Draws a network's matrices anew, as a function of the parts and the weights' names alone.

    They are normal with variance 1 / width of their input; biases are 0.
    """
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            drawn = torch.randn(weight.shape, generator=generator(*parts, name))
            with torch.no_grad():
                weight.copy_(drawn / weight.shape[-1] ** 0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


def fit_network(
    network: nn.Module,
    trainer: AdapterTrainer,
    job: TrainJob,
    rows: Sequence[KnownRow],
    losses: Callable[[Sequence[KnownRow]], torch.Tensor],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Trains all weights of a network in place, and freezes it.

    Args:
        network: What is trained; the base is frozen.
        trainer: Whose settings and halvings hold.
        job: Says which examples each step sees; its plan and stacks are not looked at.
        rows: The job's examples as texts, with what is known of their users.
        losses: Turns rows into the losses of their tokens.
        checkpoints: Where the weights are taken from, if an earlier attempt has learned them.
    """

    def learn() -> Mapping[str, torch.Tensor]:
        _fit(network, trainer, job, rows, losses)
        return network.state_dict()

    if checkpoints is None:
        learn()
    else:
        content = [
            *training_content(job, trainer.settings),
            type(network).__name__,
            tensors_digest(network.state_dict()),
            tensors_digest({str(place): row.known for place, row in enumerate(rows)}),
        ]
        network.load_state_dict(checkpoints.learned("networks", content, learn))
    network.requires_grad_(False)


def _fit(
    network: nn.Module,
    trainer: AdapterTrainer,
    job: TrainJob,
    rows: Sequence[KnownRow],
    losses: Callable[[Sequence[KnownRow]], torch.Tensor],
) -> None:
    steps = [[rows[place] for place in step] for step in step_plan(job, trainer.settings)]

    def summed(some: Sequence[KnownRow]) -> torch.Tensor:
        return losses(some).sum()

    fit([*network.parameters()], steps, summed, trainer.settings, trainer.halvings)
