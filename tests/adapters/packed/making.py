"""What the tests of the packed trainer share: adapters that matter, stacks, rows and lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.jobs import Adapter, Answer
from milp_search.adapters.lora import fresh_adapter, module_path
from milp_search.adapters.packed.factors import Paths, frozen, trainable
from milp_search.adapters.packed.rows import PackedRows, Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack, frozen_stack
from milp_search.adapters.packed.sublayers import Lanes
from milp_search.core.plan import AdapterPlan
from milp_search.core.settings import TrainingSettings

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(learning_rate=1e-2, batch_size=2, max_length=100, max_new_tokens=6)


def random_adapter(base: BaseModel, plan: AdapterPlan, seed: int, key: str = "any") -> Adapter:
    """Returns an adapter both of whose matrices are random, so that it changes what comes out."""
    fresh = fresh_adapter(key, plan, base.shape, seed)
    keyed = torch.Generator().manual_seed(seed)
    tensors = {
        path: (a, 0.3 * torch.randn(b.shape, generator=keyed))
        for path, (a, b) in fresh.tensors.items()
    }
    return replace(fresh, tensors=tensors)


def stack_of(base: BaseModel) -> FrozenStack:
    """Returns the base's frozen stack, which it must have."""
    stack = frozen_stack(base, 100)
    assert isinstance(stack, FrozenStack)
    return stack


def paths_of(base: BaseModel) -> Paths:
    """Returns where each linear map that may carry LoRA stands."""
    names = stack_of(base).paths
    return {
        module_path(base.shape, layer, linear): (layer, names[linear.path])
        for layer in range(base.shape.layers)
        for linear in base.shape.maps
    }


def lanes_of(
    base: BaseModel, trained: Sequence[Adapter], below: Sequence[Sequence[Adapter]] = ()
) -> Lanes:
    """Returns lanes with these trainable adapters, and stacks below them if given."""
    paths = paths_of(base)
    return Lanes(trainable(trained, paths, CPU), frozen(below, paths, CPU) if below else None)


def random_rows(*lanes_and_lengths: tuple[int, int], seed: int = 0) -> PackedRows:
    """Returns rows of random tokens, the second half of each supervised, of these lengths."""
    keyed = torch.Generator().manual_seed(seed)
    rows = []
    for lane, length in lanes_and_lengths:
        tokens = torch.randint(256, (length,), generator=keyed).tolist()
        text = Encoded(tuple(tokens[: length // 2]), tuple(tokens[length // 2 :]))
        rows.append(Row(lane, text, 1.0 / max(text.supervised, 1)))
    return pack_rows(rows, CPU)


def largest(differences: Sequence[float]) -> float:
    """Returns the largest of the absolute differences, 0 where there are none."""
    return max(map(abs, differences), default=0.0)


def loss_gap(one: Sequence[Sequence[Answer]], other: Sequence[Sequence[Answer]]) -> float:
    """Returns how far the losses of two predictions are apart at most."""
    pairs = zip(_flat(one), _flat(other), strict=True)
    return largest([a.loss - b.loss for a, b in pairs])


def texts(answers: Sequence[Sequence[Answer]]) -> list[tuple[int, str | None]]:
    """Returns the tokens counted and the text generated of each answer."""
    return [(answer.tokens, answer.generated) for answer in _flat(answers)]


def step_gap(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Returns how far the losses of the steps of two trainings are apart at most."""
    pairs = [p for a, b in zip(one, other, strict=True) for p in zip(a, b, strict=True)]
    return largest([a - b for a, b in pairs])


def furthest(one: Adapter, other: Adapter) -> float:
    """Returns the largest difference of any two entries."""
    assert one.tensors.keys() == other.tensors.keys()
    pairs = [(one.tensors[path], other.tensors[path]) for path in one.tensors]
    return largest(
        [float((x - y).abs().max()) for a, b in pairs for x, y in zip(a, b, strict=True)]
    )


def _flat(answers: Sequence[Sequence[Answer]]) -> list[Answer]:
    return [answer for mine in answers for answer in mine]
