"""Extrapolation: a trial ends when its learning curve will hardly reach the best result so far.

Domhan, Springenberg and Hutter 2015, "Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by
Extrapolation of Learning Curves", IJCAI: families of curves in table 1, their weighted sum and its posterior in §3.2,
the rule in §3.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nasengine import ConfigError, Evaluate, Fidelity, Metrics, Objective, Stopper, Trial

from .curves import epochs_text, judged, values_of, watched
from .foresight import Foresight, foresee

RECENT = 30
"""Of so many finished trials the errors count, the latest: enough to know their spread, few enough to foresee anew."""
REMEMBERED = 300
"""How many foresights are kept, so that none is worked out twice without need: some 15 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A trial that was trained to its end: its result and its curve, higher is better."""

    number: int
    result: float
    values: np.ndarray


class Extrapolation(Stopper):
    """Ends a trial when P(its value at the end > the best result of the finished trials) is below `delta`.

    The probability is that of a Bayesian model: the curve is a weighted sum of eleven parametric families (power laws,
    exponentials, sigmoids that level off) and noise; the posterior of weights, parameters and noise is sampled by an
    affine-invariant ensemble of walkers that begin around least-squares fits. Results are compared with those of the
    same fidelity; a trial that already reached the best is never stopped, nor the first.

    Where a learning rate falls along a schedule, early epochs are far noisier than the end, and no family has such a
    shape: alone, the model trusts itself too little. So as soon as `calibrate` trials of the same fidelity are
    finished, the latest of them, up to 30, are foreseen from as many epochs, and what the model says of the trial is
    corrected by how far it was off with these, on average and in spread. Stopped trials have no end and teach nothing,
    so those that it learns from are the better ones; it stops too little rather than too much.

    A check takes about 0.1 s with the default steps, in which it is linear; most epochs have none. A resumed run
    foresees its latest finished trials anew, once.

    Options:
        delta: how small the probability has to be.
        min_epochs: no trial is stopped before this epoch.
        interval: epochs from one check of a trial to the next.
        limit: what no value is better than: by default 1 for a metric whose name has `accuracy` and which is
            maximised, 0 for one whose name has `error` or `loss` and which is minimised, else nothing.
        walkers, steps: of the sampler; the second half of the steps counts.
        calibrate: how many finished trials it takes to correct the model by them, at least 2; 0 for never.
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
        steps: int = 300,
        calibrate: int = 10,
        objective: str | None = None,
    ) -> None:
        if not 0 < delta < 1:
            raise ConfigError(f"the stopper 'extrapolation' has delta = {delta}; expected a probability, 0 < delta < 1")
        least = {"min_epochs": (min_epochs, 4), "interval": (interval, 1), "steps": (steps, 20)}
        for name, (value, allowed) in least.items():
            if value < allowed:
                raise ConfigError(f"the stopper 'extrapolation' has {name} = {value}; expected at least {allowed}")
        if calibrate < 0 or calibrate == 1:
            raise ConfigError(f"the stopper 'extrapolation' has calibrate = {calibrate}; expected 2 or more, or 0")
        if walkers < 20 or walkers % 2:
            raise ConfigError(
                f"the stopper 'extrapolation' has walkers = {walkers}; expected an even number, 20 or more"
            )
        self.delta, self.min_epochs, self.interval, self.limit = delta, min_epochs, interval, limit
        self.walkers, self.steps, self.calibrate, self.objective = walkers, steps, calibrate, objective

    def prepare(self) -> None:
        self._watched = watched(self.objectives, self.objective)
        self._limit = limit_of(self._watched) if self.limit is None else self.limit
        self._seed = int(self.rng.integers(2**32))
        self._best: dict[Fidelity, float] = {}
        self._finished: dict[Fidelity, deque[Finished]] = {}
        self._foreseen: dict[tuple[int, int, bytes], Foresight | None] = {}

    def tell(self, trial: Trial) -> None:
        score, request = self._watched.score(trial), judged(trial)
        if score is not None and request is not None:
            self._best[request.fidelity] = max(score, self._best.get(request.fidelity, score))
            if trial.state == "done":
                finished = self._finished.setdefault(request.fidelity, deque(maxlen=RECENT))
                finished.append(Finished(trial.number, score, np.array(values_of(trial.curve, self._watched))))

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        count, end = len(curve), epochs or request.fidelity.epochs or self.full_epochs
        best = self._best.get(request.fidelity)
        if best is None or count >= end or count < self.min_epochs or (count - self.min_epochs) % self.interval:
            return None
        values = np.array(values_of(curve, self._watched))
        if not np.isfinite(values).all() or values.max() >= best:
            return None
        chance = self._chance(number, values, end, best, self._finished.get(request.fidelity, ()))
        if chance is None or chance >= self.delta:
            return None
        shown = best if self._watched.direction == "max" else -best
        probability = f"P = {chance:.3f}" if chance >= 0.0005 else "P < 0.001"
        return f"after {epochs_text(count)} of {end} it is not expected to beat {shown:.4g} ({probability})"

    def _chance(
        self, number: int, values: np.ndarray, end: int, best: float, finished: Collection[Finished]
    ) -> float | None:
        """P(the result > best); None where no curve goes through the values."""
        foresight = self._foresight(number, values, end)
        if foresight is None:
            return None
        known = [one for one in finished if len(one.values) >= len(values) and np.isfinite(one.values).all()]
        if not self.calibrate or len(known) < self.calibrate:
            return foresight.chance(best)
        past = [(one.result, self._foresight(one.number, one.values[: len(values)], end)) for one in known]
        errors = [foreseen.error(result) for result, foreseen in past if foreseen is not None]
        return foresight.chance_after(errors, best) if len(errors) >= self.calibrate else foresight.chance(best)

    def _foresight(self, number: int, values: np.ndarray, end: int) -> Foresight | None:
        """Of a trial after so many epochs: the same, however often the run was interrupted."""
        key = (number, end, values.tobytes())
        if key not in self._foreseen:
            if len(self._foreseen) >= REMEMBERED:
                self._foreseen.clear()
            rng = np.random.default_rng([self._seed, number, len(values)])
            self._foreseen[key] = foresee(values, end, self._signed_limit(), self.walkers, self.steps, rng)
        return self._foreseen[key]

    def _signed_limit(self) -> float | None:
        return self._limit if self._limit is None or self._watched.direction == "max" else -self._limit


def limit_of(objective: Objective) -> float | None:
    """What no value of the metric is better than, by its name; None where that does not say."""
    if objective.direction == "max":
        return 1.0 if "accuracy" in objective.metric else None
    return 0.0 if "error" in objective.metric or "loss" in objective.metric else None
