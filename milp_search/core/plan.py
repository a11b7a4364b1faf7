"""Plans: what an arm means for training, with everything that does not matter taken out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from milp_search.core.methods import MethodTraits

FfnMaps = Literal["all", "up", "down", "up_down"]
Scope = Literal["user", "community", "all"]
Mediator = Literal["temporal", "shuffled", "none"]
Retrieval = Literal["bm25", "random"]

# Fields that came after the first fingerprints were kept, with the value that they then had.
_ADDED: dict[str, Any] = {
    "retrieval": "bm25",
    "global_users": None,
    "global_periods": None,
    "seed": None,
    "summary_lines": 0,
}


@dataclass(frozen=True)
class AdapterPlan:
    """Where LoRA goes and how large it is.

    Attributes:
        ranks: The realised rank of each layer, 0 where the layer carries no LoRA. Several modules
            of rank r in one layer are one LoRA of the summed rank (PAPERS.md, section 1).
        alpha_over_rank: The LoRA scaling alpha / r, the same in every layer, so that summed
            modules keep the scaling of a single one.
        target_maps: Which linear maps of a layer carry LoRA: of the feed-forward block `all`,
            `up`, `down` or `up_down`; `q_v` is the attention's query and value (OPPU).
    """

    ranks: tuple[int, ...]
    alpha_over_rank: float = 1.0
    target_maps: FfnMaps | Literal["q_v"] = "all"

    @property
    def total_rank(self) -> int:
        """The sum of the realised ranks; 0 is the base model without adapters."""
        return sum(self.ranks)

    @property
    def active_layers(self) -> tuple[int, ...]:
        """The indices of the layers that carry LoRA, ascending."""
        return tuple(layer for layer, rank in enumerate(self.ranks) if rank > 0)


@dataclass(frozen=True)
class TrialPlan:
    """Everything that decides what a trial trains, apart from the seed.

    Attributes:
        method: The name of the method's code (`milp`, `logo`, `milp_logo`, `oppu`, `base`, ...).
        adapter: Placement and size of the adapters.
        time_splits: LoGo's T, periods of the global chain; 0 where no global adapter is trained.
        communities: LoGo's c, k-means clusters of users; 0 where nothing is trained by cluster.
        retrieved_items: LoGo's k, earlier items put into the prompt; 0 is no retrieval.
        scope: Whose data one local adapter learns from.
        mediator: How the local adapter is trained on top of the global one (LoGo, Eq. 6-7).
        profile: Whether the profile text is put into the prompt (PAG).
        retrieval: How the k items are chosen.
        global_users: How many target users, drawn by the seed, the global adapters learn from;
            None is all of them (LoGo, Fig. 5b).
        global_periods: After how many of the T periods the global chain ends; None is after the
            last (LoGo, Fig. 6), 0 trains no global adapter.
        seed: The seed of this plan's training; None leaves it to the study.
        summary_lines: The most lines that a chat model may write on a person or a community
            (LoGo, App. C.2); 0 where it writes none.
    """

    method: str
    adapter: AdapterPlan
    time_splits: int = 5
    communities: int = 1
    retrieved_items: int = 1
    scope: Scope = "user"
    mediator: Mediator = "temporal"
    profile: bool = False
    retrieval: Retrieval = "bm25"
    global_users: int | None = None
    global_periods: int | None = None
    seed: int | None = None
    summary_lines: int = 0

    def canonical(self, traits: MethodTraits, max_communities: int | None = None) -> TrialPlan:
        """Returns the plan with every setting that cannot matter set to its neutral value.

        Args:
            traits: What the method uses at all.
            max_communities: The number of target users, which k-means cannot exceed; None where
                unknown.

        Returns:
            The plan.
        """
        if traits.chat:
            return self._canonical_chat(traits, max_communities)
        has_adapter = self.adapter.total_rank > 0
        has_global = traits.global_adapter and has_adapter
        scope = self.scope if traits.scoped and has_adapter else "user"
        communities = self.communities
        if max_communities is not None:
            communities = min(communities, max_communities)
        if scope == "community" and communities == 1:
            scope = "all"
        if scope == "all":
            # One adapter of all users has one global adapter below it.
            communities = 1
        items = max(self.retrieved_items, traits.least_items) if traits.retrieval else 0
        return replace(
            self,
            time_splits=self.time_splits if has_global else 0,
            communities=communities if has_global or scope == "community" else 0,
            mediator=self.mediator if has_global else "none",
            retrieved_items=items,
            scope=scope,
            profile=self.profile and traits.retrieval,
            retrieval=self.retrieval if items > 0 else "bm25",
            global_users=_below(self.global_users, max_communities) if has_global else None,
            global_periods=_below(self.global_periods, self.time_splits) if has_global else None,
            summary_lines=0,
        )

    def _canonical_chat(self, traits: MethodTraits, max_communities: int | None) -> TrialPlan:
        """Returns the plan of a model that trains nothing and knows only prompts."""
        communities = self.communities
        if max_communities is not None:
            communities = min(communities, max_communities)
        has_group = traits.global_adapter
        return TrialPlan(
            self.method,
            AdapterPlan(()),
            time_splits=self.time_splits if has_group else 0,
            communities=communities if has_group else 0,
            retrieved_items=self.retrieved_items,
            mediator="none",
            profile=self.profile,
            retrieval=self.retrieval if self.retrieved_items > 0 else "bm25",
            seed=self.seed,
            summary_lines=self.summary_lines if has_group or self.profile else 0,
        )

    def fingerprint(self) -> str:
        """Returns 16 hex digits, equal for equal plans and only for them."""
        fields = asdict(self)
        known = {
            name: value
            for name, value in fields.items()
            if name not in _ADDED or _ADDED[name] != value
        }
        text = json.dumps(known, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Returns the plan as plain JSON values; `plan_from_dict` is the inverse."""
        return {**asdict(self), "adapter": {**asdict(self.adapter), "ranks": [*self.adapter.ranks]}}


def plan_from_dict(values: dict[str, Any]) -> TrialPlan:
    """Returns the plan that `TrialPlan.as_dict` wrote."""
    adapter = values["adapter"]
    return TrialPlan(
        **{**values, "adapter": AdapterPlan(**{**adapter, "ranks": tuple(adapter["ranks"])})}
    )


def _below(count: int | None, limit: int | None) -> int | None:
    """Returns a count, None where it is all there is."""
    return None if count is None or (limit is not None and count >= limit) else count
