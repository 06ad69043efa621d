"""Training from scratch: the task's recipe, with early stopping on the validation data."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from torch import nn

from nasengine import Architecture, ConfigError, Context, Evaluator, Fidelity, Metrics, Objective, cost_of


class Train(Evaluator):
    """Trains each candidate from scratch and judges it on the validation data, at its best epoch.

    Options:
        patience: epochs without a better validation result after which training stops; 0 never stops early.
        epochs, batch_size, learning_rate, weight_decay: of the task's recipe, where you want others.
        schedule: of the learning rate, `cosine` (to zero) or `constant`; by default as the task's recipe says.
    """

    def __init__(
        self,
        *,
        patience: int = 5,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        schedule: str | None = None,
    ) -> None:
        if patience < 0:
            raise ConfigError(f"the evaluator 'train' has patience = {patience}; expected 0 or more epochs")
        given = {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay,
        }  # fmt: skip
        self.changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name, value in self.changes.items():
            if value < 0 or (value == 0 and name != "weight_decay"):
                raise ConfigError(f"the evaluator 'train' has {name} = {value}; expected a positive number")
        if schedule not in (None, "cosine", "constant"):
            raise ConfigError(f"the evaluator 'train' has schedule = {schedule!r}; expected cosine or constant")
        if schedule is not None:
            self.changes["schedule"] = schedule
        self.patience = patience

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        task = context.task
        model = context.model(architecture)
        costs = cost_of(model, task)  # first: what cannot be counted is no news after a night of training
        context.save(model)
        best = BestEpoch(model, Objective.parse(task.objectives[0]))
        context.keep(best=best)
        recipe = replace(task.recipe, **self.changes)
        training = task.fit(model, fidelity, context, recipe)
        while not (self.patience and best.age >= self.patience) and (metrics := next(training, None)) is not None:
            best.update(metrics)
            yield metrics
        best.restore()
        return {**best.metrics, **costs}


class BestEpoch:
    """The best epoch so far: its metrics and weights. Something that a checkpoint can keep."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self.model, self.objective = model, objective
        self.metrics: dict[str, float] = {}
        self.age = 0
        self.epochs = 0
        self.weights: dict[str, Any] = {}

    def update(self, metrics: Metrics) -> None:
        sign = 1 if self.objective.direction == "max" else -1
        name = self.objective.metric
        self.age, self.epochs = self.age + 1, self.epochs + 1
        if not self.metrics or sign * metrics[name] > sign * self.metrics[name]:
            self.metrics = {**metrics, "epochs": float(self.epochs)}
            self.age = 0
            self.weights = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}

    def restore(self) -> None:
        if self.weights:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "age": self.age, "epochs": self.epochs, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.age, self.epochs = state["metrics"], state["age"], state["epochs"]
        device = next(self.model.parameters()).device
        self.weights = {key: tensor.to(device) for key, tensor in state["weights"].items()}
