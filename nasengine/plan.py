"""Plan: what a run is made of; Observer: who watches it; and what both the loop and a reader of its record need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .architecture import Architecture
from .config import Config
from .domain import Domain
from .evaluator import Evaluator, Fidelity
from .hardware import measurable
from .plugin import Plugin
from .space import SearchSpace
from .stopper import Stopper
from .strategy import Strategy
from .task import Task
from .trial import Evaluate, Objective, Report, Request, Teach, Trial

if TYPE_CHECKING:
    from .registry import Kind


@dataclass(frozen=True, slots=True)
class Stage:
    """One way of judging among those that a candidate may meet: by whom, on what data, what for, how many at most, and
    who may stop them early."""

    evaluator: Evaluator
    task: Task
    objectives: Sequence[Objective]
    candidates: int
    stoppers: Sequence[Stopper] = ()


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
    """What the strategy looks for: those of the first stage."""
    funnel: Sequence[Stage]
    """How candidates are judged one after the other, each time the best of them; one stage where there is no funnel."""
    judge: Stage
    """How what was found is judged in the end, and the random architectures that it is compared with."""
    roles: Mapping[str, Plugin]
    """Every plugin of the run by what it is there for: `space`, `evaluator 2`, `stopper 1`."""
    start_from: Sequence[Architecture] = ()
    """Judged before the strategy is asked for the first time."""
    final_options: Mapping[str, Any] | None = None
    """The space's options for the final training, where they are not those of the search."""

    @property
    def by_stage(self) -> Sequence[Objective]:
        """The first objective of each stage."""
        return [stage.objectives[0] for stage in self.funnel]

    @property
    def measures(self) -> tuple[str, ...]:
        """The objectives that are measured of a network where its evaluator does not give them: `latency`, say."""
        return measurable(objective.metric for stage in (*self.funnel, self.judge) for objective in stage.objectives)

    @property
    def final_fidelity(self) -> Fidelity:
        """That of the final training; its layers and width are in `final_options`."""
        return replace(self.config.final_fidelity, layers=None, width=1.0)

    @property
    def full_epochs(self) -> int:
        """How many epochs a full evaluation takes: by the fidelity, the evaluator's option, or the task's recipe."""
        return self.config.fidelity.epochs or self.evaluator.own_epochs or self.task.recipe.epochs

    def rng(self, stream: int) -> np.random.Generator:
        """A generator of the run's seed; another number gives another one."""
        return np.random.default_rng(np.random.SeedSequence(self.config.seed, spawn_key=(stream,)))

    def wrong_about(self, request: Request, metrics: Mapping[str, float]) -> str | None:
        """What the judgement of a request lacks."""
        if not isinstance(request, Evaluate):
            return None
        by = self.funnel[request.stage] if request.purpose == "search" else self.judge
        missing = [objective.metric for objective in by.objectives if objective.metric not in metrics]
        given = ", ".join(metrics) or "none"
        return f"the evaluator gave no {missing[0]!r}, which is an objective; it gave: {given}" if missing else None

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
        """`search` or `final` begins; of a funnel `stage 2` and so on; `preparation`, where an evaluator learns."""

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


def phase_of(request: Request) -> str:
    """Which part of a run a request belongs to, as `Observer.began` names it."""
    if request.purpose in ("final", "baseline"):
        return "final"
    if isinstance(request, Teach):
        return "preparation"
    return f"stage {request.stage + 1}" if isinstance(request, Evaluate) and request.stage else "search"


def role_of_evaluator(stage: int) -> str:
    """What the evaluator of a stage is called among a run's plugins."""
    return "evaluator" if stage == 0 else f"evaluator {stage + 1}"


def kind_of(role: str) -> Kind:
    """What kind of plugin has the role."""
    others: dict[str, Kind] = {"judge": "evaluator", "proxy": "task"}
    return others.get(role) or cast("Kind", role.split()[0])


def rank(trials: Iterable[Trial], by_stage: Sequence[Objective]) -> list[Trial]:
    """The search's usable trials, best first: those judged last and most thoroughly, and of these the best. After them
    what was learnt but not evaluated, latest first. by_stage: the first objective of each stage."""
    searched = [trial for trial in trials if trial.purpose == "search"]
    usable = [trial for trial in searched if standing_of(trial, by_stage) is not None]
    best = sorted(usable, key=lambda trial: (standing_of(trial, by_stage), -trial.number), reverse=True)
    learnt = sorted((trial for trial in searched if trial.derived is not None), key=lambda trial: -trial.number)
    return best + learnt


def standing_of(trial: Trial, by_stage: Sequence[Objective]) -> tuple[Any, ...] | None:
    """What an evaluated trial is compared by, higher is better; None where it has no usable value."""
    if not isinstance(trial.request, Evaluate):
        return None
    score = objective_of(trial, by_stage).score(trial)
    if score is None:
        return None
    return (trial.stage, "predicted" not in trial.metrics, *trial.request.fidelity.thoroughness, score)


def objective_of(trial: Trial, by_stage: Sequence[Objective]) -> Objective:
    """What a trial of the search is judged by first."""
    return by_stage[min(trial.stage, len(by_stage) - 1)]


def simulated_seconds(trial: Trial) -> float:
    """What the evaluation would have taken; nothing where another trial's result was taken for it."""
    return 0.0 if trial.same_as is not None else trial.metrics.get("simulated_seconds", 0.0)
