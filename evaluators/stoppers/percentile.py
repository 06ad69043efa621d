"""Percentile: a trial goes on while its best is among the best of what earlier ones had after as many epochs.

Golovin et al. 2017, "Google Vizier", §3.2.2 (the median stopping rule); the implementation is Optuna's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .curves import epochs_text
from .pruner import Pruner, Values

if TYPE_CHECKING:
    import optuna


class Percentile(Pruner):
    """Optuna's PercentilePruner: ends a trial whose best value so far is not among the best `percentile` percent of the
    values that the finished trials had after as many epochs. Trials that were stopped are not looked at.

    Options:
        percentile: which part goes on, 0 to 100: with 25, the best quarter.
        n_startup_trials: until so many trials finished, none is stopped.
        n_warmup_steps: no trial is stopped before this epoch.
        interval_steps: epochs from one check of a trial to the next.
        n_min_trials: with fewer values to compare with, a trial goes on.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(
        self,
        *,
        percentile: float = 25.0,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
        objective: str | None = None,
    ) -> None:
        super().__init__(objective)
        self.percentile, self.n_startup_trials, self.n_warmup_steps = percentile, n_startup_trials, n_warmup_steps
        self.interval_steps, self.n_min_trials = interval_steps, n_min_trials
        self.pruner(0)

    def pruner(self, bracket: int) -> optuna.pruners.BasePruner:
        from optuna.pruners import PercentilePruner

        return PercentilePruner(
            self.percentile, self.n_startup_trials, self.n_warmup_steps, self.interval_steps,
            n_min_trials=self.n_min_trials,
        )  # fmt: skip

    def why(self, values: Values, finished: Sequence[Values], under_way: Sequence[Values]) -> str:
        epoch = max(values, default=0)
        there = [other[epoch] for other in finished if epoch in other]
        largest = self.watched.direction == "max"
        needed = np.nanpercentile(there, 100 - self.percentile if largest else self.percentile)
        best = (max if largest else min)(values.values())
        after = f"{len(there)} trial{'s' * (len(there) != 1)} after {epochs_text(epoch)}"
        where = "median" if self.percentile == 50 else f"limit of the best {self.percentile:g} %"
        return f"the {where} of {after} is {needed:.4g}, its best is {best:.4g}"
