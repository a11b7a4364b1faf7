from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.making import llama, model_of
from adapters.packed.making import stack_of
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed import passes
from milp_search.adapters.packed import prefix as module
from milp_search.adapters.packed.passes import START, Entry
from milp_search.adapters.packed.prefix import PrefixCache
from milp_search.adapters.stage_cache import StageCache

BASE = llama()
STACK = stack_of(BASE)
TEXTS = [Encoded((1, 2, 3), (4, 5)), Encoded((), (6,)), Encoded((7,) * 11, (8,)), Encoded((9,), ())]
LAYER_1, INSIDE_1, LAYER_2 = Entry(1, False), Entry(1, True), Entry(2, False)
ROW = 32 * 4  # bytes of a token's state
LARGEST = 12 * ROW  # of the longest text's
MIB = 2**20


def cache(memory: float = MIB, folder: Path | None = None, **options: Any) -> PrefixCache:
    """Returns a cache with so many bytes of memory, and whatever room in a folder."""
    spill = None if folder is None else StageCache(folder, memory_mib=0)
    return PrefixCache(STACK, "print", memory_mib=memory / MIB, spill=spill, **options)


def slow(layer: int, texts: list[Encoded] = TEXTS) -> torch.Tensor:
    """Returns the model's own hidden states before a layer, text by text."""
    parts = []
    for text in texts:
        ids = torch.tensor([text.prompt + text.response])
        with torch.no_grad():
            output = BASE.model(input_ids=ids, output_hidden_states=True)
        parts.append(output.hidden_states[layer][0])
    return torch.cat(parts)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_states_are_the_models_own(layer: int) -> None:
    torch.testing.assert_close(cache().states(TEXTS, Entry(layer, False)), slow(layer))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_states_inside_a_layer_are_the_models_own(family: str) -> None:
    base = model_of(family)
    seen: list[torch.Tensor] = []
    layer = base.model.model.layers[1].post_attention_layernorm
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0][0]))
    with torch.no_grad():
        base.model(input_ids=torch.tensor([TEXTS[0].prompt + TEXTS[0].response]))
    handle.remove()
    states = PrefixCache(stack_of(base), "print").states(TEXTS[:1], INSIDE_1)
    torch.testing.assert_close(states, seen[0])


def test_what_was_asked_for_before_is_a_hit_bit_for_bit() -> None:
    kept = cache()
    first = kept.states(TEXTS, LAYER_1)
    assert (kept.hits, kept.misses) == (0, 4)
    assert torch.equal(kept.states(TEXTS, LAYER_1), first)
    assert torch.equal(kept.states(TEXTS[::-1], LAYER_1)[:1], first[-1:])
    assert (kept.hits, kept.misses) == (8, 4)


def test_a_text_is_its_tokens_wherever_its_response_begins() -> None:
    kept = cache()
    kept.states([Encoded((1, 2), (3,))], LAYER_1)
    kept.states([Encoded((), (1, 2, 3))], LAYER_1)
    assert (kept.hits, kept.misses) == (1, 1)


def test_equal_texts_of_a_call_are_computed_once() -> None:
    kept = cache()
    states = kept.states([TEXTS[0], TEXTS[1], TEXTS[0]], LAYER_1)
    assert torch.equal(states[:5], states[6:])
    assert kept.misses == 2


def test_what_is_handed_out_may_be_changed() -> None:
    kept = cache()
    for entry in (START, LAYER_1):
        states = kept.states(TEXTS[:1], entry)
        before = states.clone()
        states.zero_()
        assert torch.equal(kept.states(TEXTS[:1], entry), before)


@pytest.mark.parametrize("entry", [INSIDE_1, LAYER_2])
def test_states_go_on_from_the_highest_lower_entry(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, real = [], passes.prefix

    def spy(stack: Any, rows: Any, start: Entry, h: Any, end: Entry) -> torch.Tensor:
        begun.append(start)
        return real(stack, rows, start, h, end)

    kept = cache()
    kept.states(TEXTS, LAYER_1)
    monkeypatch.setattr(module, "prefix", spy)
    states = kept.states(TEXTS, entry)
    assert begun == [LAYER_1]
    torch.testing.assert_close(states, cache().states(TEXTS, entry))


@pytest.mark.parametrize("tokens", [1, 12, 15, 10**6])
def test_the_size_of_a_pass_does_not_matter(tokens: int) -> None:
    torch.testing.assert_close(cache(pass_tokens=tokens).states(TEXTS, LAYER_2), slow(2))


# --- bounds and spill -----------------------------------------------------------------------


def test_memory_is_bounded_and_the_least_recently_used_go_first() -> None:
    kept = cache(LARGEST + ROW)
    kept.states([TEXTS[1]], LAYER_1)  # 1 token
    kept.states([TEXTS[2]], LAYER_1)  # 12
    kept.states([TEXTS[1]], LAYER_1)
    kept.states([TEXTS[3]], LAYER_1)  # 1: drives out the 12
    kept.states([TEXTS[1], TEXTS[3]], LAYER_1)
    assert (kept.hits, kept.misses) == (3, 3)
    kept.states([TEXTS[2]], LAYER_1)
    assert kept.misses == 4
    assert kept._bytes == sum(s.nbytes for s in kept._states.values()) <= LARGEST + ROW


@pytest.mark.parametrize("folder", [False, True])
def test_states_are_right_though_memory_holds_nothing(folder: bool, tmp_path: Path) -> None:
    kept = cache(0, tmp_path if folder else None)
    for _ in range(2):
        for layer in (2, 1):
            torch.testing.assert_close(kept.states(TEXTS, Entry(layer, False)), slow(layer))


def test_what_leaves_memory_comes_back_from_the_folder_bit_for_bit(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "prefixes"
    kept = cache(0, folder)
    first = kept.states(TEXTS, LAYER_1)
    assert len([*folder.glob("*/*")]) == 3  # the last one is in memory still
    for again in (kept, cache(0, folder)):
        again.hits = 0
        assert torch.equal(again.states(TEXTS[:2], LAYER_1), first[:6])
        assert again.hits == 2
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_a_truncated_file_is_a_miss_and_written_anew(size: int, tmp_path: Path) -> None:
    first = cache(0, tmp_path).states(TEXTS, LAYER_1)
    for path in tmp_path.glob("*/*"):
        path.write_bytes(path.read_bytes()[:size])
    again = cache(0, tmp_path)
    assert torch.equal(again.states(TEXTS, LAYER_1), first)
    assert again.hits == 0
    third = cache(0, tmp_path)
    assert torch.equal(third.states(TEXTS[:2], LAYER_1), first[:6])
    assert third.hits == 2


def test_another_base_or_entry_has_states_of_its_own(tmp_path: Path) -> None:
    cache(0, tmp_path).states(TEXTS, LAYER_1)
    other = PrefixCache(STACK, "other", memory_mib=0, spill=StageCache(tmp_path))
    other.states(TEXTS, LAYER_1)
    inside = cache(0, tmp_path)
    inside.states(TEXTS, INSIDE_1)
    assert (other.hits, inside.hits) == (0, 0)


def test_hits_in_memory_and_in_the_folder_are_counted_alike(tmp_path: Path) -> None:
    spill = StageCache(tmp_path, memory_mib=0)
    kept = PrefixCache(STACK, "print", memory_mib=(LARGEST + ROW) / MIB, spill=spill)
    kept.states(TEXTS[2:], LAYER_1)
    kept.states(TEXTS[2:], LAYER_1)  # from memory
    kept.states(TEXTS[:2], LAYER_1)  # drives out the longest
    kept.states([TEXTS[2]], LAYER_1)
    assert spill.counts == {"prefixes": (kept.hits, kept.misses)} == {"prefixes": (3, 4)}


def test_a_folder_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = cache(0, tmp_path / "file" / "prefixes")
    for _ in range(2):
        torch.testing.assert_close(kept.states(TEXTS, LAYER_1), slow(1))
