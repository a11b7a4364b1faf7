from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.model import Model
from botorch.models.transforms.input import FilterFeatures
from torch import Tensor

from milp_search.search.nehvi import WithExactColumns, acquisition, relevant_baseline

# The observations are few and round, not exactly standardised.
pytestmark = pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.InputDataWarning")

# Columns 0 and 1 are features, column 2 is an objective known exactly.
BASELINE = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.9, 0.4], [0.9, 0.4, 0.2]], dtype=torch.float64)
CANDIDATES = torch.tensor([[0.3, 0.7, 0.8], [0.8, 0.1, 0.3]], dtype=torch.float64)
OUTCOMES = torch.tensor([[-0.5, 0.3], [0.2, -0.4], [0.9, 0.1]], dtype=torch.float64)


def saas(column: int) -> SaasFullyBayesianSingleTaskGP:
    """A SAAS model of one metric with two given hyperparameter draws."""
    noise = torch.full((3, 1), 0.05, dtype=torch.float64)
    model = SaasFullyBayesianSingleTaskGP(
        BASELINE, OUTCOMES[:, [column]], noise, input_transform=FilterFeatures(torch.arange(2))
    )
    draws = {
        "mean": torch.tensor([0.0, 0.3], dtype=torch.float64),
        "outputscale": torch.tensor([1.0, 0.6], dtype=torch.float64),
        "lengthscale": torch.tensor([[0.4, 0.8], [1.0, 0.3]], dtype=torch.float64),
    }
    model.load_mcmc_samples(draws)
    return model.eval()


def drawn(models: list[Model], inputs: Tensor, count: int) -> Tensor:
    """Joint draws of all models, shape `count x models in ensemble x n x m`."""
    with torch.no_grad():
        return torch.cat([one.posterior(inputs).rsample(torch.Size([count])) for one in models], -1)


def slow_volumes(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Volumes by inclusion and exclusion over all subsets, for values `draws x n x m`."""
    total = np.zeros(len(values))
    for subset in range(1, 2 ** values.shape[1]):
        chosen = [point for point in range(values.shape[1]) if subset >> point & 1]
        sides = np.maximum(values[:, chosen].min(axis=1) - reference, 0)
        total -= (-1) ** len(chosen) * sides.prod(axis=-1)
    return total


def brute_force(samples: Tensor, exact: Tensor, reference: Tensor) -> tuple[float, float]:
    """Mean improvement by the last point over the others, and its standard error."""
    flat = samples.reshape(-1, *samples.shape[-2:]).numpy()
    columns = exact.unsqueeze(0).expand(len(flat), -1, -1).numpy()
    values, low = np.concatenate([flat, columns], axis=-1), reference.numpy()
    gains = slow_volumes(values, low) - slow_volumes(values[:, :-1], low)
    return float(np.mean(gains)), float(np.std(gains) / np.sqrt(len(gains)))


@pytest.mark.parametrize("measured", [1, 2])
@pytest.mark.parametrize("name", ["qlognehvi", "qnehvi"])
@pytest.mark.parametrize("waiting", [0, 1])
def test_the_value_is_the_expected_gain_of_volume(measured: int, name: str, waiting: int) -> None:
    models: list[Model] = [saas(column) for column in range(measured)]
    model = models[0] if measured == 1 else ModelListGP(*models)
    reference = torch.tensor([-1.5] * measured + [0.0], dtype=torch.float64)
    pending = CANDIDATES[1:] if waiting else None
    known = BASELINE if pending is None else torch.cat([BASELINE, pending])
    function = acquisition(
        model, BASELINE, reference, name=name, pending=pending, monte_carlo_samples=512
    )
    with torch.no_grad():
        value = function(CANDIDATES[:1].unsqueeze(-2))[0]
    value = value.exp() if name == "qlognehvi" else value
    joint = torch.cat([known, CANDIDATES[:1]])
    expected, error = brute_force(drawn(models, joint, 4000), joint[:, 2:], reference)
    assert float(value) == pytest.approx(expected, abs=4 * error + 0.01 * expected)


def test_the_exact_column_is_exact_in_every_draw() -> None:
    objective = WithExactColumns(1, ensemble=True)
    samples = torch.randn(5, 4, 2, 3, 2, dtype=torch.float64)
    inputs = torch.rand(4, 3, 7, dtype=torch.float64)
    whole = objective(samples, X=inputs)
    assert torch.equal(whole[..., :2], samples)
    for draw in range(5):
        for model in range(2):
            assert torch.equal(whole[draw, :, model, :, 2], inputs[..., -1])


def test_the_exact_column_reaches_baseline_draws_too() -> None:
    objective = WithExactColumns(2, ensemble=True)
    whole = objective(torch.zeros(5, 2, 3, 1, dtype=torch.float64), X=BASELINE)
    assert torch.equal(whole[4, 1, :, 1:], BASELINE[:, -2:])


def test_a_model_that_is_no_ensemble_has_no_extra_dimension() -> None:
    objective = WithExactColumns(1, ensemble=False)
    inputs = torch.rand(4, 1, 3, dtype=torch.float64)
    whole = objective(torch.zeros(6, 4, 1, 1, dtype=torch.float64), X=inputs)
    assert torch.equal(whole[5, ..., 1], inputs[..., -1])


@pytest.mark.parametrize("name", ["qlognehvi", "qnehvi"])
def test_one_objective_is_the_expected_improvement(name: str) -> None:
    model = saas(0)
    function = acquisition(
        model,
        BASELINE,
        torch.tensor([-1.5], dtype=torch.float64),
        name=name,
        monte_carlo_samples=512,
    )
    with torch.no_grad():
        value = function(CANDIDATES[:1].unsqueeze(-2))[0]
    value = value.exp() if name == "qlognehvi" else value
    samples = drawn([model], torch.cat([BASELINE, CANDIDATES[:1]]), 4000)[..., 0]
    gains = (samples[..., -1] - samples[..., :-1].amax(-1)).clamp_min(0)
    error = float(gains.std() / gains.numel() ** 0.5)
    assert float(value) == pytest.approx(float(gains.mean()), abs=4 * error + 0.003)


def test_a_plain_gaussian_process_serves_as_well() -> None:
    models = [
        SingleTaskGP(
            BASELINE,
            OUTCOMES[:, [column]],
            outcome_transform=None,
            input_transform=FilterFeatures(torch.arange(2)),
        ).eval()
        for column in range(2)
    ]
    reference = torch.tensor([-1.5, -1.5, 0.0], dtype=torch.float64)
    function = acquisition(ModelListGP(*models), BASELINE, reference, monte_carlo_samples=256)
    with torch.no_grad():
        value = function(CANDIDATES[:1].unsqueeze(-2)).exp()[0]
    joint = torch.cat([BASELINE, CANDIDATES[:1]])
    expected, error = brute_force(drawn([*models], joint, 8000), joint[:, 2:], reference)
    assert float(value) == pytest.approx(expected, abs=4 * error + 0.01 * expected)


def test_points_that_cannot_be_on_the_front_leave_the_baseline() -> None:
    # Outcomes near -.5, .2, .9 with noise .05; the exact objective of the second row is worst.
    baseline = BASELINE.clone()
    baseline[:, 2] = torch.tensor([0.9, 0.1, 0.2], dtype=torch.float64)
    low = torch.tensor([-9.0, 0.0], dtype=torch.float64)
    kept = relevant_baseline(saas(0), baseline, low, seed=0)
    assert baseline[0].tolist() in kept.tolist()
    assert baseline[2].tolist() in kept.tolist()
    assert torch.equal(relevant_baseline(saas(0), baseline, low, seed=0), kept)


def test_where_no_point_passes_the_reference_the_whole_baseline_stays() -> None:
    high = torch.tensor([99.0, 99.0], dtype=torch.float64)
    assert torch.equal(relevant_baseline(saas(0), BASELINE, high, seed=0), BASELINE)
    assert torch.equal(relevant_baseline(saas(0), BASELINE, high[:1], seed=0), BASELINE)
