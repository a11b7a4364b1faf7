"""What the search needs to know of a personalisation method without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodTraits:
    """Which parts of a plan a method uses; the rest collapses in the plan's fingerprint.

    Attributes:
        summary: What it is, in a few words.
        trains: The name of the code that trains it, where that is another method's: such a name
            is a row of the papers' tables and differs by its defaults only.
        defaults: Fields of the plan that are not `TrialPlan`'s defaults; a space may search them.
        global_adapter: Whether LoGo's global chain runs.
        retrieval: Whether retrieved items or a profile go into the prompt.
        least_items: How many items it retrieves at least, whatever a plan says.
        adapter: Whether it trains LoRA adapters.
        injection: Whether MiLP's memory injection runs, which doubles a user's adapters.
        scoped: Whether one local adapter may learn from a community's or all users' data.
        target_maps: Where its LoRA goes unless the space says it.
        open_base: Whether it works inside the base model, beyond what a trainer's jobs say.
        pieces: How many trained adapters lie side by side in one of a user's.
        mixed: Whether a user's own adapter is made of what other users' texts taught.
        chat: Whether it personalises a model behind an endpoint, by prompts alone.
    """

    summary: str
    trains: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    global_adapter: bool = False
    retrieval: bool = False
    least_items: int = 0
    adapter: bool = True
    injection: bool = False
    scoped: bool = False
    target_maps: str = "all"
    open_base: bool = False
    pieces: int = 1
    mixed: bool = False
    chat: bool = False

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def needs_decoder(self) -> bool:
        """Whether it needs what an encoder cannot do: work inside a decoder, or write a text."""
        return self.open_base or self.needs_profile

    @property
    def needs_profile(self) -> bool:
        """Whether it puts a profile into prompts unless a space says otherwise."""
        return bool(self.defaults.get("profile"))


MOST_SHARERS = 32
"""How many users' adapters PER-PCS cuts in pieces, at most; ours: it bounds the training."""

_NO_ITEMS = {"retrieved_items": 0}
_WITH_ITEMS = {"retrieved_items": 1}
_WITH_PROFILE = {"retrieved_items": 1, "profile": True}


def _base(summary: str, defaults: Mapping[str, Any]) -> MethodTraits:
    return MethodTraits(summary, "base", defaults, retrieval=True, adapter=False)


def _oppu(summary: str, defaults: Mapping[str, Any], **more: Any) -> MethodTraits:
    return MethodTraits(
        summary, "oppu", defaults, retrieval=True, scoped=True, target_maps="q_v", **more
    )


def _milp(summary: str, **more: Any) -> MethodTraits:
    return MethodTraits(summary, "", _NO_ITEMS, retrieval=True, scoped=True, **more)


def _logo(summary: str, defaults: Mapping[str, Any]) -> MethodTraits:
    return MethodTraits(summary, "logo", defaults, global_adapter=True, retrieval=True, scoped=True)


def _chat(summary: str, defaults: Mapping[str, Any], *, group: bool = False) -> MethodTraits:
    # Also where the method writes no notes: a space may search `profile`.
    values = {**_NO_ITEMS, "summary_lines": 20, **defaults}
    return MethodTraits(summary, "chat", values, group, retrieval=True, adapter=False, chat=True)


_RANDOM_ITEMS = {**_WITH_ITEMS, "retrieval": "random"}

METHODS: dict[str, MethodTraits] = {
    "base": _base("The base model, no adapter", _NO_ITEMS),
    "base_random": _base(
        "The base model with random items of the history in the prompt",
        _RANDOM_ITEMS,
    ),
    "tplp": MethodTraits("The whole history in the prompt (TpLP)", adapter=False),
    "malp": MethodTraits(
        "Short- and long-term memory in the prompt of a tuned LoRA (MaLP)",
        defaults={"retrieved_items": 2},
        retrieval=True,
        least_items=1,
        scoped=True,
    ),
    "oppu": _oppu("One LoRA per user on q and v (OPPU)", _NO_ITEMS),
    "oppu_rag": _oppu("OPPU with retrieved items in the prompt (OPPU+RAG)", _WITH_ITEMS),
    "oppu_pag": _oppu("OPPU with retrieved items and a profile (OPPU+PAG)", _WITH_PROFILE),
    "p2p": MethodTraits(
        "A hypernetwork makes each user's LoRA of their history's vector (P2P)",
        defaults=_NO_ITEMS,
        retrieval=True,
        target_maps="q_v",
        open_base=True,
        mixed=True,
    ),
    "uelp": MethodTraits(
        "A trained encoder makes a soft prompt of each user's history (UeLP)",
        defaults=_NO_ITEMS,
        retrieval=True,
        adapter=False,
        open_base=True,
    ),
    "per_pcs": MethodTraits(
        "Adapters composed of the pieces that other users share (PER-PCS)",
        defaults=_NO_ITEMS,
        retrieval=True,
        target_maps="q_v",
        open_base=True,
        pieces=3,
        mixed=True,
    ),
    "hydra": MethodTraits(
        "Reranked items and the best of several answers of the base model (HYDRA)",
        defaults=_WITH_ITEMS,
        retrieval=True,
        adapter=False,
    ),
    "milp": _milp("Memory injection, then instruction tuning (MiLP)", injection=True),
    "milp_tuning_only": _milp("MiLP without memory injection"),
    "milp_injection_only": _milp("MiLP without instruction tuning"),
    "logo": _logo("Local adapters over community-wise temporal global ones (LoGo)", _NO_ITEMS),
    "logo_shuffled": _logo(
        "LoGo, local adapters trained in random order (Fig. 4)",
        {**_NO_ITEMS, "mediator": "shuffled"},
    ),
    "logo_apart": _logo(
        "LoGo, local and global adapters trained apart (Fig. 4)", {**_NO_ITEMS, "mediator": "none"}
    ),
    "logo_global": MethodTraits(
        "LoGo's community-wise temporal adapters alone",
        defaults=_NO_ITEMS,
        global_adapter=True,
        retrieval=True,
    ),
    "logo_rag": _logo("LoGo with retrieved items in the prompt (LoGo+RAG)", _WITH_ITEMS),
    "logo_pag": _logo("LoGo with retrieved items and a profile (LoGo+PAG)", _WITH_PROFILE),
    "milp_logo": MethodTraits(
        "MiLP's adapters and stages inside LoGo's pipeline",
        global_adapter=True,
        retrieval=True,
        injection=True,
        scoped=True,
    ),
}

CHAT_METHODS: dict[str, MethodTraits] = {
    "chat": _chat("A model behind an endpoint, the query alone", {}),
    "chat_random": _chat("The same with random items of the history", _RANDOM_ITEMS),
    "chat_rag": _chat("The same with retrieved items", _WITH_ITEMS),
    "chat_profile": _chat("The same with notes on the person", {"profile": True}),
    "chat_profile_rag": _chat("The same with notes and retrieved items", _WITH_PROFILE),
    "chat_logo": _chat("LoGo for endpoints: the community's knowledge (App. C)", {}, group=True),
    "chat_logo_rag": _chat("The same with retrieved items", _WITH_ITEMS, group=True),
    "chat_logo_profile": _chat("The same with notes on the person", {"profile": True}, group=True),
    "chat_logo_profile_rag": _chat(
        "The same with notes and retrieved items", _WITH_PROFILE, group=True
    ),
}

KNOWN_METHODS: dict[str, MethodTraits] = {**METHODS, **CHAT_METHODS}
