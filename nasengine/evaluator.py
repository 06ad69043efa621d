"""Evaluator: how a candidate is judged; Fidelity: how thoroughly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import ConfigError, SpaceError
from .plugin import Plugin

if TYPE_CHECKING:
    import numpy as np

    from .architecture import Architecture
    from .context import Context
    from .domain import Domain
    from .space import SearchSpace
    from .task import Task
    from .trial import Objective, Trial

Metrics = Mapping[str, float]
Need: TypeAlias = Literal["supernet", "classifier"]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How much of a full evaluation to spend.

    epochs: training epochs; None for as many as the task's recipe says. data, width: the fraction (0, 1] of the
    training data, the same share of every class, and of the network's channels. layers: how many layers the network
    has, and resolution: the height and width of its images in pixels; None for as many as there are.
    """

    epochs: int | None = None
    data: float = 1.0
    width: float = 1.0
    layers: int | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "layers", "resolution"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"the fidelity's {name} {_is(name)} {value}; expected a whole number, at least 1")
        for name in ("data", "width"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"the fidelity's {name} is {getattr(self, name)}; expected a fraction, 0 < x <= 1")

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def reductions(self) -> dict[str, int | float]:
        """The fields that say something."""
        return {name: value for name, value in self.to_dict().items() if value != getattr(FULL, name)}

    @property
    def thoroughness(self) -> tuple[float, float, float, float, float]:
        """What results are compared by first: a result of more epochs, or of more data, is better known."""
        whole = [math.inf if value is None else value for value in (self.epochs, self.layers, self.resolution)]
        return whole[0], self.data, self.width, whole[1], whole[2]


def _is(name: str) -> str:
    return "is" if name == "resolution" else "are"


FULL = Fidelity()
"""All of it."""


class Evaluator(Plugin, ABC):
    """Judges one architecture."""

    simulates: bool = False
    """Whether its metrics have `simulated_seconds`: what the judgement would take if it were not looked up. With
    `--clock simulated` the run's time limit counts these."""
    provisional: bool = False
    """Whether its judgement only foretells what training would say. What such a search finds is trained in the end by
    the evaluator `train`, as are the random architectures that it is compared with."""
    needs: frozenset[Need] = frozenset()
    """What it cannot do without: a space that has a `supernet`, a task that is a `classifier` of tensors."""
    objectives: tuple[str, ...] = ()
    """What a search by it is for, `synflow:max`, unless the user says it; empty: what the task says."""
    measures: frozenset[str] = frozenset()
    """Which of the metrics that a worker could measure, such as `energy`, it reports itself, of another device say."""
    learns: bool = False
    """Whether it has to `learn` something before it judges its first candidate."""

    @property
    def own_epochs(self) -> int | None:
        """For how many epochs it trains a candidate, where its options say so; here: the option `epochs`."""
        epochs = self.settings.get("epochs")
        return epochs if isinstance(epochs, int) else None

    @abstractmethod
    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics] | Metrics:
        """The architecture's metrics: finite floats by name, the task's objectives among them.

        A generator yields what is known after each epoch (the trial's curve; a stopper may end it there) and returns
        the judgement. An evaluator that has no curve returns the metrics at once.
        """

    def learn(self, context: Context) -> Iterator[Metrics]:
        """Trains, once and on a worker, what candidates are judged by; yields metrics after every epoch.

        `context.keep` names what a checkpoint must hold, `context.epochs` counts. What is handed over by
        `context.save(module)` is kept with the run: each worker finds its weights in `context.learnt`.
        """
        raise NotImplementedError

    def metric_names(self, task: Task) -> Collection[str]:
        """What its judgements on the task hold, where that is known beforehand: an objective that is none of it, and
        that no worker could measure, is refused before the run. Here, nothing is known."""
        return ()

    def check(self, space: SearchSpace, task: Task) -> None:
        """Called before a run with its space and task. Raises ConfigError where they are not what the evaluator
        needs, or where the space has no networks for the task; one that looks its judgements up builds none."""
        if not self.simulates:
            try:
                space.check(task)
            except SpaceError as error:
                raise ConfigError(f"{error}, or an evaluator that looks results up, such as tabular") from None
        if "classifier" in self.needs and not is_classifier(task):
            raise ConfigError(
                f"the evaluator {self.known_as!r} needs a task that sorts tensors into classes, and {task.known_as!r} "
                f"is none; choose another, such as train"
            )
        if "supernet" in self.needs:
            try:
                space.check_supernet(task)
            except SpaceError as error:
                raise ConfigError(f"the evaluator {self.known_as!r} needs a supernet: {error}") from None

    def check_fidelity(self, fidelity: Fidelity) -> None:
        """Called before a run with the fidelity of its search. Raises ConfigError where the evaluator cannot judge by
        it, though the task and the space could."""


class ForeseeingEvaluator(Evaluator):
    """An evaluator that learns from the run's results, and needs no worker for a candidate that it is sure of.

    `start`, `tell` and `foresee` are called where the loop is; `evaluate` on the workers. On resume it is told again
    what it was told.
    """

    domain: Domain
    rng: np.random.Generator
    targets: Sequence[Objective]

    def start(self, domain: Domain, rng: np.random.Generator, targets: Sequence[Objective]) -> None:
        """Called once, before the first request. targets: the objectives that are foreseen, one or more."""
        self.domain, self.rng, self.targets = domain, rng, targets
        self.prepare()

    def prepare(self) -> None:
        """Sets up what the evaluator needs; what `start` was given is there."""

    @abstractmethod
    def tell(self, trial: Trial) -> None:
        """What a candidate came to; one that was foreseen has `predicted` among its metrics."""

    @abstractmethod
    def foresee(self, architecture: Architecture, fidelity: Fidelity) -> Metrics | None:
        """The metrics that the candidate would have; None to have it evaluated."""


def is_classifier(task: Task) -> bool:
    """Whether the task's models sort tensors into classes, or what is made of such, as graphs are."""
    from .inputs import tensors_of

    classes = getattr(task, "classes", None)
    try:
        return isinstance(classes, int) and classes > 1 and bool(tensors_of(task.example()))
    except ConfigError:
        return False
