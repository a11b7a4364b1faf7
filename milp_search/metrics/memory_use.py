"""What memory of a user costs in bytes: as text in the prompt, or as an adapter.

Source: MiLP, App. D, Eq. 5 and 6, and Figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from milp_search.core.model_shape import LinearMap, ModelShape, trainable_parameters
from milp_search.core.plan import AdapterPlan


@dataclass(frozen=True)
class InferenceSizes:
    """What decides the memory of a prompt.

    Attributes:
        layers: The number of layers L.
        width: The width of the embeddings, d.
        key_value_width: The width of one token's keys, and of its values, in a layer, d_kv; less
            than d where query heads share them.
        bytes_per_number: 4 in float32, 2 in half precision.
    """

    layers: int
    width: int
    key_value_width: int
    bytes_per_number: int = 2


def inference_sizes(shape: ModelShape, bytes_per_number: int = 2) -> InferenceSizes:
    """Returns the sizes of a base model, read off its linear maps.

    Where one map holds query, key and value, the query is taken to be as wide as the embeddings;
    where no map is known to hold the values, they are, too.
    """
    width = next(linear.d_in for linear in shape.maps if linear.role == "up")
    key_values = [linear.d_out for linear in shape.maps if linear.role == "v"]
    key_values += [(linear.d_out - width) // 2 for linear in shape.maps if linear.role == "qkv"]
    return InferenceSizes(shape.layers, width, [*key_values, width][0], bytes_per_number)


def prompt_memory(tokens: int, sizes: InferenceSizes) -> int:
    """Returns the bytes that a prompt of this many tokens takes in inference.

    `M_inference = Embeddings_seq + Activations + Embeddings_att`. The paper spells out none of
    the three. Read here, for s tokens and b bytes per number: the embedded sequence, s d b; the
    hidden state that each layer hands on, L s d b; the keys and values that each layer's attention
    keeps, 2 L s d_kv b. It grows linearly with the history in the prompt.

    Source: MiLP, Eq. 5.
    """
    embedded = sizes.width
    activations = sizes.layers * sizes.width
    attention = 2 * sizes.layers * sizes.key_value_width
    return tokens * (embedded + activations + attention) * sizes.bytes_per_number


def adapter_memory(plan: AdapterPlan, maps: Sequence[LinearMap], bytes_per_number: int = 2) -> int:
    """Returns the bytes of one user's adapter, whatever the length of the history.

    `M_parameterization = Parameters/LoRA x n`, where a module of rank r has
    `r sum_W (d_in + d_out)` parameters; a plan's ranks hold its n modules summed up by layer.

    Source: MiLP, Eq. 6.
    """
    return trainable_parameters(plan, maps) * bytes_per_number
