"""How far a normal variable is expected to exceed levels, in closed form."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import erfcx, ndtr

from milp_search.search.orientation import Array

_SQRT_HALF = math.sqrt(0.5)
_INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_LOG_INVERSE_SQRT_2PI = math.log(_INVERSE_SQRT_2PI)
# Below it 1 + z Phi(z) / phi(z) is lost in rounding; its expansion 1 / z^2 is then exact to 3e-6.
_ASYMPTOTIC = -1e3


def expected_excess(levels: Array, mean: Array, deviation: Array) -> Array:
    """Returns `E max(Y - level, 0)` of normal variables Y, shape `F x N`.

    Args:
        levels: Shape `F`.
        mean: Shape `N`.
        deviation: Standard deviations, shape `N`, above zero.

    Returns:
        The expectations; below about 38 standard deviations they underflow to 0.

    Source: Jones, Schonlau and Welch, "Efficient global optimization of expensive black-box
    functions", 1998, Eq. 15.
    """
    z = (mean - levels[:, None]) / deviation
    # torch's erfc is vectorised and keeps its digits in the tail; SciPy's takes three times longer.
    upper = torch.erfc(torch.from_numpy(z * -_SQRT_HALF)).numpy()
    density = z * z
    density *= -0.5
    np.exp(density, out=density)
    density *= _INVERSE_SQRT_2PI
    upper *= 0.5
    upper *= z
    density += upper
    density *= deviation
    return np.asarray(np.maximum(density, 0.0, out=density))


def log_expected_excess(levels: Array, mean: Array, deviation: Array) -> Array:
    """Returns the logarithm of `expected_excess`, finite wherever its arguments are, `F x N`.

    Args:
        levels: Shape `F`.
        mean: Shape `N`.
        deviation: Standard deviations, shape `N`, above zero.

    Returns:
        The logarithms.

    Source: Ament et al., "Unexpected improvements to expected improvement", 2023, Eq. 9.
    """
    z = (mean - levels[:, None]) / deviation
    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-0.5 * near**2) * _INVERSE_SQRT_2PI + near * ndtr(near))
    tail = np.clip(z, _ASYMPTOTIC, -1.0)
    # h(z) = phi(z) (1 + z Phi(z) / phi(z)), the ratio being sqrt(pi / 2) erfcx(-z / sqrt 2).
    ratio = np.log1p(tail * math.sqrt(0.5 * math.pi) * erfcx(-tail * _SQRT_HALF))
    far = np.log(np.abs(np.minimum(z, _ASYMPTOTIC))) * -2.0
    in_tail = -0.5 * z**2 + _LOG_INVERSE_SQRT_2PI + np.where(z < _ASYMPTOTIC, far, ratio)
    return np.asarray(np.where(z > -1.0, direct, in_tail) + np.log(deviation))
