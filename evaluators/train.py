"""Training from scratch: the task's recipe, with early stopping on the validation data, once or from several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Generator, Iterator
from typing import Any, Literal

import numpy as np
from torch import nn

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    Metrics,
    Objective,
    Recipe,
    SearchSpace,
    Task,
    cost_of,
    inherit,
)

from .weight_sharing import SharedWeights


class Train(Evaluator):
    """Trains each candidate from scratch and judges it on the validation data, at its best epoch or its last.

    Options:
        patience: epochs without a better validation result after which training stops, by the task's recipe unless you
            say; 0 never stops early.
        keep: the epoch whose weights are judged and kept: the `best` one by the validation data, or the `last`.
        epochs, batch_size, learning_rate, momentum, weight_decay: of the task's recipe, where you want others. The
            momentum is SGD's, or the first of Adam's betas; weights decay all alike, normalisation and biases too.
        optimizer: `sgd` (with Nesterov momentum), `adamw`, which has learning_rate = 0.003 and weight_decay = 0.05
            unless you or the task's recipe say otherwise, or `adam` (0.003 and 0), whose weight decay is a term of the
            loss.
        schedule: of the learning rate, `cosine` (to zero), `one_cycle` (a rise for 0.3 of the epochs, or for `warmup`,
            then a cosine to zero) or `constant`. It changes from epoch to epoch.
        warmup: epochs in which the learning rate rises at the beginning.
        gradient_clip: the largest norm of the gradient; 0 for none.
        label_smoothing: the share of each label that is spread evenly over all classes.
        augment: what is done to training images, joined by +: `crop` (moved by up to an eighth of the side), `flip`
            (mirrored; not for what reads from left to right), `cutout` (a square of half the side blotted out), `mixup`
            (images and labels mixed in pairs); `none`; or `auto`: crop for colour images, nothing for grey ones.
        ema: the decay, step by step, of a moving average of the weights, 0.999 say; then the averaged weights are
            judged and kept.
        auxiliary: the weight of the loss of an auxiliary head that hangs on the network while it learns; 0.4 in DARTS.
            For the cell spaces.
        drop_path: how often paths of a cell are left out while it learns, rising from 0 over the epochs; 0.2 in DARTS.
            For the cell spaces, `nasbench201` and `mobile`.
        precision: `float32`, or `bf16` for mixed precision: what is computed while learning is rounded to bfloat16.
        compile: whether each model is compiled (torch.compile) for its training; for long trainings.
        seeds: trainings of each candidate, each from other weights and in another order. The metrics are their means,
            `…_spread` the sample standard deviation of each objective; the best of the models is kept. The curve is the
            first training's, and then the mean of what is finished.
        inherit: `supernet`: before the first candidate the space's supernet is trained, as `weight_sharing` does it,
            and each candidate of the search begins with its weights (as does each of its `seeds`), so that few `epochs`
            are enough. One that begins with a parent's weights keeps these. The final trainings begin from scratch.
        supernet_epochs: of that supernet's training; by default as the task's recipe says (`search_epochs`).
    """

    def __init__(
        self,
        *,
        patience: int | None = None,
        keep: Literal["best", "last"] = "best",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        optimizer: Literal["sgd", "adam", "adamw"] | None = None,
        schedule: Literal["cosine", "one_cycle", "constant"] | None = None,
        warmup: int | None = None,
        gradient_clip: float | None = None,
        label_smoothing: float | None = None,
        augment: str | None = None,
        ema: float | None = None,
        auxiliary: float | None = None,
        drop_path: float | None = None,
        precision: Literal["float32", "bf16"] | None = None,
        compile: bool | None = None,
        seeds: int = 1,
        inherit: Literal["supernet"] | None = None,
        supernet_epochs: int | None = None,
    ) -> None:
        counts = (("patience", patience, 0), ("seeds", seeds, 1), ("supernet_epochs", supernet_epochs, 1))
        for name, value, least in counts:
            if value is not None and value < least:
                raise ConfigError(f"the evaluator 'train' has {name} = {value}; expected {least} or more")
        if inherit not in (None, "supernet") or (supernet_epochs and not inherit):
            raise ConfigError(
                f"the evaluator 'train' has inherit = {inherit} and supernet_epochs = {supernet_epochs}; expected "
                f"supernet, and epochs only with it"
            )
        if keep not in ("best", "last"):
            raise ConfigError(f"the evaluator 'train' has keep = {keep!r}; expected best or last")
        self.seeds, self.last = seeds, keep == "last"
        self.shared = SharedWeights(supernet_epochs) if inherit else None
        self.learns, self.needs = inherit is not None, frozenset({"supernet"} if inherit else ())
        given = {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "momentum": momentum,
            "weight_decay": weight_decay, "optimizer": optimizer, "schedule": schedule, "warmup": warmup,
            "gradient_clip": gradient_clip, "label_smoothing": label_smoothing, "augment": augment, "ema": ema,
            "auxiliary": auxiliary, "drop_path": drop_path, "precision": precision, "compile": compile,
            "patience": patience,
        }  # fmt: skip
        self.changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        Recipe(**{"epochs": max(Recipe().epochs, warmup or 0), **self.changes})  # raises now rather than later

    def recipe(self, of_task: Recipe) -> Recipe:
        """The task's, with what was asked for."""
        return of_task.changed(self.changes)

    def metric_names(self, task: Task) -> Collection[str]:
        if not task.metric_names:
            return ()
        spreads = [f"{Objective.parse(text).metric}_spread" for text in task.objectives] if self.seeds > 1 else []
        return (*task.metric_names, *spreads, "train_loss", "epochs")

    def check(self, space: SearchSpace, task: Task) -> None:
        super().check(space, task)
        if self.changes:
            chance = np.random.default_rng(0)
            task.check_recipe(
                self.recipe(task.recipe), lambda: space.shape(space.domain(task).sample(chance), task)
            )  # fmt: skip

    def learn(self, context: Context) -> Iterator[Metrics]:
        return iter(()) if self.shared is None else self.shared.learn(context)

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        task, recipe = context.task, self.recipe(context.task.recipe)
        objectives = [Objective.parse(objective) for objective in task.objectives]
        model = self._beginning(architecture, fidelity, context)
        costs = cost_of(model, task)  # first: what cannot be counted is no news after a night of training
        context.save(model)
        finished = Finished(model, objectives)
        context.keep(finished=finished)
        for training in context.trainings(self.seeds):
            if training > 0:
                model = self._beginning(architecture, fidelity, context)
            best = BestEpoch(model, objectives[0], self.last)
            context.keep(best=best)
            for metrics in _until_it_stops(best, recipe.patience, task.fit(model, fidelity, context, recipe)):
                shown = {**finished.metrics, "train_loss": metrics["train_loss"]} if finished.metrics else metrics
                yield {**shown, **costs}  # the costs, too: what is stopped is compared by all that was asked for
            best.restore()
            finished.add(best)
        return {**finished.metrics, **costs}

    def check_fidelity(self, fidelity: Fidelity) -> None:
        """Raises ConfigError for networks of other sizes than the supernet whose weights they are to begin with."""
        others = fidelity.reductions.keys() & {"layers", "width", "resolution"}
        if self.shared is not None and others:
            raise ConfigError(
                f"the evaluator 'train' has inherit = supernet, and the fidelity's {min(others)} makes networks of "
                f"another size than the supernet's; leave it out"
            )

    def _beginning(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> nn.Module:
        """The untrained model, or one with the supernet's weights."""
        model = context.model(architecture)
        if self.shared is not None and context.learnt and not context.inherited:
            self.check_fidelity(fidelity)
            inherit(model, self.shared.supernet(context))
        return model


class BestEpoch:
    """The best epoch so far: its metrics and weights; of the last one where this is asked for. Something that a
    checkpoint can keep."""

    def __init__(self, model: nn.Module, objective: Objective, last: bool = False) -> None:
        self.model, self.objective, self.last = model, objective, last
        self.metrics: dict[str, float] = {}
        self.record: dict[str, float] = {}
        self.age = 0
        self.epochs = 0
        self.weights: dict[str, Any] = {}

    def update(self, metrics: Metrics) -> None:
        self.age, self.epochs = self.age + 1, self.epochs + 1
        better = not self.record or _better(metrics, self.record, self.objective)
        if better:
            self.record, self.age = {**metrics}, 0
        if better or self.last:
            self.metrics = {**metrics, "epochs": float(self.epochs)}
            self.weights = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}

    def restore(self) -> None:
        if self.weights:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "metrics": self.metrics, "record": self.record, "age": self.age, "epochs": self.epochs,
            "weights": self.weights,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.record = state["metrics"], state["record"]
        self.age, self.epochs = state["age"], state["epochs"]
        device = next(self.model.parameters()).device
        self.weights = {key: tensor.to(device) for key, tensor in state["weights"].items()}


class Finished:
    """The finished trainings of one candidate: their metrics, and in `model` the weights of the best of them."""

    def __init__(self, model: nn.Module, objectives: list[Objective]) -> None:
        self.model, self.objectives = model, objectives
        self.each: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    @property
    def metrics(self) -> dict[str, float]:
        """The means, and the spread of each objective; of one training its own."""
        if len(self.each) < 2:
            return dict(self.each[0]) if self.each else {}
        means = {name: statistics.fmean(one[name] for one in self.each) for name in self.each[0]}
        names = [objective.metric for objective in self.objectives if objective.metric in means]
        return means | {f"{name}_spread": statistics.stdev(one[name] for one in self.each) for name in names}

    def add(self, training: BestEpoch) -> None:
        self.each.append(training.metrics)
        if not self.best or _better(training.metrics, self.best, self.objectives[0]):
            self.best = training.metrics
            if training.model is not self.model:
                self.model.load_state_dict(training.model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"each": self.each, "best": self.best, "weights": self.model.state_dict() if self.each else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.each, self.best = list(state["each"]), state["best"]
        if self.each:
            self.model.load_state_dict(state["weights"])


def _better(one: Metrics, other: Metrics, objective: Objective) -> bool:
    sign = 1 if objective.direction == "max" else -1
    return sign * one[objective.metric] > sign * other[objective.metric]


def _until_it_stops(best: BestEpoch, patience: int, curve: Iterator[Metrics]) -> Iterator[Metrics]:
    """The curve, until it is over or nothing has become better for long."""
    while not (patience and best.age >= patience) and (metrics := next(curve, None)) is not None:
        best.update(metrics)
        yield metrics
    if isinstance(curve, Generator):
        curve.close()
