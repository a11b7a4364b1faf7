"""Hidden states of the bare base at an entry, computed once per text and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from milp_search.adapters.content_key import content_key
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed.passes import START, Entry, prefix
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.stage_cache import StageCache

KIND = "prefixes"

Tokens = tuple[int, ...]


class PrefixCache:
    """Keeps hidden states in memory up to a limit, and beyond it in a stage cache.

    States that were used least recently leave memory first; without a stage cache they are
    computed again. `hits` and `misses` count texts whose states were there or not.
    """

    def __init__(
        self, stack: FrozenStack, fingerprint: str, *, memory_mib: float = 256.0,
        spill: StageCache | None = None, pass_tokens: int = 2048,
    ):  # fmt: skip
        self._stack, self._fingerprint, self._spill = stack, fingerprint, spill
        self._limit, self._pass_tokens = int(memory_mib * 2**20), pass_tokens
        self._states: OrderedDict[tuple[Entry, Tokens], torch.Tensor] = OrderedDict()
        self._spilled: set[str] = set()
        self._bytes = self.hits = self.misses = 0

    def states(self, texts: Sequence[Encoded], entry: Entry) -> torch.Tensor:
        """Returns the hidden states of the texts at the entry, one after another (N x d)."""
        tokens = [text.prompt + text.response for text in texts]
        if entry == START:
            ids = torch.tensor([token for each in tokens for token in each])
            return self._stack.embedding[ids.to(self._stack.device)]
        found = {each: self._find(entry, each) for each in dict.fromkeys(tokens)}
        missing = [each for each, state in found.items() if state is None]
        self.hits += len(found) - len(missing)
        self.misses += len(missing)
        for part in _parts(missing, self._pass_tokens):
            found.update(zip(part, self._computed(part, entry), strict=True))
        return torch.cat([state for each in tokens if (state := found[each]) is not None])

    def _computed(self, texts: Sequence[Tokens], entry: Entry) -> list[torch.Tensor]:
        """Computes and keeps the states of texts, from the highest lower entry that all have."""
        rows = pack_rows([Row(0, Encoded(text, ())) for text in texts], self._stack.device)
        start, below = START, None
        for lower in sorted({other for other, _ in self._states if other < entry}, reverse=True):
            held = [self._states.get((lower, text)) for text in texts]
            if all(state is not None for state in held):
                start, below = lower, torch.cat([state for state in held if state is not None])
                break
        h = prefix(self._stack, rows, start, below, entry)
        parts = torch.split(h, [len(text) for text in texts])
        states = [part.clone() for part in parts]
        for text, state in zip(texts, states, strict=True):
            self._keep((entry, text), state)
        return states

    def _find(self, entry: Entry, tokens: Tokens) -> torch.Tensor | None:
        state = self._states.get((entry, tokens))
        if state is not None:
            self._states.move_to_end((entry, tokens))
            if self._spill is not None:
                self._spill.count(KIND, hit=True)
            return state
        state = self._read(entry, tokens)
        if state is not None:
            self._keep((entry, tokens), state)
        return state

    def _keep(self, key: tuple[Entry, Tokens], state: torch.Tensor) -> None:
        self._states[key] = state
        self._bytes += state.nbytes
        while self._bytes > self._limit and len(self._states) > 1:
            old, dropped = self._states.popitem(last=False)
            self._bytes -= dropped.nbytes
            self._write(self._name(*old), dropped)

    def _write(self, name: str, state: torch.Tensor) -> None:
        if self._spill is not None and name not in self._spilled:
            self._spilled.add(name)
            self._spill.put(KIND, name, {"h": state}, {})

    def _read(self, entry: Entry, tokens: Tokens) -> torch.Tensor | None:
        if self._spill is None:
            return None
        name = self._name(entry, tokens)
        found = self._spill.get(KIND, name)
        if found is None:
            self._spilled.discard(name)
            return None
        self._spilled.add(name)
        return found[0]["h"].to(self._stack.device)

    def _name(self, entry: Entry, tokens: Tokens) -> str:
        like = self._stack.embedding.dtype
        return content_key(self._fingerprint, str(like), *entry, tokens)


def _parts(texts: Sequence[Tokens], limit: int) -> list[list[Tokens]]:
    """Returns the texts in groups of similar length and at most so many tokens each."""
    parts: list[list[Tokens]] = []
    count = 0
    for text in sorted(texts, key=len):
        if not parts or count + len(text) > limit:
            parts.append([])
            count = 0
        parts[-1].append(text)
        count += len(text)
    return parts
