"""Optuna's pruners as stoppers: what they share.

Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD. Each pruner decides on a
study of its own, in memory, that is told the curves. `optuna` is imported when the stopper is made.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nasengine import Evaluate, Fidelity, Metrics, Objective, Stopper, Trial

from .curves import judged, watched

if TYPE_CHECKING:
    import optuna

Values = Mapping[int, float]
"""An objective's values by epoch, counted from 1; epochs without a value are left out."""


class Pruner(Stopper):
    """One of Optuna's pruners. Its steps are epochs, counted from 1.

    Trials are compared with those of the same fidelity. A network that was judged once counts once.
    """

    def __init__(self, objective: str | None) -> None:
        self.objective = objective

    @abstractmethod
    def pruner(self, bracket: int) -> optuna.pruners.BasePruner:
        """Raises ValueError where Optuna does not accept the options."""

    @abstractmethod
    def why(self, values: Values, finished: Sequence[Values], under_way: Sequence[Values]) -> str:
        """What to say of a trial with these values that the pruner ends. Of the others of its study, `finished` went to
        the end; `under_way` are all the rest, those that were ended among them."""

    def bracket(self, number: int) -> int:
        """The study that a trial belongs to."""
        return 0

    def prepare(self) -> None:
        self.watched: Objective = watched(self.objectives, self.objective)
        self._studies: dict[tuple[Fidelity, int], optuna.Study] = {}
        self._open: dict[int, tuple[optuna.Study, optuna.Trial]] = {}
        self._seen: dict[int, int] = {}

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        if not self._show(number, request, curve):
            return None
        study, trial = self._open[number]
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        finished = [other.intermediate_values for other in others if other.state.name == "COMPLETE"]
        rest = [other.intermediate_values for other in others if other.state.name != "COMPLETE"]
        return self.why(usable(curve, self.watched), finished, rest)

    def tell(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        request = judged(trial)
        if request is None:
            return
        self._show(trial.number, request, trial.curve)
        study, told = self._open.pop(trial.number)
        self._seen.pop(trial.number)
        if self.watched.score(trial) is None:
            study.tell(told, state=TrialState.FAIL)
        elif trial.state == "done":
            study.tell(told, trial.metrics[self.watched.metric])
        else:
            study.tell(told, state=TrialState.PRUNED)

    def _show(self, number: int, request: Evaluate, curve: Sequence[Metrics]) -> bool:
        """Shows the study the epochs that it has not seen; whether it would end the trial after the last of them."""
        if number not in self._open:
            study = self._study(request.fidelity, self.bracket(number))
            self._open[number], self._seen[number] = (study, study.ask()), 0
        trial, ends = self._open[number][1], False
        for epoch in range(self._seen[number] + 1, len(curve) + 1):
            value = curve[epoch - 1].get(self.watched.metric)
            ends = False
            if value is not None:
                trial.report(value, epoch)
                ends = trial.should_prune()  # asked each time: a pruner may note that the trial came so far
        self._seen[number] = max(self._seen[number], len(curve))
        return ends

    def _study(self, fidelity: Fidelity, bracket: int) -> optuna.Study:
        import optuna

        if (fidelity, bracket) not in self._studies:
            verbosity = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(optuna.logging.ERROR)  # nobody asked for this study
            try:
                self._studies[fidelity, bracket] = optuna.create_study(
                    direction="maximize" if self.watched.direction == "max" else "minimize",
                    sampler=optuna.samplers.RandomSampler(seed=0),  # there is nothing to sample
                    pruner=self.pruner(bracket),
                )
            finally:
                optuna.logging.set_verbosity(verbosity)
        return self._studies[fidelity, bracket]


def usable(curve: Sequence[Metrics], objective: Objective) -> dict[int, float]:
    """The objective's values by epoch, those that are numbers."""
    found = {epoch: point.get(objective.metric, math.nan) for epoch, point in enumerate(curve, 1)}
    return {epoch: value for epoch, value in found.items() if not math.isnan(value)}
