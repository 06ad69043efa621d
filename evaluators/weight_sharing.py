"""Judging by weights that all candidates share: a supernet is trained once, and each candidate begins as a part of it.

Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV: section 3.2 (single
paths, each as likely as the others) and 3.4 (normalisation statistics of each path's own). Chu, Zhang, Xu 2021,
"FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search", ICCV: section 3.2 (strict
fairness).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    Metrics,
    Recipe,
    Supernet,
    Task,
    TrainingDiverged,
    cost_of,
    fair_paths,
    inherit,
    optimizer_of,
    recalibrate,
    supernet_recipe,
    train_paths,
)

CALIBRATION_SEED = 0
"""The batches that statistics are taken from are the same for all candidates."""


class SharedWeights:
    """The weights of a space's supernet: how they are learnt, and, on each worker, the supernet that has them.

    asked: settings of a recipe's optimiser, by name; None asks for nothing.
    """

    def __init__(
        self,
        epochs: int | None = None,
        batch_size: int = 64,
        fair: bool = False,
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.epochs, self.batch_size, self.fair, self.asked = epochs, batch_size, fair, asked or {}
        self.paper = Recipe(learning_rate=0.5 * batch_size / 1024, weight_decay=4e-5)
        self.paper.changed(self.asked)  # raises now rather than later
        self._warm: tuple[Mapping[str, Tensor], Supernet] | None = None

    def learn(self, context: Context) -> Iterator[Metrics]:
        """Trains the supernet's paths; yields the mean loss after every epoch. Raises TrainingDiverged."""
        supernet, task = context.supernet(), context.task
        context.save(supernet.module)
        epochs = self.epochs or task.recipe.search_epochs
        recipe = supernet_recipe(self.paper, task, self.asked)
        step = optimizer_of(supernet.parameters(), recipe, nesterov=False, fused=False)
        falling = torch.optim.lr_scheduler.LinearLR(step, 1.0, 0.0, epochs)
        context.keep(supernet=supernet, step=step, falling=falling)

        def draw() -> list[Architecture]:
            return fair_paths(supernet.domain, context.rng) if self.fair else [supernet.domain.sample(context.rng)]

        for epoch in context.epochs(epochs):
            batches = task.train_batches(self.batch_size, context.generator)
            loss = train_paths(supernet, task, batches, step, draw, recipe.gradient_clip)
            falling.step()
            if not math.isfinite(loss):
                raise TrainingDiverged(f"the supernet's loss is {loss} in epoch {epoch + 1}")
            yield {"train_loss": loss}

    def supernet(self, context: Context) -> Supernet:
        """The supernet with what was learnt, which a worker builds for its first candidate."""
        if self._warm is None or self._warm[0] is not context.learnt:
            with torch.random.fork_rng(devices=[]):  # a candidate must not depend on which worker it meets
                supernet = context.supernet()
            supernet.module.load_state_dict(context.learnt)
            self._warm = context.learnt, supernet
        return self._warm[1]


class WeightSharing(Evaluator):
    """Judges each candidate by the weights that it has in a supernet, which is trained once, before the first of them.

    A candidate then costs a fraction of an epoch: it gets the supernet's weights, takes the statistics of its batch
    normalisation from training batches, and is measured on the validation data. What the search finds is trained in
    the end. How well inherited weights rank candidates depends on the space, and may be little: compare them with
    `parameters` and `flops`, as `benchmarks/weight_sharing.py` does. For every space that has a supernet; of the
    fidelity only the resolution could say something, and must be left out.

    Options:
        epochs: of the supernet's training; by default as the task's recipe says (`search_epochs`).
        batch_size: of the training, and of the calibration.
        optimizer: of the weights: `sgd`, `adam` or `adamw`; by default SGD, as in the paper of single paths, but what
            the task's recipe says where its models learn by another one.
        learning_rate, momentum, weight_decay, gradient_clip: of that optimiser, whose paper or recipe they are of
            unless you say; a gradient_clip of 0 clips nothing. With SGD 0.5 · batch_size / 1,024, 0.9, 4e-5 and 5. The
            learning rate falls linearly to zero.
        sampling: `uniform`, a random path learns from each batch (Guo et al. 2020); or `fair`, as many paths as the
            decision with the most options has learn from each batch, on which each decision's options come up equally
            often, and their gradients are added up for one step (FairNAS): an epoch takes so many times as long.
            Where a decision has fewer options, or is made on some of the paths only, its options come up as often as
            each other or once more, by lot.
        calibration: training batches from which each candidate's batch normalisation takes its statistics; 0 keeps
            those of the training, which are of all paths.
    """

    provisional = True
    learns = True
    needs = frozenset({"supernet"})

    def __init__(
        self,
        *,
        epochs: int | None = None,
        batch_size: int = 64,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        gradient_clip: float | None = None,
        sampling: Literal["uniform", "fair"] = "uniform",
        calibration: int = 20,
    ) -> None:
        for name, value, least in (
            ("epochs", epochs, 1),
            ("batch_size", batch_size, 1),
            ("calibration", calibration, 0),
        ):
            if value is not None and value < least:
                raise ConfigError(f"the evaluator 'weight_sharing' has {name} = {value}; expected {least} or more")
        if sampling not in ("uniform", "fair"):
            raise ConfigError(f"the evaluator 'weight_sharing' has sampling = {sampling!r}; expected uniform or fair")
        self.batch_size, self.calibration = batch_size, calibration
        asked = {
            "optimizer": optimizer, "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay,
            "gradient_clip": gradient_clip,
        }  # fmt: skip
        self.weights = SharedWeights(epochs, batch_size, sampling == "fair", asked)

    @property
    def own_epochs(self) -> None:
        """None: its epochs are the supernet's, and a candidate is not trained."""
        return

    def learn(self, context: Context) -> Iterator[Metrics]:
        return self.weights.learn(context)

    def check_fidelity(self, fidelity: Fidelity) -> None:
        """Raises ConfigError for images of another size than those that the supernet learns from."""
        if fidelity.resolution is not None:
            raise ConfigError(
                f"the evaluator 'weight_sharing' judges by a supernet of the task's own resolution, and the fidelity "
                f"says resolution = {fidelity.resolution}; leave it out"
            )

    def metric_names(self, task: Task) -> Collection[str]:
        return task.metric_names

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        self.check_fidelity(fidelity)
        supernet, task = self.weights.supernet(context), context.task
        model = context.model(Architecture(architecture.space, supernet.domain.options, architecture.picks))
        inherit(model, supernet)
        batches = task.train_batches(self.batch_size, torch.Generator().manual_seed(CALIBRATION_SEED))
        recalibrate(model, task, islice(batches, self.calibration))
        return {**task.metrics(model, "valid"), **cost_of(model, task)}
