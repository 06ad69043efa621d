"""What stoppers read off curves: the objective that they look at, and its values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nasengine import ConfigError, Evaluate, Metrics, Objective, Trial


def judged(trial: Trial) -> Evaluate | None:
    """The request of a trial that is a result of its own; None where it judged nothing, or its network was known."""
    return trial.request if isinstance(trial.request, Evaluate) and trial.same_as is None else None


def watched(objectives: Sequence[Objective], name: str | None) -> Objective:
    """The objective that is named, or the first. Raises ConfigError where there is none of that name."""
    for objective in objectives:
        if name in (None, objective.metric):
            return objective
    known = ", ".join(objective.metric for objective in objectives)
    raise ConfigError(f"the stopper's objective is {name!r}; expected one of the run's: {known}")


def values_of(curve: Sequence[Metrics], objective: Objective) -> list[float]:
    """The objective after each epoch, higher is better; NaN where it was not given."""
    sign = 1 if objective.direction == "max" else -1
    return [sign * point.get(objective.metric, math.nan) for point in curve]


def epochs_text(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"
