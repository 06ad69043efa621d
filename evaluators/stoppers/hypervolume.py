"""Hypervolume: with several objectives, a trial ends when even an optimistic end would add nothing to the front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nasengine import ConfigError, Evaluate, Fidelity, Metrics, Stopper, Trial

from .curves import epochs_text, judged, values_of


class Hypervolume(Stopper):
    """Ends a trial whose optimistic end is dominated: then it would add nothing to the hypervolume of the finished
    trials, whatever the reference point.

    The optimistic end, after t epochs and for each objective: the best value of the trial's curve so far, plus a margin
    that is learnt: of every trial of the same fidelity that was trained to its end, what its result was better than the
    best of its own first t epochs (0 where it was not); of these the `quantile`, not interpolated but rounded up. The
    end is dominated where some result is at least as good in every objective. Results of the same fidelity count,
    those of stopped trials among them.

    An objective that a curve does not show (the evaluator gives it at the end only) cannot be bounded; such a trial is
    not stopped. With one objective it ends what will not beat the best.

    Options:
        quantile: of the improvements that others still made; 1 for the largest.
        n_startup_trials: until so many trials were trained to the end, none is stopped.
        n_warmup_steps: no trial is stopped before this epoch.
    """

    def __init__(self, *, quantile: float = 0.9, n_startup_trials: int = 5, n_warmup_steps: int = 0) -> None:
        if not 0 <= quantile <= 1:
            raise ConfigError(f"the stopper 'hypervolume' has quantile = {quantile}; expected a fraction, 0 to 1")
        if n_startup_trials < 1 or n_warmup_steps < 0:
            raise ConfigError(
                f"the stopper 'hypervolume' has n_startup_trials = {n_startup_trials}, n_warmup_steps = "
                f"{n_warmup_steps}; expected at least 1 and 0"
            )
        self.quantile, self.n_startup_trials, self.n_warmup_steps = quantile, n_startup_trials, n_warmup_steps

    def prepare(self) -> None:
        self._results: dict[Fidelity, list[list[float]]] = {}
        self._ends: dict[Fidelity, list[tuple[np.ndarray, np.ndarray]]] = {}

    def tell(self, trial: Trial) -> None:
        scores = [objective.score(trial) for objective in self.objectives]
        request = judged(trial)
        if request is None or None in scores:
            return
        result = [score for score in scores if score is not None]
        self._results.setdefault(request.fidelity, []).append(result)
        if trial.state == "done" and trial.curve:
            ends = self._ends.setdefault(request.fidelity, [])
            ends.append((np.array(result), self._best_so_far(trial.curve)))

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        count = len(curve)
        longer = [(end, best) for end, best in self._ends.get(request.fidelity, ()) if len(best) >= count]
        if count < self.n_warmup_steps or len(longer) < self.n_startup_trials:
            return None
        improvements = np.array([np.maximum(end - best[count - 1], 0) for end, best in longer])
        improvements = improvements[np.isfinite(improvements).all(1)]
        best = self._best_so_far(curve)[-1]
        if len(improvements) < self.n_startup_trials or not np.isfinite(best).all():
            return None
        optimistic = best + np.quantile(improvements, self.quantile, axis=0, method="higher")
        if not (np.array(self._results[request.fidelity]) >= optimistic).all(1).any():
            return None
        signs = [1 if objective.direction == "max" else -1 for objective in self.objectives]
        names = [objective.metric for objective in self.objectives]
        ends = " and ".join(f"{name} {s * v:.4g}" for name, s, v in zip(names, signs, optimistic, strict=True))
        return f"after {epochs_text(count)} even {ends} at the end would add nothing to the front"

    def _best_so_far(self, curve: Sequence[Metrics]) -> np.ndarray:
        """The best of the first t epochs, higher is better: (epochs, objectives); -inf where none was given."""
        values = np.array([values_of(curve, objective) for objective in self.objectives]).T
        return np.maximum.accumulate(np.where(np.isnan(values), -math.inf, values), axis=0)
