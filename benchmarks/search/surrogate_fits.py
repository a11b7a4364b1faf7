"""Single fits of the surrogate, ours and BoTorch's, judged on held-out points of known truths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from milp_search.search.fit_state import FitState
from milp_search.search.orientation import Array
from milp_search.search.posterior import Surrogate
from milp_search.search.presets import FitSettings
from milp_search.search.saas_fit import fit

BITS, LEVELS, HELD_OUT, NOISE = 32, 5, 400, 0.1
DIMENSION = BITS + LEVELS
# Warm states come of a study that grows by so many trials, from this share of them on.
STEP, EARLY = 6, 0.4

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Data:
    """Observations and held-out points of one truth, which has unit variance.

    Attributes:
        inputs: Shape `n x d`.
        targets: Shape `n`, with noise.
        held_out: Inputs, shape `N x d`.
        truth: Shape `N`.
        noisy: The truth with noise, shape `N`.
    """

    inputs: Array
    targets: Array
    held_out: Array
    truth: Array
    noisy: Array


def data_of(name: str, count: int) -> Data:
    """Returns so many observations of a truth; the truth itself is always the same."""
    rng = np.random.default_rng([7, count])
    total = count + HELD_OUT
    bits = rng.integers(0, 2, (total, BITS)).astype(float)
    inputs = np.column_stack([bits, rng.integers(0, 5, (total, LEVELS)) / 4])
    values = TRUTHS[name](inputs, np.random.default_rng(99))
    values = (values - values.mean()) / values.std()
    noisy = values + NOISE * rng.standard_normal(total)
    return Data(inputs[:count], noisy[:count], inputs[count:], values[count:], noisy[count:])


def _sparse(x: Array, rng: np.random.Generator) -> Array:
    """Six inputs matter, four of them in pairs."""
    a, b, c = rng.permutation(BITS)[:3]
    return np.asarray(
        1.5 * x[:, a] * x[:, 36] - x[:, b] + np.sin(3 * x[:, 33]) + 0.8 * x[:, c] * x[:, 34]
    )


def _dense(x: Array, rng: np.random.Generator) -> Array:
    """All inputs matter."""
    sums = x[:, :16].sum(axis=1) / 4
    linear = x @ rng.normal(scale=0.5, size=DIMENSION)
    return np.asarray(linear + np.tanh(sums - 2) * x[:, 35] + np.sin(2 * x[:, 33:36].sum(axis=1)))


TRUTHS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "sparse": _sparse,
    "dense": _dense,
}


def our_fits(data: Data, seed: int, settings: FitSettings, *, warm: bool) -> Iterator[Row]:
    """Yields a cold fit of all observations and, if asked for, warm ones after a growing study."""
    count = len(data.targets)
    yield _ours("cold", data, seed, settings, None)
    if not warm:
        return
    state = None
    for size in range(int(EARLY * count), count, STEP):
        targets, _, _ = _scaled(data.targets[:size])
        _, state, _ = fit(data.inputs[:size], [targets], [None], settings, seed + size, state)
    assert state is not None
    for chains, name in enumerate(("warm", "warm, a chain anew", "warm, two chains anew")):
        yield _ours(name, data, seed, settings, due(state, chains))


def due(state: FitState, chains: int) -> FitState:
    """Returns the state with so many of each metric's chains to be started anew, and no others."""
    return FitState(
        tuple(
            replace(one, due=np.where(np.arange(len(one.due)) < chains, 0.0, np.inf))
            for one in state.metrics
        )
    )


def stock_fit(data: Data, seed: int) -> Row:
    """Returns BoTorch's own fit, with its defaults; it compiles the model each time."""
    import numpyro.infer  # noqa: F401 - else a part of the first fit's seconds
    from botorch.fit import fit_fully_bayesian_model_nuts
    from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP

    targets, centre, scale = _scaled(data.targets)
    model = SaasFullyBayesianSingleTaskGP(
        torch.from_numpy(data.inputs), torch.from_numpy(targets)[:, None]
    )
    start = time.process_time()
    fit_fully_bayesian_model_nuts(model, disable_progbar=True, seed=seed)
    spent = time.process_time() - start
    with torch.no_grad():
        found = model.posterior(torch.from_numpy(data.held_out), observation_noise=True)
    means, variances = found.mean[..., 0].numpy(), found.variance[..., 0].numpy()
    return _row("stock BoTorch", seed, spent, data, centre + scale * means, scale**2 * variances)


def _ours(name: str, data: Data, seed: int, settings: FitSettings, state: FitState | None) -> Row:
    targets, centre, scale = _scaled(data.targets)
    start = time.process_time()
    draws, _, _ = fit(data.inputs, [targets], [None], settings, seed, state)
    spent = time.process_time() - start
    means, variances = Surrogate(data.inputs, targets, None, draws[0]).predict(data.held_out)
    assert draws[0].noise is not None
    variances = variances + draws[0].noise[:, None]
    return _row(name, seed, spent, data, centre + scale * means, scale**2 * variances)


def _scaled(targets: Array) -> tuple[Array, float, float]:
    centre, scale = float(targets.mean()), float(targets.std(ddof=1))
    return (targets - centre) / scale, centre, scale


def _row(name: str, seed: int, spent: float, data: Data, means: Array, variances: Array) -> Row:
    """Returns the seconds with the mixture's held-out errors; moments have shape `S x N`."""
    logs = -0.5 * ((data.noisy - means) ** 2 / variances + np.log(2 * np.pi * variances))
    density = np.logaddexp.reduce(logs, axis=0) - np.log(len(means))
    errors = means.mean(axis=0) - data.truth
    return {
        "fit": name,
        "seed": seed,
        "cpu_s": spent,
        "rmse": float(np.sqrt((errors**2).mean())),
        "nll": float(-density.mean()),
    }
