"""Extrapolation: a trial ends when its learning curve will hardly reach the best result so far.

Domhan, Springenberg and Hutter 2015, "Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by
Extrapolation of Learning Curves", IJCAI: families of curves in table 1, their weighted sum and its posterior in §3.2,
the rule in §3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nasengine import ConfigError, Evaluate, Fidelity, Metrics, Objective, Stopper, Trial

from .curves import epochs_text, judged, values_of, watched
from .posterior import Posterior


class Extrapolation(Stopper):
    """Ends a trial when P(its value at the end > the best result of the finished trials) is below `delta`.

    The probability is that of a Bayesian model: the curve is a weighted sum of eleven parametric families (power laws,
    exponentials, sigmoids that level off) and noise; the posterior of weights, parameters and noise is sampled by an
    affine-invariant ensemble of walkers that begin around least-squares fits. Results are compared with those of the
    same fidelity; a trial that already reached the best is never stopped, nor the first.

    The noise is taken to have one size in all of a curve. Where a learning rate falls along a schedule, early epochs
    are noisier than the end: then the chance is judged too high, and of candidates that end close together hardly any
    is stopped.

    A check takes about 0.3 s with the default steps, in which it is linear; most epochs have none.

    Options:
        delta: how small the probability has to be.
        min_epochs: no trial is stopped before this epoch.
        interval: epochs from one check of a trial to the next.
        limit: what no value is better than: by default 1 for a metric whose name has `accuracy` and which is
            maximised, 0 for one whose name has `error` or `loss` and which is minimised, else nothing.
        walkers, steps: of the sampler; the second half of the steps counts.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(
        self,
        *,
        delta: float = 0.05,
        min_epochs: int = 5,
        interval: int = 3,
        limit: float | None = None,
        walkers: int = 100,
        steps: int = 800,
        objective: str | None = None,
    ) -> None:
        if not 0 < delta < 1:
            raise ConfigError(f"the stopper 'extrapolation' has delta = {delta}; expected a probability, 0 < delta < 1")
        least = {"min_epochs": (min_epochs, 4), "interval": (interval, 1), "steps": (steps, 20)}
        for name, (value, allowed) in least.items():
            if value < allowed:
                raise ConfigError(f"the stopper 'extrapolation' has {name} = {value}; expected at least {allowed}")
        if walkers < 20 or walkers % 2:
            raise ConfigError(
                f"the stopper 'extrapolation' has walkers = {walkers}; expected an even number, 20 or more"
            )
        self.delta, self.min_epochs, self.interval, self.limit = delta, min_epochs, interval, limit
        self.walkers, self.steps, self.objective = walkers, steps, objective

    def prepare(self) -> None:
        self._watched = watched(self.objectives, self.objective)
        self._limit = limit_of(self._watched) if self.limit is None else self.limit
        self._seed = int(self.rng.integers(2**32))
        self._best: dict[Fidelity, float] = {}

    def tell(self, trial: Trial) -> None:
        score, request = self._watched.score(trial), judged(trial)
        if score is not None and request is not None:
            self._best[request.fidelity] = max(score, self._best.get(request.fidelity, score))

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        count, end = len(curve), epochs or request.fidelity.epochs or self.full_epochs
        best = self._best.get(request.fidelity)
        if best is None or count >= end or count < self.min_epochs or (count - self.min_epochs) % self.interval:
            return None
        values = np.array(values_of(curve, self._watched))
        if not np.isfinite(values).all() or values.max() >= best:
            return None
        rng = np.random.default_rng([self._seed, number, count])  # the same, however often the run was interrupted
        chance = chance_to_beat(best, values, end, self._signed_limit(), self.walkers, self.steps, rng)
        if chance is None or chance >= self.delta:
            return None
        shown = best if self._watched.direction == "max" else -best
        probability = f"P = {chance:.3f}" if chance >= 0.0005 else "P < 0.001"
        return f"after {epochs_text(count)} of {end} it is not expected to beat {shown:.4g} ({probability})"

    def _signed_limit(self) -> float | None:
        return self._limit if self._limit is None or self._watched.direction == "max" else -self._limit


def limit_of(objective: Objective) -> float | None:
    """What no value of the metric is better than, by its name; None where that does not say."""
    if objective.direction == "max":
        return 1.0 if "accuracy" in objective.metric else None
    return 0.0 if "error" in objective.metric or "loss" in objective.metric else None


def chance_to_beat(
    best: float, values: np.ndarray, end: int, limit: float | None, walkers: int, steps: int, rng: np.random.Generator
) -> float | None:
    """P(y_end > best | values): the mean of Φ((f(end) − best) / σ) over the posterior's samples (§3.3)."""
    scaling = scale_of(values, limit)
    if scaling is None:
        return None
    shift, scale = scaling
    posterior = Posterior((values - shift) / scale, end, None if limit is None else (limit - shift) / scale)
    samples = posterior.samples(walkers, steps, rng)
    if samples is None:
        return None
    distances = (samples[0] - (best - shift) / scale) / samples[1]
    return float(np.mean([0.5 * math.erfc(-distance / math.sqrt(2)) for distance in distances]))


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
