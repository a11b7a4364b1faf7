"""What a user's memory costs, in the prompt and in an adapter, as the history grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from milp_search.adapters.base_model import read_shape, read_tokenizer
from milp_search.adapters.prompt import item_text
from milp_search.core.records import PersonalizationTask
from milp_search.dispatch.comparison.parts import refuse_endpoint
from milp_search.dispatch.comparison.request import Comparison, Results, Subject
from milp_search.metrics.memory_use import adapter_memory, inference_sizes, prompt_memory
from milp_search.space.row_space import Row, row_plan
from milp_search.space.space_file import load_search_space
from milp_search.study.result_charts import line_chart
from milp_search.study.result_table import Cell, Column, Line, ResultTable
from milp_search.study.table_page import ResultFigure

# ours: items of a history, from a new user's to a very active one's.
_ITEMS = (1, 5, 10, 20, 50, 100, 200, 500)
_RETRIEVED = 4  # ours: what retrieval shows of it
_MIB = 2**20
_SIZE = "MiB"

_NOTE = (
    "In half precision, per user and query: the prompt's embeddings, activations, keys and values "
    "(MiLP, Eq. 5) against the adapter's parameters (Eq. 6). An item has {tokens:.1f} tokens, the "
    "mean over the targets' histories; the adapter is that of MiLP in the study's space."
)


def memory_figure(one: Subject, levels: Sequence[int] | None) -> Comparison:
    """Returns the memory of prompts and adapters over the length of the history.

    It follows from the base model's shape, the space and the data; nothing is trained.

    Args:
        one: The data set and model.
        levels: The lengths, in items; None chooses them.

    Returns:
        The figure in the making, without parts.

    Raises:
        SpecError: The model is behind an endpoint, and its shape not known.

    Source: MiLP, Eq. 5 and 6 and Figure 3.
    """
    refuse_endpoint(one.name, one.spec)
    title = "Memory of a user: prompts against adapters (MiLP, Figure 3)"
    chosen = tuple(levels or _ITEMS)
    return Comparison("memory", title, (), lambda folder: _results(one, chosen, title, folder))


def _results(one: Subject, items: Sequence[int], title: str, _: Path) -> Results:
    name, trust = one.spec.base_model, one.spec.trust_remote_code
    shape = read_shape(name, trust_remote_code=trust)
    sizes = inference_sizes(shape)
    tokens = mean_item_tokens(one.task, read_tokenizer(name, trust_remote_code=trust))
    space = load_search_space(one.spec.space, layers=shape.layers)
    plan = row_plan(space, Row("MiLP", "milp"), len(one.task.targets)).adapter
    adapter = adapter_memory(plan, shape.targets(plan.target_maps))
    rows = {
        "Whole history in the prompt": [prompt_memory(round(n * tokens), sizes) for n in items],
        f"{_RETRIEVED} retrieved items in the prompt": [
            prompt_memory(round(min(n, _RETRIEVED) * tokens), sizes) for n in items
        ],
        "Adapter": [adapter] * len(items),
    }
    table = ResultTable(
        "memory",
        title,
        _NOTE.format(tokens=tokens),
        tuple(Column(f"{n} items", _SIZE, "minimize") for n in items),
        tuple(
            Line(label, tuple(Cell((bytes_ / _MIB,)) for bytes_ in values))
            for label, values in rows.items()
        ),
    )
    return [table], [ResultFigure(title, table.note, line_chart(table, "items", items, _SIZE))]


def mean_item_tokens(task: PersonalizationTask, tokenizer: Any) -> float:
    """Returns the mean number of tokens of the targets' training items, as prompts show them."""
    texts = [item_text(item.query, item.response) for user in task.targets for item in user.history]
    return fmean(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
