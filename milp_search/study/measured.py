"""Checks what a trial is told before it enters the study."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from numbers import Real

from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Measurement
from milp_search.study.events import Measurements

# ours: above what single precision rounds off.
_ROUNDING = 1e-6


def checked_measurements(
    told: Mapping[str, Measurement | float],
    *,
    required: Collection[str],
    known: Collection[str] | None,
) -> dict[str, Measurement]:
    """Returns the measurements, a bare number being a mean whose standard error is not known.

    Args:
        told: Metric name to value.
        required: The metrics that must be there.
        known: All metrics that may be there; None where any may.

    Returns:
        Metric name to measurement, of plain floats.

    Raises:
        MeasurementError: A metric is missing or unknown, or a value is no finite number.
    """
    missing = sorted(set(required) - set(told))
    if missing:
        raise MeasurementError(f"expected {', '.join(missing)}; got {_listed(told)}")
    if known is not None:
        _refuse_unknown(told, known)
    return {metric: _measurement(metric, value) for metric, value in told.items()}


def as_exact(told: Mapping[str, Measurement], exact: Measurements) -> dict[str, Measurement]:
    """Returns the measurements with the exact ones as their closed forms give them.

    Args:
        told: Metric name to measurement.
        exact: What is known without a trial; the same where it was told nevertheless.

    Returns:
        Metric name to measurement, all exact ones among them.

    Raises:
        MeasurementError: An exact metric was told another value.
    """
    for metric in exact.keys() & told.keys():
        if not math.isclose(told[metric].mean, exact[metric].mean, rel_tol=_ROUNDING):
            raise MeasurementError(
                f"expected {exact[metric].mean} for {metric!r}, which follows from the arm, "
                f"got {told[metric].mean}",
                remedy=f"Leave {metric!r} out, or do not make it exact.",
            )
    return {**told, **exact}


def checked_duration(duration_s: float | None) -> float | None:
    """Returns seconds as a plain number, None where they are not known.

    Args:
        duration_s: The seconds as given.

    Returns:
        The same.

    Raises:
        MeasurementError: They are no finite number.
    """
    if duration_s is None:
        return None
    if not isinstance(duration_s, Real) or not math.isfinite(duration_s):
        raise MeasurementError(f"expected duration_s to be a finite number, got {duration_s!r}")
    return float(duration_s)


def _refuse_unknown(told: Collection[str], known: Collection[str]) -> None:
    for metric in told:
        if metric not in known:
            near = get_close_matches(metric, known, n=1)
            raise MeasurementError(
                f"expected only metrics of the study ({_listed(known)}), got {metric!r}",
                remedy=f"Did you mean {near[0]!r}?" if near else None,
            )


def _measurement(metric: str, value: object) -> Measurement:
    if isinstance(value, Measurement):
        sem = None if value.sem is None else float(value.sem)
        per_user = tuple(map(float, value.per_user))
        if not all(map(math.isfinite, per_user)):
            raise MeasurementError(f"{metric}: expected finite values per user, got {per_user}")
        return Measurement(float(value.mean), sem, per_user)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise MeasurementError(f"expected a number or Measurement for {metric!r}, got {value!r}")
    try:
        return Measurement(float(value))
    except MeasurementError as error:
        raise MeasurementError(f"{metric}: {error.message}") from None


def _listed(metrics: Collection[str]) -> str:
    return ", ".join(sorted(metrics)) or "nothing"
