"""Threshold: a trial ends when its value leaves a range. The implementation is Optuna's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nasengine import ConfigError

from .curves import epochs_text
from .pruner import Pruner, Values

if TYPE_CHECKING:
    import optuna


class Threshold(Pruner):
    """Optuna's ThresholdPruner: ends a trial whose latest value is below `lower` or above `upper`, whichever direction
    the objective has. One of them is needed.

    Options:
        lower, upper: the range that a trial's value must stay in.
        n_warmup_steps: no trial is stopped before this epoch.
        interval_steps: epochs from one check of a trial to the next.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(
        self,
        *,
        lower: float | None = None,
        upper: float | None = None,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        objective: str | None = None,
    ) -> None:
        super().__init__(objective)
        if lower is None and upper is None:
            raise ConfigError("the stopper 'threshold' has neither lower nor upper; expected one: threshold:lower=0.2")
        self.lower, self.upper = lower, upper
        self.n_warmup_steps, self.interval_steps = n_warmup_steps, interval_steps
        self.pruner(0)

    def pruner(self, bracket: int) -> optuna.pruners.BasePruner:
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(self.lower, self.upper, self.n_warmup_steps, self.interval_steps)

    def why(self, values: Values, finished: Sequence[Values], under_way: Sequence[Values]) -> str:
        epoch = max(values, default=0)
        value = values.get(epoch)
        name, after = self.watched.metric, epochs_text(epoch)
        if value is None:
            return f"no usable {name}"
        below = self.lower is not None and value < self.lower
        return f"{name} after {after} is {value:.4g}, " + (
            f"below {self.lower:g}" if below else f"above {self.upper:g}"
        )
