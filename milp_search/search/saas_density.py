"""The SAAS model's density in JAX, compiled once for many data sets.

BoTorch's own fit closes over its data and compiles anew at every fit, which costs several times
what sampling costs. Here the data are arguments and rows are padded, so that one program serves
every metric and every number of trials up to the next multiple of `BUCKET`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from botorch.models.fully_bayesian import SaasPyroModel, matern52_kernel
from numpyro.infer import MCMC, NUTS

# ours: rows per program; a first fit compiles for seconds, padding costs a fraction of one.
BUCKET = 32


@final
class PaddedSaas(SaasPyroModel):  # type: ignore[misc]
    """BoTorch's SAAS priors over data that come as arguments."""

    # Makes `sample_noise` draw the noise from BoTorch's prior.
    train_Yvar_jax = None

    def sample(self, inputs: Any, outcomes: Any, noise: Any, is_real: Any) -> None:
        """Samples the model, `N` rows of which `n` are real.

        A padded row is an observation of zero with unit noise that correlates with nothing: a
        constant in the log density.

        Args:
            inputs: Shape `N x d`.
            outcomes: Shape `N`, zero in padded rows.
            noise: Variances, shape `N`, or None to infer one.
            is_real: Shape `N`, 1 in real rows and 0 in padded ones.

        Source: Eriksson and Jankowiak, "High-dimensional Bayesian optimization with sparse
        axis-aligned subspaces", 2021, Eq. 8.
        """
        output_scale = self.sample_outputscale(
            self._outputscale_prior_concentration, self._outputscale_prior_rate
        )
        mean = self.sample_mean()
        variances = self.sample_noise() if noise is None else noise
        kernel = matern52_kernel(inputs, self.sample_lengthscale(inputs.shape[-1]))
        signal = output_scale * kernel * is_real[:, None] * is_real[None, :]
        covariance = signal + jnp.diag(jnp.where(is_real > 0, variances, 1.0))
        observed = dist.MultivariateNormal(loc=mean * is_real, covariance_matrix=covariance)
        numpyro.sample("Y", observed, obs=outcomes)


def draw_hyperparameters(
    inputs: np.ndarray[Any, Any],
    outcomes: np.ndarray[Any, Any],
    noise: np.ndarray[Any, Any] | None,
    *,
    warmup_steps: int,
    samples: int,
    max_tree_depth: int,
    seed: int,
) -> dict[str, Any]:
    """Returns NUTS draws of the SAAS model's hyperparameters, by BoTorch's names.

    Args:
        inputs: Shape `n x d`, in about [0, 1].
        outcomes: Shape `n`, standardised.
        noise: Variances, shape `n`, or None to infer one.
        warmup_steps: Steps that adapt step size and mass matrix and are dropped.
        samples: Steps that are kept.
        max_tree_depth: A trajectory is doubled at most so often.
        seed: Seed of the chain.

    Returns:
        The draws by name, the first dimension being the kept steps.
    """
    # Whatever else the machine has, chains of this size belong on a CPU.
    with jax.default_device(jax.devices("cpu")[0]):
        program = _program(warmup_steps, samples, max_tree_depth)
        padded = [_padded(inputs), _padded(outcomes)]
        variances = None if noise is None else _padded(noise)
        is_real = _padded(np.ones(len(inputs)))
        return dict(program(jax.random.PRNGKey(seed), *padded, variances, is_real))


@lru_cache(maxsize=8)
def _program(warmup_steps: int, samples: int, max_tree_depth: int) -> Callable[..., Any]:
    model = PaddedSaas()

    def run(key: Any, *data: Any) -> Any:
        kernel = NUTS(model.sample, dense_mass=True, max_tree_depth=max_tree_depth)
        chain = MCMC(kernel, num_warmup=warmup_steps, num_samples=samples, progress_bar=False)
        chain.run(key, *data)
        return chain.get_samples()

    return jax.jit(run)  # type: ignore[no-any-return]


def _padded(rows: np.ndarray[Any, Any]) -> Any:
    missing = -len(rows) % BUCKET
    widths = [(0, missing), *((0, 0) for _ in rows.shape[1:])]
    return jnp.asarray(np.pad(rows, widths), dtype=jnp.float32)
