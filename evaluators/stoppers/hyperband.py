"""Hyperband as a stopper: brackets of asynchronous successive halving, from the harshest to none.

Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR, algorithm 1; as in
Optuna's HyperbandPruner, trials are dealt to the brackets by chance, in the paper's proportions.
"""

from __future__ import annotations

import binascii
import math
from typing import Literal

from nasengine import ConfigError

from .successive_halving import SuccessiveHalving


class Hyperband(SuccessiveHalving):
    """Optuna's HyperbandPruner: each trial belongs to one of ⌊log_η(max/min)⌋ + 1 brackets, by its number; bracket s is
    successive halving whose lowest s rungs are left out, and looks at its own trials only.

    Options:
        min_resource: epochs that every trial has at least.
        max_resource: epochs of a whole trial; `auto`: what a full evaluation takes (Optuna waits for the first trial to
            finish to know).
        reduction_factor: η.
        bootstrap_count: how many trials must have come to a rung before one goes beyond it.
        objective: the objective that is looked at; by default the run's first.
    """

    def __init__(
        self,
        *,
        min_resource: int = 1,
        max_resource: int | Literal["auto"] = "auto",
        reduction_factor: int = 3,
        bootstrap_count: int = 0,
        objective: str | None = None,
    ) -> None:
        super().__init__(
            min_resource=min_resource, reduction_factor=reduction_factor, bootstrap_count=bootstrap_count,
            objective=objective,
        )  # fmt: skip
        if max_resource != "auto" and max_resource < min_resource:
            raise ConfigError(
                f"the stopper 'hyperband' has max_resource = {max_resource}; expected at least min_resource, which is "
                f"{min_resource}"
            )
        self.max_resource, self.smallest = max_resource, min_resource

    def prepare(self) -> None:
        super().prepare()
        most = max(self.full_epochs, self.smallest) if self.max_resource == "auto" else self.max_resource
        count = math.floor(math.log(most / self.smallest, self.reduction_factor)) + 1
        self._shares = [math.ceil(count * self.reduction_factor**s / (s + 1)) for s in reversed(range(count))]
        self.name = f"nasengine-{int(self.rng.integers(2**32))}"

    def bracket(self, number: int) -> int:
        place = binascii.crc32(f"{self.name}_{number}".encode()) % sum(self._shares)
        bracket = 0
        while place >= self._shares[bracket]:
            place -= self._shares[bracket]
            bracket += 1
        return bracket
