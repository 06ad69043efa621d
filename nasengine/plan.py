"""Plan: what a run is made of; Observer: who watches it; and what both the loop and a reader of its record need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .architecture import Architecture
from .config import Config
from .domain import Domain
from .evaluator import Evaluator
from .space import SearchSpace
from .strategy import Strategy
from .task import Task
from .trial import Evaluate, Objective, Report, Request, Trial


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made of."""

    config: Config
    space: SearchSpace
    strategy: Strategy
    evaluator: Evaluator
    task: Task
    domain: Domain
    objectives: Sequence[Objective]
    start_from: Sequence[Architecture] = ()
    """Judged before the strategy is asked for the first time."""
    final_options: Mapping[str, Any] | None = None
    """The space's options for the final training, where they are not those of the search."""

    @property
    def full_epochs(self) -> int:
        """How many epochs a full evaluation takes: by the fidelity, the evaluator's option, or the task's recipe."""
        option = self.evaluator.settings.get("epochs")
        return self.config.fidelity.epochs or (option if isinstance(option, int) else 0) or self.task.recipe.epochs

    def final(self, architecture: Architecture) -> Architecture:
        """The architecture as it is trained in the end."""
        options = self.domain.options if self.final_options is None else self.final_options
        return Architecture(architecture.space, options, architecture.picks)


class Observer:
    """Is told what happens, after it was recorded. Override what you want to know; nothing here does anything."""

    stop_requested: bool = False
    """Set it to end the run before its end: nothing new is begun, what runs leaves a checkpoint."""

    def opened(self, folder: Path, plan: Plan) -> None:
        """The run's folder is there; nothing has been asked for yet."""

    def note(self, text: str) -> None:
        """Something that people should know: an address, a warning."""

    def began(self, phase: str) -> None:
        """`search` or `final` begins."""

    def started(self, number: int, request: Request) -> None:
        """A request was handed to a worker."""

    def reported(self, report: Report) -> None:
        """A trial finished an epoch."""

    def lost(self, number: int, error: str) -> None:
        """A worker was lost; its request runs again."""

    def ended(self, trial: Trial) -> None:
        """A trial came back."""


@lru_cache(maxsize=1024)
def trial_seed(seed: int, number: int) -> int:
    """The seed of a run's trial: independent streams, equal in every process."""
    return int(np.random.SeedSequence(seed, spawn_key=(2, number)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def rank(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    """The search's usable trials, best first: those judged most thoroughly, and of these the best. After them what was
    learnt but not evaluated, latest first."""
    searched = [trial for trial in trials if trial.purpose == "search"]
    usable = [trial for trial in searched if standing_of(trial, objective) is not None]
    best = sorted(usable, key=lambda trial: (standing_of(trial, objective), -trial.number), reverse=True)
    learnt = sorted((trial for trial in searched if trial.derived is not None), key=lambda trial: -trial.number)
    return best + learnt


def standing_of(trial: Trial, objective: Objective) -> tuple[Any, ...] | None:
    """What an evaluated trial is compared by, higher is better; None where it has no usable value."""
    score = objective.score(trial)
    if score is None or not isinstance(trial.request, Evaluate):
        return None
    return (*trial.request.fidelity.thoroughness, score)


def simulated_seconds(trial: Trial) -> float:
    """What the evaluation would have taken; nothing where another trial's result was taken for it."""
    return 0.0 if trial.same_as is not None else trial.metrics.get("simulated_seconds", 0.0)
