"""Asynchronous successive halving as a stopper: at each rung the best 1/η of those that came so far go on.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", MLSys, algorithm 1; the implementation is
Optuna's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .curves import epochs_text
from .pruner import Pruner, Values

if TYPE_CHECKING:
    import optuna


class SuccessiveHalving(Pruner):
    """Optuna's SuccessiveHalvingPruner. The rungs are after `min_resource · reduction_factor^(min_early_stopping_rate +
    i)` epochs, i = 0, 1, 2 …; there a trial goes on if its value is among the best 1/`reduction_factor` of all trials
    that came so far, itself among them, or the best while they are too few for that.

    Unlike the strategies `asha` and `successive_halving` it never trains anew: a trial that goes on simply goes on, and
    one that ended stays ended.

    Options:
        min_resource: epochs that every trial has at least; `auto`: a hundredth of a full evaluation, at least 1 (as
            Optuna, which waits for the first trial to finish to know how long that is).
        reduction_factor: η.
        min_early_stopping_rate: how many of the lowest rungs are left out.
        bootstrap_count: how many trials must have come to a rung before one goes beyond it.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(
        self,
        *,
        min_resource: int | Literal["auto"] = "auto",
        reduction_factor: int = 4,
        min_early_stopping_rate: int = 0,
        bootstrap_count: int = 0,
        objective: str | None = None,
    ) -> None:
        super().__init__(objective)
        self.min_resource, self.reduction_factor = min_resource, reduction_factor
        self.min_early_stopping_rate, self.bootstrap_count = min_early_stopping_rate, bootstrap_count
        self._made(1 if min_resource == "auto" else min_resource, 0)

    def pruner(self, bracket: int) -> optuna.pruners.BasePruner:
        least = max(self.full_epochs // 100, 1) if self.min_resource == "auto" else self.min_resource
        return self._made(least, bracket)

    def _made(self, least: int, bracket: int) -> optuna.pruners.BasePruner:
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(
            least, self.reduction_factor, self.min_early_stopping_rate + bracket, self.bootstrap_count
        )

    def why(self, values: Values, finished: Sequence[Values], under_way: Sequence[Values]) -> str:
        epoch = max(values, default=0)
        others = sum(epoch in other for other in [*finished, *under_way])
        return (
            f"{self.watched.metric} after {epochs_text(epoch)} is {values[epoch]:.4g}, which is not among the best "
            f"1/{self.reduction_factor} of {others + 1} trials there"
        )
