"""What a warm start of the surrogate needs; a study's store keeps it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

import numpy as np

from milp_search.core.errors import InputError
from milp_search.search.orientation import Array

_VERSION = 2

Fingerprints = np.ndarray[tuple[int], np.dtype[np.uint64]]


class FitStateError(InputError):
    """A stored fit state that cannot be read."""


@dataclass(frozen=True, eq=False)
class MetricState:
    """Where one metric's chains are.

    Attributes:
        positions: Each chain's last position, shape `C x D`.
        step_sizes: Each chain's step size, shape `C`.
        factor: Lower factor of the inverse mass matrix that all chains share, shape `D x D`,
            rounded to single precision.
        log_densities: Each chain's mean log density in the last fit, shape `C`.
        seen: Fingerprints of the rows fitted so far, shape `n`, sorted.
        due: How many rows there are to be when each chain starts anew, shape `C`.
        surprise: Sum of squared standardised errors of the rows scored so far; what chains that
            started anew did not take part in counts for less.
        scored: The number of those rows, counted likewise.
    """

    positions: Array
    step_sizes: Array
    factor: Array
    log_densities: Array
    seen: Fingerprints
    due: Array
    surprise: float
    scored: float


@dataclass(frozen=True, eq=False)
class FitState:
    """Where the chains of all modelled metrics are.

    Attributes:
        metrics: One state for each metric.
    """

    metrics: tuple[MetricState, ...]

    def encoded(self) -> dict[str, Any]:
        """Returns the state in JSON's types; nothing is lost."""
        return {"version": _VERSION, "metrics": [_encoded(one) for one in self.metrics]}

    @staticmethod
    def decoded(data: Mapping[str, Any]) -> FitState:
        """Returns the state that was encoded.

        Args:
            data: What `encoded` returned.

        Returns:
            The state.

        Raises:
            FitStateError: The data are of another version or damaged.
        """
        if data.get("version") != _VERSION:
            raise FitStateError(
                f"expected a fit state of version {_VERSION}, got {data.get('version')!r}"
            )
        try:
            return FitState(tuple(_decoded(one) for one in data["metrics"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FitStateError(f"expected a fit state, got damaged data: {error}") from error


def fingerprints(inputs: Array) -> Fingerprints:
    """Returns a number for each row of inputs, shape `n`; equal rows have equal numbers."""
    rows = np.ascontiguousarray(inputs, dtype="<f8")
    digests = b"".join(blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


# How each array is written; the factor's lower triangle is all there is to it.
_DTYPES = {
    "positions": "<f8",
    "step_sizes": "<f8",
    "factor": "<f4",
    "log_densities": "<f8",
    "seen": "<u8",
    "due": "<f8",
}


def _encoded(state: MetricState) -> dict[str, Any]:
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    values["factor"] = state.factor[np.tril_indices(len(state.factor))]
    for name, dtype in _DTYPES.items():
        packed = np.ascontiguousarray(values[name], dtype=dtype).tobytes()
        values[name] = base64.b64encode(packed).decode("ascii")
    return values


def _decoded(data: Mapping[str, Any]) -> MetricState:
    arrays = {name: _unpacked(data[name], dtype) for name, dtype in _DTYPES.items()}
    chains = len(arrays["step_sizes"])
    positions = arrays["positions"].reshape(chains, -1)
    dimension = positions.shape[1]
    factor = np.zeros((dimension, dimension))
    factor[np.tril_indices(dimension)] = arrays["factor"]
    return MetricState(
        positions.astype(np.float64),
        arrays["step_sizes"].astype(np.float64),
        factor,
        arrays["log_densities"].astype(np.float64),
        arrays["seen"].astype(np.uint64),
        arrays["due"].astype(np.float64),
        float(data["surprise"]),
        float(data["scored"]),
    )


def _unpacked(text: Sequence[str], dtype: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(str(text), validate=True), dtype=dtype)
