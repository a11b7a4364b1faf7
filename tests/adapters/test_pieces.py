"""Pieces of adapters: their gates and what is composed of them, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.making import EXAMPLES, gpt2, llama, same, weights
from milp_search.adapters import pieces as pieces_module
from milp_search.adapters.additions import Addition, added
from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.export import load_stack, save_stacks
from milp_search.adapters.jobs import Adapter, Example, PredictJob, TrainJob
from milp_search.adapters.lora import fresh_adapter, generator
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.pieces import Pieces, composed, train_gates
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)
BASE = llama()
TRAINER = PeftTrainer(BASE, SETTINGS)
PLAN = AdapterPlan((2, 0, 1), 2.0, "q_v")


def pieces(number: int, base: BaseModel = BASE, plan: AdapterPlan = PLAN) -> Pieces:
    """Returns random pieces, with gates of their own."""
    fresh = fresh_adapter(f"local:{number}", plan, base.shape, number)
    draw = generator("pieces", number)
    tensors = {p: (a, torch.randn(b.shape, generator=draw)) for p, (a, b) in fresh.tensors.items()}
    gates = {p: torch.randn(a.shape[1], generator=draw) for p, (a, _) in tensors.items()}
    return Pieces(replace(fresh, tensors=tensors), gates)


POOL = [pieces(number) for number in range(5)]


def by_hand(base: BaseModel, pool: list[Pieces], top: int) -> tuple[Adapter, torch.Tensor]:
    """Returns what `composed` shall find, a map at a time in a pass of its own, and the logits.

    The output of a map is that of the base plus the weighted sum of the pieces' own outputs.
    """
    chosen: dict[str, list[tuple[float, Adapter]]] = {}
    tokenizer, plan = base.tokenizer, pool[0].adapter.plan

    def logits(text: Example, seen: list[torch.Tensor], watched: str) -> torch.Tensor:
        handles = [
            base.model.get_submodule(path).register_forward_hook(
                lambda _, inputs, output, path=path: (
                    output
                    + sum(
                        weight * plan.alpha_over_rank * inputs[0] @ a.T @ b.T
                        for weight, piece in chosen[path]
                        for a, b in [piece.tensors[path]]
                    )
                )
            )
            for path in chosen
        ]
        if watched:
            module = base.model.get_submodule(watched)
            handles.append(module.register_forward_hook(lambda _, x, out: seen.append(x[0][0])))
        ids = tokenizer(text.prompt)["input_ids"] + tokenizer(text.response)["input_ids"]
        with torch.no_grad():
            found: torch.Tensor = base.model(
                input_ids=torch.tensor([[*ids, tokenizer.eos_token_id]])
            ).logits
        for handle in handles:
            handle.remove()
        return found

    for path in pool[0].adapter.tensors:
        seen: list[torch.Tensor] = []
        for text in EXAMPLES:
            logits(text, seen, path)
        mean = torch.cat(seen).mean(0)
        cosines = [float(mean @ p.gates[path] / mean.norm() / p.gates[path].norm()) for p in pool]
        best = sorted(range(len(pool)), key=lambda n: -cosines[n])[:top]
        total = sum(torch.tensor(cosines[n]).exp().item() for n in best)
        chosen[path] = [
            (torch.tensor(cosines[n]).exp().item() / total, pool[n].adapter) for n in best
        ]
    tensors = {
        path: (
            torch.cat([piece.tensors[path][0] for _, piece in parts]),
            torch.cat([weight * piece.tensors[path][1] for weight, piece in parts], dim=1),
        )
        for path, parts in chosen.items()
    }
    return Adapter("by hand", plan, tensors), logits(EXAMPLES[1], [], "")


@pytest.mark.parametrize("maps", ["q_v", "all"])
@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
def test_an_adapter_is_the_weighted_sum_of_the_best_pieces_from_the_bottom_up(
    make: Callable[[], BaseModel], maps: Any
) -> None:
    base = make()
    plan = replace(PLAN, target_maps=maps)
    pool = [pieces(number, base, plan) for number in range(5)]
    expected, logits = by_hand(base, pool, 3)
    found = composed(PeftTrainer(base, SETTINGS), pool, 3, EXAMPLES, "local:u")
    assert (found.key, found.plan) == ("local:u", replace(plan, ranks=(6, 0, 3)))
    assert found.tensors.keys() == expected.tensors.keys()
    for path, pair in found.tensors.items():
        for mine, other in zip(pair, expected.tensors[path], strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
    # As an ordinary adapter it answers like the pieces by hand.
    (answer,) = PeftTrainer(base, SETTINGS).predict([PredictJob((EXAMPLES[1],), (found,), False)])[
        0
    ]
    tokenizer = base.tokenizer
    ids = torch.tensor([*tokenizer(EXAMPLES[1].response)["input_ids"], tokenizer.eos_token_id])
    start = len(tokenizer(EXAMPLES[1].prompt)["input_ids"])
    told = torch.log_softmax(logits[0, start - 1 : -1], -1)[torch.arange(len(ids)), ids]
    assert answer.loss == pytest.approx(-float(told.mean()), abs=1e-4)


def test_a_composed_adapter_answers_alike_packed_and_after_export(tmp_path: Path) -> None:
    found = composed(TRAINER, POOL, 3, EXAMPLES, "local:u")
    save_stacks(tmp_path, {"u": (found,)}, BASE.shape, {"base_model": "tiny"})
    stacks = [(found,), load_stack(tmp_path, "u", found.plan)]
    jobs = [PredictJob(EXAMPLES, stack, generate=False) for stack in stacks]
    plain, exported = TRAINER.predict(jobs)
    packed, _ = PackedTrainer(BASE, SETTINGS).predict(jobs)
    assert exported == plain
    assert [one.loss for one in packed] == pytest.approx([one.loss for one in plain], abs=1e-4)


def test_of_few_pieces_all_are_taken() -> None:
    found = composed(TRAINER, POOL[:2], 3, EXAMPLES, "local:u")
    assert found.plan.ranks == (4, 0, 2)
    alone = composed(TRAINER, POOL[:1], 3, EXAMPLES, "local:u")
    for path, pair in alone.tensors.items():
        assert all(map(torch.equal, pair, POOL[0].adapter.tensors[path]))


def test_a_piece_whose_gate_points_along_the_input_comes_first() -> None:
    path, seen = next(iter(POOL[0].adapter.tensors)), []

    def watch(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs[0].mean(0))
        return torch.zeros(())

    ids = BASE.tokenizer("ab cd xyz")["input_ids"]
    with added(BASE, {path: watch}):
        BASE.model(input_ids=torch.tensor([[*ids, BASE.tokenizer.eos_token_id]]))
    along = replace(POOL[4], gates={**POOL[4].gates, path: 5 * seen[0]})
    found = composed(TRAINER, [*POOL[:4], along], 1, EXAMPLES[:1], "local:u")
    assert torch.equal(found.tensors[path][0], POOL[4].adapter.tensors[path][0])


@pytest.mark.parametrize(("tokens", "kept"), [(32, 2), (1, 1)])
def test_texts_beyond_one_pass_are_the_oldest(
    tokens: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 41, 10 and 9 tokens the last two fit into 32, and none into one, which takes the last."""
    texts = [EXAMPLES[1], EXAMPLES[0], EXAMPLES[4]]
    with monkeypatch.context() as patch:
        patch.setattr(pieces_module, "_TOKENS", tokens)
        one = composed(TRAINER, POOL, 3, texts, "local:u")
    other = composed(TRAINER, POOL, 3, texts[-kept:], "local:u")
    for path, pair in one.tensors.items():
        assert all(map(torch.equal, pair, other.tensors[path]))


def test_what_is_composed_does_not_depend_on_how_often_passes_are_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halved = PeftTrainer(BASE, SETTINGS)
    halved.halvings = 3
    monkeypatch.setattr(pieces_module, "_TOKENS", 64)
    one, other = (composed(t, POOL, 3, EXAMPLES, "local:u") for t in (TRAINER, halved))
    for path, pair in one.tensors.items():
        assert all(map(torch.equal, pair, other.tensors[path]))


# --- gates ----------------------------------------------------------------------------------

TEXTS = (Example("ab cd", " xyz"), Example("cd ef", " xyw"), Example("ab", " xyz"))


def helpful() -> Adapter:
    """Returns an adapter that was trained on the texts, so that using it lowers their loss."""
    job = TrainJob("local:u", TEXTS, PLAN, 0, epochs=10)
    return TRAINER.train([job])[0]


def harmful() -> Adapter:
    good = helpful()
    return replace(good, tensors={path: (a, -3 * b) for path, (a, b) in good.tensors.items()})


def mean_gate(adapter: Adapter, epochs: int = 20) -> float:
    """Returns how much of the pieces the texts use after training of the gates, on average."""
    job = TrainJob("gates:u", TEXTS, PLAN, 0, epochs=epochs, shuffle=True)
    gates = train_gates(TRAINER, adapter, job).gates
    used: list[torch.Tensor] = []
    handles = [
        BASE.model.get_submodule(path).register_forward_hook(
            lambda _, inputs, output, path=path: used.append(torch.sigmoid(inputs[0] @ gates[path]))
        )
        for path in gates
    ]
    TRAINER.predict([PredictJob(TEXTS, (), generate=False)])
    for handle in handles:
        handle.remove()
    return float(torch.cat([one.flatten() for one in used]).mean())


def test_gates_open_for_pieces_that_help_and_close_for_those_that_harm() -> None:
    assert mean_gate(helpful(), epochs=0) == 0.5
    assert mean_gate(helpful()) > 0.55
    assert mean_gate(harmful()) < 0.45


def test_a_gate_takes_the_step_that_its_gradient_says() -> None:
    """One AdamW step from 0 is the learning rate against the gradient's sign."""
    adapter = helpful()
    job = TrainJob("gates:u", TEXTS[:1], PLAN, 0, steps=1)
    gates = train_gates(TRAINER, adapter, job).gates
    path = next(iter(gates))
    for place in (0, 7, 31):
        up, down = (_loss(adapter, path, place, 1e-2 * sign) for sign in (1.0, -1.0))
        step = -1e-2 if up > down else 1e-2
        assert float(gates[path][place]) == pytest.approx(step, rel=1e-2)


def _loss(adapter: Adapter, path: str, place: int, size: float) -> float:
    """Returns the first text's loss with all gates 0 but one number of one gate."""

    def addition(own: str, a: torch.Tensor, b: torch.Tensor) -> Addition:
        gate = torch.zeros(a.shape[1])
        gate[place] = size if own == path else 0.0
        return lambda x: torch.sigmoid(x @ gate)[..., None] * 2.0 * (x @ a.T @ b.T)

    additions = {own: addition(own, *pair) for own, pair in adapter.tensors.items()}
    with added(BASE, additions):
        return TRAINER.predict([PredictJob(TEXTS[:1], (), False)])[0][0].loss


def test_the_adapter_and_the_base_stay_as_they_are() -> None:
    before, adapter = weights(BASE.model), helpful()
    kept = {path: (a.clone(), b.clone()) for path, (a, b) in adapter.tensors.items()}
    found = train_gates(TRAINER, adapter, TrainJob("g", TEXTS, PLAN, 0, epochs=2))
    composed(TRAINER, [found], 3, TEXTS, "local:u")
    assert found.adapter is adapter
    assert all(all(map(torch.equal, kept[p], adapter.tensors[p])) for p in kept)
    assert same(weights(BASE.model), before)
    assert not any(p.requires_grad or p.grad is not None for p in BASE.model.parameters())


def hooks() -> Mapping[str, int]:
    return {name: len(m._forward_hooks) for name, m in BASE.model.named_modules()}


def test_nothing_is_left_in_the_base_where_something_raises() -> None:
    path = next(iter(POOL[0].adapter.tensors))

    def broken(inputs: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"), added(BASE, {path: broken}):
        BASE.model(input_ids=torch.tensor([[1]]))
    with (
        pytest.raises(AttributeError, match="nowhere"),
        added(BASE, {path: broken, "nowhere": broken}),
    ):
        pass
    assert not any(hooks().values())


def test_what_is_added_has_the_type_of_the_base() -> None:
    base = llama()
    base.model.to(torch.bfloat16)
    trainer = PeftTrainer(base, SETTINGS)
    found = train_gates(trainer, POOL[0].adapter, TrainJob("g", TEXTS, PLAN, 0, epochs=1))
    whole = composed(trainer, [found, POOL[1]], 3, TEXTS, "local:u")
    kinds = {t.dtype for pair in whole.tensors.values() for t in pair}
    assert kinds | {gate.dtype for gate in found.gates.values()} == {torch.float32}
