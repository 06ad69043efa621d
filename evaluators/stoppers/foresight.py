"""What a curve will have come to at its end, and how far that can be trusted.

The posterior's own spread rests on what it takes curves to be. A run knows better as soon as some of its trials are
finished: how far their ends were from what was foreseen of them, after as many epochs, in units of the spread. These
errors are taken to be normal, with a mean and a variance that are not known, so that the next one, less their mean and
by their standard deviation times √(1 + 1/n), has Student's t distribution with n − 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from .posterior import Posterior

NINE_TENTHS = 3.29
"""Standard deviations of a normal distribution that the middle 90 % take."""
SMALLEST_ERROR = 1e-3
"""Of the errors' standard deviation, in units of the spread: a few equal ends are no certainty."""


@dataclass(frozen=True, slots=True, eq=False)
class Foresight:
    """ends (n,): where the posterior's curves end. noise (n,): σ of what a value deviates from each of them.

    middle, spread: the median of the values there, and their standard deviation, as the middle 90 % have it.
    """

    ends: np.ndarray
    noise: np.ndarray
    middle: float
    spread: float

    def chance(self, best: float) -> float:
        """P(value > best): the mean of Φ((f(end) − best) / σ) over the posterior's samples (§3.3)."""
        distances = (self.ends - best) / self.noise / math.sqrt(2)
        return float(np.mean([0.5 * math.erfc(-distance) for distance in distances]))

    def error(self, end: float) -> float:
        """How far the end was from the middle, in units of the spread."""
        return (end - self.middle) / self.spread

    def chance_after(self, errors: Sequence[float], best: float) -> float:
        """P(value > best), the errors of others being known, two or more."""
        mean, scale = _mean_and_scale(errors)
        return float(stdtr(len(errors) - 1, (mean - self.error(best)) / scale))

    def interval_after(self, errors: Sequence[float], mass: float = 0.9) -> tuple[float, float]:
        """Around the middle of what the errors of others, two or more, let expect."""
        mean, scale = _mean_and_scale(errors)
        reach = scale * float(stdtrit(len(errors) - 1, (1 + mass) / 2))
        return self.middle + self.spread * (mean - reach), self.middle + self.spread * (mean + reach)


def foresee(
    values: np.ndarray, end: int, limit: float | None, walkers: int, steps: int, rng: np.random.Generator
) -> Foresight | None:
    """Of values after each epoch, higher being better; None where no curve goes through them."""
    scaling = scale_of(values, limit)
    if scaling is None:
        return None
    shift, scale = scaling
    posterior = Posterior((values - shift) / scale, end, None if limit is None else (limit - shift) / scale)
    samples = posterior.samples(walkers, steps, rng)
    if samples is None:
        return None
    ends, noise = shift + scale * samples[0], scale * samples[1]
    low, middle, high = np.quantile(ends + noise * rng.standard_normal(len(ends)), [0.05, 0.5, 0.95])
    return Foresight(ends, noise, float(middle), float(high - low) / NINE_TENTHS)


def scale_of(values: np.ndarray, limit: float | None) -> tuple[float, float] | None:
    """What to subtract from values, higher being better, and then to divide by, so that they are in [0, 1]. None where
    there is no limit and they do not change.

    With a limit, that becomes 1, and values from limit − 1 on keep their unit: an accuracy stays as it is. Without one,
    the curve so far fills 0.2 to 0.6.
    """
    low, high = float(values.min()), float(values.max())
    if limit is not None and high <= limit:
        scale = max(1.0, limit - low)
        return limit - scale, scale
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        return None
    scale = (high - low) / 0.4
    return low - 0.2 * scale, scale


def _mean_and_scale(errors: Sequence[float]) -> tuple[float, float]:
    """Of the next error's t distribution."""
    deviation = max(float(np.std(errors, ddof=1)), SMALLEST_ERROR)
    return float(np.mean(errors)), deviation * math.sqrt(1 + 1 / len(errors))
