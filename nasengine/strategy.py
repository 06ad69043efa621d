"""Strategy: how to look. OneShotStrategy: looking by learning inside a supernet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .evaluator import FULL, Fidelity
from .plugin import Plugin
from .trial import Evaluate, Learn, Objective, Request, Trial

if TYPE_CHECKING:
    import numpy as np

    from .architecture import Architecture
    from .context import Context
    from .domain import Domain
    from .supernet import Supernet
    from .task import Task


class Strategy(Plugin, ABC):
    """Proposes what to try next. It opens no files, prints nothing, reads no clock, and draws from `self.rng` only.

    The engine sets `domain`, `rng`, `objectives`, `fidelity`, `trials` and `full_epochs` with `start`, once, before the
    first `ask`.
    """

    several_objectives: ClassVar[bool] = False
    """Whether more than one objective is looked at; where not, asking for more is refused before the run."""
    inherits: ClassVar[bool] = False
    """Whether its requests name parents: then the weights of each trial of the search are kept, as long as `parents`
    says."""

    independent: ClassVar[bool] = False
    """Whether what it asks for does not depend on how its earlier requests came out. Where trials are over in a moment,
    it is then asked for several at once."""

    domain: Domain
    rng: np.random.Generator
    objectives: Sequence[Objective]
    fidelity: Fidelity
    trials: int
    """The run's budget: how many requests it will make at most."""
    full_epochs: int
    """How many a full evaluation takes: by the run's fidelity, the evaluator's option, or else the task's recipe."""

    def start(
        self,
        domain: Domain,
        rng: np.random.Generator,
        objectives: Sequence[Objective] = (Objective("accuracy"),),
        fidelity: Fidelity = FULL,
        trials: int = 20,
        full_epochs: int = 30,
    ) -> None:
        """Called once, before the first `ask`. Override `prepare` to set up state that needs the domain."""
        self.domain, self.rng, self.objectives, self.fidelity = domain, rng, objectives, fidelity
        self.trials, self.full_epochs = trials, full_epochs
        self.prepare()

    def prepare(self) -> None:
        """Sets up what the search needs; `domain`, `rng` and what else `start` was given are there."""

    @abstractmethod
    def ask(self) -> Request | None:
        """What to do next; None to wait for results, or, where nothing is under way, to end the search."""

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """What came of a request, in the order in which results came back. Trials may have failed."""

    def parents(self) -> Collection[int] | None:
        """The trials that a later request may still name as parent; None for any of them. The engine removes the
        weights of the others, and a trial that was once left out must not come back."""
        return None

    def evaluate(self, architecture: Architecture, parent: int | None = None) -> Evaluate:
        """A request to judge the architecture at the search's fidelity; parent: a trial's `origin`, whose weights it
        begins with."""
        return Evaluate(architecture, self.fidelity, parent=parent)

    def score(self, trial: Trial) -> float | None:
        """The first objective's value, higher is better; None for a trial that failed."""
        return self.objectives[0].score(trial)


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a one-shot strategy would derive now, and how its learning stands.

    note: what people should know of it at once, in a sentence; it is kept with the trial, a sentence once.
    """

    architecture: Architecture
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None


class OneShotStrategy(Strategy):
    """Learns inside a supernet. Where it learns more than once, what it derived is evaluated, and the best is kept.

    Subclasses write `learn`; `restarts` independent repetitions of it are asked for (1 unless the subclass sets it).
    A single derived architecture is not evaluated: there is nothing to choose, and the run's final training follows.
    """

    restarts: int = 1

    @abstractmethod
    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        """Trains the supernet; yields after every epoch what it would derive now. The last one counts.

        Runs on a worker, with the instance's options but without `domain` and `rng` (use `supernet.domain` and
        `context`). `context.keep` names what a checkpoint must hold, `context.epochs` counts.
        """

    def prepare(self) -> None:
        self._asked = 0
        self._derived: list[Architecture] = []

    def ask(self) -> Request | None:
        if self._asked < self.restarts:
            self._asked += 1
            return Learn(restart=self._asked - 1)
        return self.evaluate(self._derived.pop(0)) if self._derived and self.restarts > 1 else None

    def tell(self, trial: Trial) -> None:
        if trial.derived is not None:
            self._derived.append(trial.derived)
