"""Patience: a trial ends when it has not become better for a while.

Prechelt 1998, "Early Stopping — But When?"; the rule of most training libraries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nasengine import ConfigError, Evaluate, Metrics, Stopper

from .curves import epochs_text, values_of, watched


class Patience(Stopper):
    """Ends a trial whose objective did not become better for some epochs. It looks at no other trials.

    Options:
        epochs: that many epochs without an improvement end the trial.
        min_delta: what counts as an improvement: the best so far plus more than this, in the objective's unit.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(self, *, epochs: int = 5, min_delta: float = 0.0, objective: str | None = None) -> None:
        if epochs < 1:
            raise ConfigError(f"the stopper 'patience' has epochs = {epochs}; expected at least 1")
        if not 0 <= min_delta < math.inf:
            raise ConfigError(f"the stopper 'patience' has min_delta = {min_delta}; expected a number from 0 on")
        self.epochs, self.min_delta, self.objective = epochs, min_delta, objective

    def prepare(self) -> None:
        self._watched = watched(self.objectives, self.objective)

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        best, age = -math.inf, 0
        for value in values_of(curve, self._watched):
            better = value > best + self.min_delta  # false where the value is NaN
            best, age = (value, 0) if better else (best, age + 1)
        if age < self.epochs:
            return None
        name = self._watched.metric
        if best == -math.inf:
            return f"no {name} in {epochs_text(age)}"
        shown = best if self._watched.direction == "max" else -best
        return f"{name} was last better {epochs_text(age)} ago, with {shown:.4g}"
