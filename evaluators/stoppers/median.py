"""Median: a trial goes on while its best is above the median of what earlier ones had after as many epochs.

Golovin et al. 2017, "Google Vizier", §3.2.2; the implementation is Optuna's.
"""

from __future__ import annotations

from .percentile import Percentile


class Median(Percentile):
    """Optuna's MedianPruner: ends a trial whose best value so far is worse than the median of the values that the
    finished trials had after as many epochs. Trials that were stopped are not looked at.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
        objective: str | None = None,
    ) -> None:
        super().__init__(
            percentile=50.0, n_startup_trials=n_startup_trials, n_warmup_steps=n_warmup_steps,
            interval_steps=interval_steps, n_min_trials=n_min_trials, objective=objective,
        )  # fmt: skip
