"""The eleven families of learning curves of Domhan et al. 2015 (table 1), and their least-squares fits.

Each rises and levels off (or nearly). Where a parameter is a scale, its logarithm stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Family:
    """A curve by its parameters: `value(parameters, x)` takes (k, rows, 1) and epochs (points,), gives (rows, points).

    lower, upper: the box of the parameters, k each; within it their prior is uniform.
    """

    name: str
    value: Function
    lower: tuple[float, ...]
    upper: tuple[float, ...]


def vapor_pressure(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """exp(a + b/x + c log x)"""
    return np.exp(p[0] + p[1] / x + p[2] * np.log(x))  # type: ignore[no-any-return]


def pow3(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """c − a x^−α"""
    return p[0] - p[1] * np.exp(-p[2] * np.log(x))  # type: ignore[no-any-return]


def log_log_linear(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log(a log x + b)"""
    return np.log(p[0] * np.log(x) + p[1])  # type: ignore[no-any-return]


def hill3(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """y_max x^η / (κ^η + x^η); p[1] = log κ"""
    return p[0] / (1 + np.exp(p[2] * (p[1] - np.log(x))))  # type: ignore[no-any-return]


def log_power(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """a / (1 + (x / e^b)^c)"""
    return p[0] / (1 + np.exp(p[2] * (np.log(x) - p[1])))  # type: ignore[no-any-return]


def pow4(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """c − (a x + b)^−α"""
    return p[0] - np.exp(-p[3] * np.log(p[1] * x + p[2]))  # type: ignore[no-any-return]


def mmf(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """α − (α − β) / (1 + (κ x)^δ); p[2] = log κ"""
    return p[0] - (p[0] - p[1]) / (1 + np.exp(p[3] * (p[2] + np.log(x))))  # type: ignore[no-any-return]


def exp4(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """c − e^(−a x^α + b); p[1] = log a"""
    return p[0] - np.exp(p[2] - np.exp(p[1] + p[3] * np.log(x)))  # type: ignore[no-any-return]


def janoschek(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """α − (α − β) e^(−κ x^δ); p[2] = log κ"""
    return p[0] - (p[0] - p[1]) * np.exp(-np.exp(p[2] + p[3] * np.log(x)))  # type: ignore[no-any-return]


def weibull(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """α − (α − β) e^(−(κ x)^δ); p[2] = log κ"""
    return p[0] - (p[0] - p[1]) * np.exp(-np.exp(p[3] * (p[2] + np.log(x))))  # type: ignore[no-any-return]


def ilog2(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """c − a / log(x + 1)"""
    return p[0] - p[1] / np.log(x + 1)  # type: ignore[no-any-return]


FAMILIES = (
    Family("vapor_pressure", vapor_pressure, (-5, -10, 0), (2, 0, 0.5)),
    Family("pow3", pow3, (0, 0, 0.01), (2, 2, 4)),
    Family("log_log_linear", log_log_linear, (0, 1), (3, 4)),
    Family("hill3", hill3, (0, -4, 0.05), (2, 6, 6)),
    Family("log_power", log_power, (0, -4, -6), (2, 6, -0.05)),
    Family("pow4", pow4, (0, 0, 0.3, 0.01), (2, 4, 4, 4)),
    Family("mmf", mmf, (0, 0, -6, 0.05), (2, 1, 4, 6)),
    Family("exp4", exp4, (0, -6, -4, 0.05), (2, 3, 1, 3)),
    Family("janoschek", janoschek, (0, 0, -6, 0.05), (2, 1, 3, 3)),
    Family("weibull", weibull, (0, 0, -6, 0.05), (2, 1, 3, 3)),
    Family("ilog2", ilog2, (0, 0), (2, 2)),
)  # fmt: skip

STARTS, ITERATIONS = 12, 25
SMALLEST_VARIANCE = 1e-8
"""Of a curve's noise: a perfect fit is no certainty."""
PRIOR_PRECISION = 12.0
"""Of a place that is uniform on [0, 1]."""
EDGE = 1e-6
WIDER = 4.0
"""Than the fits' uncertainty is the spread: walkers come together sooner than they part."""
NUDGE = 1e-5
"""The step of the finite differences, as a fraction of a parameter's range."""


def near_fits(
    family: Family, x: np.ndarray, y: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Places in the unit box (count, k), as `at_places` takes them, spread around least-squares fits of y to x as the
    fits are uncertain (Laplace's approximation), and the best fit's sum of squares.
    """
    places, cost, slopes = fitted(family, x, y, rng)
    variance = max(float(cost.min()) / max(len(y) - places.shape[1], 1), SMALLEST_VARIANCE) * WIDER**2
    chances = np.exp(-(cost - cost.min()) / (2 * variance))
    chosen = rng.choice(len(places), size=count, p=chances / chances.sum())
    precision = slopes @ slopes.transpose(0, 2, 1) / variance + PRIOR_PRECISION * np.eye(places.shape[1])
    spread = np.linalg.cholesky(np.linalg.inv(precision))
    around = places[chosen] + (spread[chosen] @ rng.standard_normal((count, places.shape[1], 1)))[:, :, 0]
    return np.clip(around, EDGE, 1 - EDGE), float(cost.min())


def fitted(
    family: Family, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares fits from random starts, by Levenberg and Marquardt's method within the unit box.

    Their places (starts, k), sums of squares (starts,), and the curves' slopes there (starts, k, points).
    """
    k = len(family.lower)
    places = rng.random((STARTS, k))
    damping = np.full(STARTS, 1e-2)
    cost, slopes, residuals = _around(family, places, x, y)
    for _ in range(ITERATIONS):
        curvature = slopes @ slopes.transpose(0, 2, 1)
        diagonal = np.einsum("ijj->ij", curvature)
        damped = curvature + np.eye(k) * (damping[:, None] * diagonal + 1e-9)[:, None]
        steps = np.linalg.solve(damped, slopes @ residuals[:, :, None])[:, :, 0]
        tried = np.clip(places + steps, 0, 1)
        new = _around(family, tried, x, y)
        better = new[0] < cost
        places = np.where(better[:, None], tried, places)
        cost = np.where(better, new[0], cost)
        slopes = np.where(better[:, None, None], new[1], slopes)
        residuals = np.where(better[:, None], new[2], residuals)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e9)
    return places, cost, slopes


def at_places(family: Family, places: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The curves (rows, points) at places of the unit box (rows, k), which stands for the family's."""
    lower, upper = np.array(family.lower), np.array(family.upper)
    return family.value((lower + (upper - lower) * places).T[:, :, None], x)


def _around(
    family: Family, places: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of squares (rows,), slopes (rows, k, points) by finite differences, and residuals (rows, points)."""
    rows, k = places.shape
    inwards = np.where(places > 0.5, -NUDGE, NUDGE)
    around = np.concatenate([places[:, None], places[:, None] + inwards[:, None] * np.eye(k)], 1)
    values = at_places(family, around.reshape(-1, k), x).reshape(rows, k + 1, -1)
    residuals = y - values[:, 0]
    return (residuals**2).sum(1), (values[:, 1:] - values[:, :1]) / inwards[:, :, None], residuals
