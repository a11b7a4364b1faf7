"""Checks that the packed computation is the base model's own, before it is trusted."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from milp_search.adapters.base_model import BaseModel
from milp_search.adapters.encoding import Encoded
from milp_search.adapters.packed.passes import START, losses
from milp_search.adapters.packed.rows import Row, pack_rows
from milp_search.adapters.packed.stack import FrozenStack
from milp_search.adapters.packed.sublayers import Lanes

# ours: rounding stays far below; a block that computes something else, far above.
_TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
_COARSE = 0.2
_LENGTHS = (7, 12)


@torch.no_grad()
def disagreement(base: BaseModel, stack: FrozenStack) -> str | None:
    """Returns None if the stack's losses on random tokens are the model's, else what is off."""
    keyed = torch.Generator().manual_seed(0)
    size = stack.embedding.shape[0]
    texts = [torch.randint(size, (length,), generator=keyed) for length in _LENGTHS]
    rows = pack_rows([Row(0, Encoded((), tuple(text.tolist()))) for text in texts], stack.device)
    mine = losses(stack, rows, Lanes(), START, stack.embedding[rows.ids])
    theirs = []
    for text in texts:
        logits = base.model(input_ids=text.unsqueeze(0).to(stack.device)).logits[0, :-1]
        theirs.append(cross_entropy(logits.float(), text[1:].to(stack.device), reduction="none"))
    off = float((mine - torch.cat(theirs)).abs().max())
    if off <= _TOLERANCES.get(stack.embedding.dtype, _COARSE):
        return None
    return f"the blocks of {type(base.model).__name__} compute something else (off by {off:.2g})"
