from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP

from milp_search.search.model_draws import UnreadableModelError, draws_of
from milp_search.search.posterior import Surrogate
from milp_search.search.presets import EngineSettings
from milp_search.search.surrogates import fit_surrogate

RNG = np.random.default_rng(0)
INPUTS, PROBES = RNG.random((12, 3)), RNG.random((5, 3))
TARGETS = np.sin(5 * INPUTS[:, 0])
TARGETS = (TARGETS - TARGETS.mean()) / TARGETS.std(ddof=1)


@pytest.mark.parametrize("noise", [None, np.full(12, 0.02)])
@pytest.mark.parametrize("surrogate", ["gp", "map_saas"])
def test_our_posterior_is_that_of_the_model(surrogate: str, noise: np.ndarray | None) -> None:
    settings = EngineSettings(surrogate=surrogate)  # type: ignore[arg-type]
    known = None if noise is None else torch.from_numpy(noise)
    outcomes = torch.from_numpy(TARGETS)[:, None]
    model = fit_surrogate(torch.from_numpy(INPUTS), outcomes, [known], 3, settings, 0)
    mean, variance = Surrogate(INPUTS, TARGETS, noise, draws_of(model)).predict(PROBES)
    with torch.no_grad():
        posterior = model.posterior(torch.from_numpy(PROBES))
    count = len(mean)
    expected = posterior.mean if count == 1 else posterior.mean.reshape(count, 5)
    spread = posterior.variance if count == 1 else posterior.variance.reshape(count, 5)
    assert mean == pytest.approx(expected.numpy().reshape(count, 5), abs=1e-4)
    assert variance == pytest.approx(spread.numpy().reshape(count, 5), abs=1e-4)


def test_another_kernel_is_refused() -> None:
    model = SingleTaskGP(
        torch.from_numpy(INPUTS), torch.from_numpy(TARGETS)[:, None], outcome_transform=None
    )
    with pytest.raises(UnreadableModelError, match="RBF"):
        draws_of(model)
