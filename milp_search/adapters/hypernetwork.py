"""A network that makes LoRA weights of a vector, trained through the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from milp_search.adapters.additions import Addition, added
from milp_search.adapters.checkpoints import Checkpoints
from milp_search.adapters.conditioned import KnownRow, draw_weights, fit_network
from milp_search.adapters.encoding import PromptEncoder, training_batch
from milp_search.adapters.jobs import Adapter, AdapterTrainer, TrainJob
from milp_search.adapters.lora import fresh_adapter, module_path, placed
from milp_search.adapters.peft_trainer import token_losses
from milp_search.core.model_shape import ModelShape
from milp_search.core.plan import AdapterPlan

_WIDTH = 64  # ours: of the code that each row of A and column of B is made of


@final
class Hypernetwork(nn.Module):
    """Maps profile vectors to the A and B of every linear map in a plan.

    Vector, layer, map and place in the rank are summed into one code of width h; a network shared
    by all sites reads it, and per kind of map one head makes the row of A and the column of B out
    of it. A begins as in a fresh LoRA, which every user shares, and B at 0, so that untrained it
    changes nothing. Both heads are divided by h (ours): then a step of AdamW moves an entry of A
    and B about as far as where the LoRA is trained itself, and one learning rate suits both.

    Args:
        width: Of the profile vectors.
        plan: Placement and size of the LoRA; some layer has a rank.
        shape: The base model's.
        seed: Of the weights.
    """

    def __init__(self, width: int, plan: AdapterPlan, shape: ModelShape, seed: int):
        super().__init__()
        self.plan = plan
        self._start = fresh_adapter("hypernetwork", plan, shape, seed).tensors
        sites = [*placed(plan, shape)]
        kinds = list(dict.fromkeys(linear for _, linear in sites))
        self._kind = {module_path(shape, *site): kinds.index(site[1]) for site in sites}
        self._ranks = [plan.ranks[layer] for layer, _ in sites]
        places = [
            (layer, kinds.index(linear), number)
            for layer, linear in sites
            for number in range(plan.ranks[layer])
        ]
        self.places = nn.Buffer(torch.tensor(places).T)
        self.read = nn.Linear(width, _WIDTH)
        self.where = nn.ModuleList(
            nn.Embedding(count, _WIDTH) for count in (shape.layers, len(kinds), max(plan.ranks))
        )
        self.think = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(),
            nn.Linear(2 * _WIDTH, _WIDTH),
        )  # fmt: skip
        self.norm = nn.LayerNorm(_WIDTH)
        draw_weights(self, "hypernetwork", seed)
        self.rows_of_a = nn.ParameterList(torch.zeros(_WIDTH, one.d_in) for one in kinds)
        self.columns_of_b = nn.ParameterList(torch.zeros(_WIDTH, one.d_out) for one in kinds)

    def forward(self, profiles: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns per linear map, by its path, the profiles' codes (profiles x rank x h)."""
        where = sum(embed(place) for embed, place in zip(self.where, self.places, strict=True))
        codes = self.read(profiles).unsqueeze(1) + where
        codes = self.norm(codes + self.think(codes)) / _WIDTH
        return dict(zip(self._kind, codes.split(self._ranks, dim=1), strict=True))

    def additions(self, profiles: torch.Tensor) -> dict[str, Addition]:
        """Returns per linear map what the LoRA of profile i adds to the output of row i."""
        return {path: self._addition(path, codes) for path, codes in self(profiles).items()}

    @torch.no_grad()
    def adapter(self, key: str, profile: torch.Tensor) -> Adapter:
        """Returns the LoRA of one profile."""
        codes = self(profile.to(self.places.device).unsqueeze(0))
        tensors = {path: self._matrices(path, code[0]) for path, code in codes.items()}
        return Adapter(key, self.plan, tensors)

    def _matrices(self, path: str, code: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self._start[path][0] + (code @ self.rows_of_a[self._kind[path]]).cpu()
        b = (code @ self.columns_of_b[self._kind[path]]).T
        return a, b.contiguous().cpu()

    def _addition(self, path: str, codes: torch.Tensor) -> Addition:
        kind, scaling = self._kind[path], self.plan.alpha_over_rank
        start = self._start[path][0].to(codes.device)

        def addition(x: torch.Tensor) -> torch.Tensor:
            # A and B of each row are never made: h is far below the maps' width.
            low = x @ start.T + (x @ self.rows_of_a[kind].T) @ codes.mT
            delta: torch.Tensor = low @ codes @ self.columns_of_b[kind]
            return scaling * delta

        return addition


def fit_hypernetwork(
    trainer: AdapterTrainer,
    job: TrainJob,
    profiles: Sequence[torch.Tensor],
    checkpoints: Checkpoints | None = None,
) -> Hypernetwork:
    """Returns a hypernetwork trained end to end on a job's examples, one profile vector for each.

    The loss is that of the base with the LoRA made of the profile, on response tokens. Without
    examples the network stays as it was drawn.
    """
    base, texts = trainer.base, PromptEncoder(trainer.base.tokenizer, trainer.settings)
    width = len(profiles[0]) if profiles else 1
    network = Hypernetwork(width, job.plan, base.shape, job.seed).to(base.device)
    pad = int(base.tokenizer.pad_token_id)
    known = [
        KnownRow(texts.encode(example), profile.to(base.device))
        for example, profile in zip(job.examples, profiles, strict=True)
    ]

    def losses(batch: Sequence[KnownRow]) -> torch.Tensor:
        profiles = torch.stack([row.known for row in batch])
        with added(base, network.additions(profiles)):
            rows = [row.text for row in batch]
            return token_losses(base.model, *training_batch(rows, pad, base.device))

    fit_network(network, trainer, job, known, losses, checkpoints)
    return network
