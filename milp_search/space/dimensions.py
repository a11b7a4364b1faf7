"""The table of dimensions: to add one, write its kind and a line here."""

from __future__ import annotations

from milp_search.space.choice_dimension import ChoiceKind
from milp_search.space.dimension import DimensionKind
from milp_search.space.integer_dimension import IntegerKind
from milp_search.space.mask_dimension import MaskKind

# The order of the rows is the order of the parameters in arms, reports and tables.
DIMENSIONS: dict[str, DimensionKind] = {
    "lora_count": IntegerKind("lora_count", minimum=0, auto=True),
    "lora_rank": IntegerKind("lora_rank", minimum=1),
    "ffn_layer_mask": MaskKind("ffn_layer_mask"),
    "time_splits": IntegerKind("time_splits", minimum=1),
    "retrieved_items": IntegerKind("retrieved_items", minimum=0),
    "communities": IntegerKind("communities", minimum=1),
    "profile": ChoiceKind("profile", {"off": False, "on": True}),
    "summary_lines": IntegerKind("summary_lines", minimum=1),
    "adapter_scope": ChoiceKind(
        "adapter_scope", {"user": "user", "community": "community", "all": "all"}, field="scope"
    ),
}
