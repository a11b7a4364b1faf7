from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.models import ModelListGP
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.model import Model
from botorch.models.transforms.input import FilterFeatures
from scipy.stats import norm, spearmanr

from milp_search.search.cells import undominated_cells
from milp_search.search.exact_nehvi import (
    ExactNehvi,
    Target,
    _bounded,
    _reach,
    _volume,
    exact_nehvi,
)
from milp_search.search.nehvi import acquisition
from milp_search.search.posterior import Draws, Surrogate

# The observations are few, not exactly standardised.
pytestmark = pytest.mark.filterwarnings("ignore::botorch.exceptions.warnings.InputDataWarning")

D, N, DRAWS, NOISE = 3, 10, 2, 0.2
NONE = np.zeros(0)


class Case:
    """Observations of `measured` metrics with known hyperparameters, and `exact` closed forms."""

    def __init__(self, measured: int, exact: int, waiting: int = 0, seed: int = 0):
        rng = np.random.default_rng([seed, measured, exact])
        self.measured = measured
        self.inputs, self.candidates = rng.random((N, D)), rng.random((40, D))
        self.exact, self.candidate_exact = rng.random((N, exact)), rng.random((40, exact))
        self.pending, self.pending_exact = rng.random((waiting, D)), rng.random((waiting, exact))
        self.reference = np.array([-1.5] * measured + [0.0] * exact)
        self.surrogates: list[Surrogate] = []
        self.models: list[Model] = []
        for _ in range(measured):
            self._add(rng)

    def _add(self, rng: np.random.Generator) -> None:
        targets = np.sin(4 * self.inputs @ rng.standard_normal(D))
        targets = (targets - targets.mean()) / targets.std()
        lengthscales, scale = 0.2 + 0.5 * rng.random((DRAWS, D)), 0.6 + rng.random(DRAWS)
        mean = 0.2 * rng.standard_normal(DRAWS)
        draws = Draws(1 / lengthscales**2, scale, mean, None)
        self.surrogates.append(Surrogate(self.inputs, targets, np.full(N, NOISE), draws))
        whole = torch.from_numpy(np.hstack([self.inputs, self.exact]))
        model = SaasFullyBayesianSingleTaskGP(
            whole,
            torch.from_numpy(targets)[:, None],
            torch.full((N, 1), NOISE, dtype=torch.float64),
            input_transform=FilterFeatures(torch.arange(D)),
        )
        model.load_mcmc_samples(
            {
                "mean": torch.from_numpy(mean),
                "outputscale": torch.from_numpy(scale),
                "lengthscale": torch.from_numpy(lengthscales),
            }
        )
        self.models.append(model.eval())

    def ours(
        self,
        joint: int = 256,
        bounds: np.ndarray = NONE,
        reference: np.ndarray | None = None,
        seed: int = 0,
    ) -> ExactNehvi:
        target = Target(self.reference if reference is None else reference, bounds)
        exact, allowed = self.exact, np.ones(N, dtype=bool)
        function = exact_nehvi(
            self.surrogates, target, self.inputs, exact, allowed, joint=joint, seed=seed
        )
        rng = np.random.default_rng(seed)
        for point, values in zip(self.pending, self.pending_exact, strict=True):
            function = function.with_pending(point, values, allowed=True, rng=rng)
        return function

    def values(self, function: ExactNehvi) -> np.ndarray:
        return np.exp(function.log_values(self.candidates, self.candidate_exact))

    def botorch_logs(self, draws: int, seed: int) -> np.ndarray:
        model: Model = self.models[0] if self.measured == 1 else ModelListGP(*self.models)
        pending = torch.from_numpy(np.hstack([self.pending, self.pending_exact]))
        function = acquisition(
            model,
            torch.from_numpy(np.hstack([self.inputs, self.exact])),
            torch.from_numpy(self.reference),
            pending=pending if len(pending) else None,
            monte_carlo_samples=draws,
            seed=seed,
        )
        points = torch.from_numpy(np.hstack([self.candidates, self.candidate_exact]))
        with torch.no_grad():
            return np.asarray(function(points.unsqueeze(-2)).numpy())

    def drawn(self, candidate: int, count: int) -> np.ndarray:
        """Joint draws at observed and pending points and a candidate, `draws x n x m`."""
        joint = np.vstack([self.inputs, self.pending, self.candidates[[candidate]]])
        exact = np.vstack([self.exact, self.pending_exact, self.candidate_exact[[candidate]]])
        rng = np.random.default_rng(2)
        columns = []
        for surrogate in self.surrogates:
            mean, covariance = surrogate.joint(joint)
            rows = [
                rng.multivariate_normal(one, matrix, count, method="cholesky")
                for one, matrix in zip(mean, covariance + 1e-9 * np.eye(len(joint)), strict=True)
            ]
            columns.append(np.concatenate(rows))
        known = np.broadcast_to(exact, (DRAWS * count, *exact.shape))
        return np.concatenate([np.stack(columns, axis=-1), known], axis=-1)


def sampled_gains(values: np.ndarray, reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What the last point adds to the volume of the others, by darts, one gain for each draw."""
    rng = np.random.default_rng(3)
    sides = np.maximum(values[:, -1] - reference, 0.0)
    darts = reference + rng.random((64, *sides.shape)) * sides
    covered = np.zeros(darts.shape[:2], dtype=bool)
    for place in range(values.shape[1] - 1):
        covered |= (values[None, :, place] >= darts).all(axis=-1) & counts[:, place]
    return np.asarray((~covered).mean(axis=0) * sides.prod(axis=-1) * counts[:, -1])


@pytest.mark.parametrize(
    ("measured", "exact", "waiting"),
    [(2, 0, 0), (2, 0, 2), (1, 1, 2), (3, 0, 0), (2, 1, 2), (3, 1, 0), (2, 2, 1)],
)
def test_the_value_is_the_expected_gain_of_volume(measured: int, exact: int, waiting: int) -> None:
    case = Case(measured, exact, waiting)
    found = case.values(case.ours())
    best = int(found.argmax())
    values = case.drawn(best, 20_000)
    gains = sampled_gains(values, case.reference, np.ones(values.shape[:2], dtype=bool))
    error = gains.std() / np.sqrt(len(gains))
    # Our own draws at the baseline err too: 512 of them.
    assert found[best] == pytest.approx(gains.mean(), abs=4 * error + 0.03 * gains.mean())


@pytest.mark.parametrize(
    ("measured", "exact", "waiting"), [(2, 0, 0), (2, 0, 2), (1, 1, 0), (2, 1, 2), (3, 0, 1)]
)
def test_candidates_rank_and_score_as_with_botorch(measured: int, exact: int, waiting: int) -> None:
    case = Case(measured, exact, waiting)
    ours = case.values(case.ours())
    theirs = np.exp([case.botorch_logs(96, seed) for seed in range(8)])
    mean = theirs.mean(axis=0)
    assert spearmanr(ours, mean).statistic >= 0.98
    error = theirs.std(axis=0, ddof=1) / np.sqrt(len(theirs))
    # Ours errs a hundred times less. A rare gain may be met in none of BoTorch's draws.
    noticed = mean > 0.1 * mean.max()
    error = np.maximum(error, np.median(error[noticed] / mean[noticed]) * mean)
    assert (np.abs(ours - mean) <= 5 * error)[noticed].all()
    assert (ours[~noticed] < 0.15 * mean.max()).all()
    assert ours.sum() == pytest.approx(mean.sum(), rel=0.1)


def test_one_objective_is_the_noisy_expected_improvement() -> None:
    case = Case(1, 0)
    found = case.values(case.ours())
    best = int(found.argmax())
    values = case.drawn(best, 40_000)[..., 0]
    floor = np.maximum(values[:, :-1].max(axis=1), case.reference[0])
    gains = np.maximum(values[:, -1] - floor, 0.0)
    error = gains.std() / np.sqrt(len(gains))
    assert found[best] == pytest.approx(gains.mean(), abs=4 * error + 0.03 * gains.mean())


def test_a_constrained_metric_counts_draw_by_draw() -> None:
    case = Case(3, 0)
    bound = np.array([0.2])
    # The third metric is no objective here.
    found = case.values(case.ours(bounds=bound, reference=case.reference[:2]))
    best = int(found.argmax())
    values = case.drawn(best, 40_000)
    gains = sampled_gains(values[..., :2], case.reference[:2], values[..., 2] >= bound)
    error = gains.std() / np.sqrt(len(gains))
    assert found[best] == pytest.approx(gains.mean(), abs=4 * error + 0.03 * gains.mean())


def test_points_that_break_an_exact_bound_are_not_on_the_front() -> None:
    case = Case(1, 1)
    target = Target(case.reference, NONE)
    forbidden = np.zeros(N, dtype=bool)
    function = exact_nehvi(
        case.surrogates, target, case.inputs, case.exact, forbidden, joint=2, seed=0
    )
    assert all(cells.lower.shape[1] == 1 for cells in function.cells)
    mean, variance = case.surrogates[0].predict(case.candidates)
    deviation = np.sqrt(variance)
    z = (mean + 1.5) / deviation
    improvement = (deviation * (norm.pdf(z) + z * norm.cdf(z))).mean(axis=0)
    expected = improvement * case.candidate_exact[:, 0]
    assert case.values(function) == pytest.approx(expected, rel=1e-6)


def test_gains_that_underflow_still_rank() -> None:
    case = Case(2, 0)
    # No candidate will reach a reference a thousand deviations above.
    function = case.ours(joint=1, reference=np.array([1000.0, 1000.0]))
    logs = function.log_values(case.candidates, case.candidate_exact)
    assert np.isfinite(logs).all()
    assert (logs < -1e5).all()
    assert len(np.unique(logs)) == len(logs)


def test_logarithms_and_plain_values_are_one_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    for measured, exact in [(1, 0), (1, 1), (2, 1), (3, 1)]:
        case = Case(measured, exact)
        bounds = np.array([0.1]) if measured > 1 else NONE
        reference = case.reference[1:] if measured > 1 else case.reference
        function = case.ours(joint=4, bounds=bounds, reference=reference)
        plain = function.log_values(case.candidates, case.candidate_exact)
        with monkeypatch.context() as patched:
            patched.setattr("milp_search.search.exact_nehvi._TINY", np.inf)
            logs = function.log_values(case.candidates, case.candidate_exact)
        assert logs == pytest.approx(plain, abs=1e-6)


def test_exact_objectives_below_the_reference_gain_nothing_the_less_the_lower() -> None:
    case = Case(1, 1)
    function = case.ours(joint=1, reference=np.array([-1.5, 2.0]))
    exact = np.array([[1.0], [1.5], [2.5]])
    logs = function.log_values(case.candidates[:3], exact)
    assert logs[0] < logs[1] < -1e8 < logs[2]


def test_exact_objectives_below_the_reference_score_below_the_faintest_gain() -> None:
    case = Case(2, 1)
    exact = np.array([[0.5], [0.5], [-0.1], [-0.2]])
    for far in (1e4, 1e8, 1e150):
        function = case.ours(joint=1, bounds=np.array([far]), reference=np.array([-1.5, 0.0]))
        logs = function.log_values(case.candidates[:4], exact)
        assert np.isfinite(logs).all()
        assert logs[:2].min() > logs[2] > logs[3]
        assert logs[0] != logs[1]


def test_logarithms_far_below_zero_are_raised_in_their_order() -> None:
    # -10^6 (1 + log 10) for ten times -10^6, and with 294 log 10 for 10^294 times it.
    raised = _bounded(np.array([0.0, -5.0, -1e6, -1e7, -1e300]))
    np.testing.assert_allclose(raised, [0.0, -5.0, -1e6, -3302585.093, -677960017.3402])


def test_many_candidates_score_as_one_by_one() -> None:
    case = Case(2, 1)
    function = case.ours(joint=2)
    inputs, exact = np.tile(case.candidates, (9, 1)), np.tile(case.candidate_exact, (9, 1))
    logs = function.log_values(inputs, exact)
    assert logs == pytest.approx(
        np.tile(function.log_values(case.candidates, case.candidate_exact), 9)
    )
    assert function.log_values(inputs[:0], exact[:0]).shape == (0,)


def test_a_candidate_alone_scores_as_among_others_where_the_front_is_empty() -> None:
    cells = undominated_cells(np.zeros((0, 2)), np.zeros(2))
    means, sure = [np.array([3.0, 1.0]), np.array([2.0, 4.0])], [np.full(2, 1e-9)] * 2
    both = _volume(cells, _reach(cells, means, sure, np.zeros((2, 0))))
    first = [one[:1] for one in means]
    alone = _volume(cells, _reach(cells, first, [one[:1] for one in sure], np.zeros((1, 0))))
    np.testing.assert_allclose(both, [6.0, 4.0])
    np.testing.assert_allclose(alone, [6.0])
