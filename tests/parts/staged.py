"""Evaluators, stoppers and tasks for tests of what comes before a training, and instead of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from nasengine import Architecture, Context, Evaluate, Evaluator, Fidelity, ForeseeingEvaluator, Metrics, Stopper, Trial
from nasengine.testing import TinyTask


def worth(architecture: Architecture) -> float:
    return int(architecture.id[:8], 16) / 16**8


class Guess(Evaluator):
    """Half the truth, under a name of its own."""

    provisional = True

    def __init__(self) -> None:
        self.objectives = ("guess:max",)

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        return {"guess": worth(architecture) / 2}


class Truth(Evaluator):
    """The truth, after three epochs."""

    def evaluate(  # type: ignore[override]
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Iterator[Metrics]:
        value = worth(architecture)
        for epoch in context.epochs(3):
            yield {"accuracy": value * (epoch + 1) / 3}
        return {"accuracy": value, "images": float(context.task.input_shape[1])}  # type: ignore[return-value]


class Taught(Evaluator):
    """Judges by what it has learnt in three epochs: one number, which it notes in a file each time."""

    learns = True
    provisional = True

    def __init__(self, *, log: str = "", fails: bool = False) -> None:
        self.log, self.fails = log, fails

    def learn(self, context: Context) -> Iterator[Metrics]:
        number = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(number.weight)
        context.keep(number=number)
        for epoch in context.epochs(3):
            with open(self.log, "a") as file:
                file.write(f"{epoch}\n")
            if self.fails:
                raise ValueError("it is too hard")
            with torch.no_grad():
                number.weight += 1
            context.save(number)
            yield {"learnt": number.weight.item()}

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        return {"accuracy": worth(architecture), "learnt": float(context.learnt["weight"])}


class Foresees(ForeseeingEvaluator):
    """Evaluates every third candidate that it meets, and foresees the others by the last one that it was told."""

    def prepare(self) -> None:
        self.last: float | None = None

    def tell(self, trial: Trial) -> None:
        self.last = trial.metrics.get("accuracy")

    def foresee(self, architecture: Architecture, fidelity: Fidelity) -> Metrics | None:
        return None if self.last is None or worth(architecture) > 0.66 else {"accuracy": self.last}

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        return {"accuracy": worth(architecture)}


class BelowTheBest(Stopper):
    """Stops what is below the best so far at the same epoch."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks

    def prepare(self) -> None:
        self.best: list[float] = []
        self.told: list[int] = []

    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        if self.breaks:
            raise ValueError("no idea")
        name = self.objectives[0].metric
        if len(self.best) >= len(curve) and curve[-1][name] < self.best[len(curve) - 1]:
            return f"{curve[-1][name]:.2f} after {len(curve)} of {epochs} epochs"
        return None

    def tell(self, trial: Trial) -> None:
        self.told.append(trial.number)
        values = [point[self.objectives[0].metric] for point in trial.curve]
        if not self.best or (len(values) == len(self.best) and values[-1] > self.best[-1]):
            self.best = values


class OtherTask(TinyTask):
    """The same images, another task."""


class ThreeClasses(TinyTask):
    """One class more."""

    classes = 3


class WideImages(TinyTask):
    """Larger images."""

    input_shape = (1, 8, 8)
