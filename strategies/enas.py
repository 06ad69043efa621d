"""ENAS: a controller and the weights that all its architectures share learn in turns.

Pham, Guan, Zoph, Le, Dean 2018, "Efficient Neural Architecture Search via Parameter Sharing", ICML: section 2.2
(training and deriving); section 2.4 and the authors' code for the constants of its micro search.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nasengine import (
    Architecture,
    Batch,
    ConfigError,
    Context,
    Derivation,
    OneShotStrategy,
    Recipe,
    Supernet,
    Task,
    TrainingDiverged,
    batch_statistics,
    optimizer_of,
    supernet_recipe,
)  # fmt: skip

from .guard import ParameterFree, check_guard, first_epoch, operations
from .policy import ControllerPolicy

PAPER = Recipe(learning_rate=0.05, weight_decay=2e-4)
"""How the shared weights learn in the paper."""


class ENAS(OneShotStrategy):
    """Policy gradient on the validation reward of paths in a supernet (Pham et al. 2018, micro search).

    The reward of a path is exp(−loss) on one validation batch, with the batch's own statistics: for a classifier the
    (geometric) mean probability of the right class. The paper's, accuracy, is not every task's.

    Options:
        epochs: of both in turns; by default as the task's recipe says (150 in the paper).
        batch_size: of the shared weights' training.
        optimizer: of the shared weights: `sgd` (Nesterov's), `adam` or `adamw`; by default SGD as in the paper, but
            what the task's recipe says where its models learn by another one.
        learning_rate, momentum, weight_decay, gradient_clip: of that optimiser, whose paper or recipe they are of
            unless you say; a gradient_clip of 0 clips nothing. In the paper 0.05, 0.9, 2e-4 (the code's penalty is
            1e-4 · Σw²) and 5.
        learning_rate_min: to which the learning rate falls by a cosine; by default 0.0005 with SGD, else 0.
        restart_period, restart_factor: the cosine's first length in epochs, and how much longer each next one is.
        controller_steps: of the controller an epoch; by default 30 where the epoch has 300 batches or more, as in the
            paper, else a tenth of the batches, but at least 5.
        aggregate: architectures whose gradients make up one step of the controller.
        controller_learning_rate: of the controller's Adam.
        entropy_weight: what a nat of the controller's entropy adds to the reward.
        tanh_constant: logits l become tanh_constant · tanh(l).
        operation_tanh_reduction: by what that constant is divided for a choice of one operation.
        baseline_decay: of the moving average of the rewards, which is the baseline.
        hidden: the controller's units.
        samples: architectures drawn after each epoch, of which the best on one validation batch is derived.
        restarts: independent searches, from different seeds; the best derived architecture is kept.
        guard: `warn` says so where more than two thirds of the derived operations have no parameters, for five epochs
            or in the end; `off` does not. There are no architecture weights, so nothing to `stop` by.
    """

    def __init__(
        self,
        *,
        epochs: int | None = None,
        batch_size: int = 160,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        learning_rate_min: float | None = None,
        restart_period: int = 10,
        restart_factor: int = 2,
        momentum: float | None = None,
        weight_decay: float | None = None,
        gradient_clip: float | None = None,
        controller_steps: int | None = None,
        aggregate: int = 10,
        controller_learning_rate: float = 0.0035,
        entropy_weight: float = 1e-4,
        tanh_constant: float = 1.10,
        operation_tanh_reduction: float = 2.5,
        baseline_decay: float = 0.99,
        hidden: int = 64,
        samples: int = 10,
        restarts: int = 1,
        guard: str = "warn",
    ) -> None:
        given = {
            "epochs": epochs, "batch_size": batch_size, "restart_period": restart_period,
            "restart_factor": restart_factor, "controller_steps": controller_steps, "aggregate": aggregate,
            "hidden": hidden, "samples": samples, "restarts": restarts,
        }  # fmt: skip
        for name, value in given.items():
            if value is not None and value < 1:
                raise ConfigError(f"the strategy 'enas' has {name} = {value}; expected at least 1")
        if not 0 <= baseline_decay < 1:
            raise ConfigError(f"the strategy 'enas' has baseline_decay = {baseline_decay}; expected 0 or more, below 1")
        check_guard("enas", guard)
        self.guard = guard
        self.epochs, self.batch_size, self.restarts = epochs, batch_size, restarts
        self.learning_rate_min = learning_rate_min
        self.restart_period, self.restart_factor = restart_period, restart_factor
        self.asked = {
            "optimizer": optimizer, "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay,
            "gradient_clip": gradient_clip,
        }  # fmt: skip
        PAPER.changed(self.asked)  # raises now rather than later
        self.controller_steps, self.aggregate, self.samples = controller_steps, aggregate, samples
        self.controller_learning_rate, self.entropy_weight = controller_learning_rate, entropy_weight
        self.tanh_constant, self.operation_tanh_reduction = tanh_constant, operation_tanh_reduction
        self.baseline_decay, self.hidden = baseline_decay, hidden

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        epochs = self.epochs or task.recipe.search_epochs
        recipe = supernet_recipe(PAPER, task, self.asked)
        step = optimizer_of(supernet.parameters(), recipe, fused=False)
        lowest = 0.0005 if recipe.optimizer == "sgd" else 0.0
        lowest = lowest if self.learning_rate_min is None else self.learning_rate_min
        cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            step, self.restart_period, self.restart_factor, lowest
        )
        controller = Controller(self, supernet, context.generator)
        kept = {"policy": controller.policy, "adam": controller.adam, "baseline": controller.baseline}
        free = ParameterFree(self.guard, operations(supernet), first_epoch(epochs))
        context.keep(supernet=supernet, step=step, cosine=cosine, free=free, **kept)
        for epoch in context.epochs(epochs):
            losses = self._train(supernet, task, step, controller, context, recipe.gradient_clip)
            cosine.step()
            loss = float(losses.mean())
            if not math.isfinite(loss):
                raise TrainingDiverged(f"the supernet's loss is {loss} in epoch {epoch + 1}")
            steps = self.controller_steps or min(30, max(5, len(losses) // 10))
            batches = again_and_again(task)
            found = [controller.learn(task, batches, context.generator) for _ in range(steps)]
            reward, entropy = torch.tensor(found).mean(0).tolist()
            derived = controller.derive(task, next(batches), context.generator)
            share, collapse = free.look(epoch, derived, last=epoch + 1 == epochs)
            metrics = {"train_loss": loss, "reward": reward, "entropy": entropy, **share}
            yield Derivation(derived, metrics, collapse)

    def _train(
        self,
        supernet: Supernet,
        task: Task,
        step: torch.optim.Optimizer,
        controller: Controller,
        context: Context,
        gradient_clip: float,
    ) -> Tensor:
        """One epoch: for each batch one path that the controller draws learns. Returns the losses."""
        supernet.train()
        losses = []
        for batch in task.train_batches(self.batch_size, context.generator):
            supernet.pick(controller.policy.sample(context.generator).architecture)
            loss = task.loss(supernet, batch)
            step.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if gradient_clip:
                nn.utils.clip_grad_norm_(supernet.parameters(), gradient_clip)
            step.step()
            losses.append(loss.detach())
        return torch.stack(losses)


class Controller:
    """The policy π(m; θ), and how it learns: REINFORCE with a moving average of the rewards as baseline.

    baseline: the average's sum and weight, so that it is right from the first reward on.
    """

    def __init__(self, options: ENAS, supernet: Supernet, generator: torch.Generator) -> None:
        self.options, self.supernet = options, supernet
        self.policy = ControllerPolicy(
            supernet.domain,
            generator,
            hidden=options.hidden,
            tanh_constant=options.tanh_constant,
            operation_tanh_reduction=options.operation_tanh_reduction,
        )
        self.adam = torch.optim.Adam(
            self.policy.parameters(), options.controller_learning_rate, betas=(0.0, 0.999), eps=1e-3
        )
        self.baseline = torch.zeros(2, dtype=torch.float64)

    def reward(self, task: Task, path: Architecture, batch: Batch) -> float:
        self.supernet.pick(path)
        with batch_statistics(self.supernet):
            reward = math.exp(-float(task.loss(self.supernet, batch)))
        return reward if math.isfinite(reward) else 0.0

    def learn(self, task: Task, batches: Iterator[Batch], generator: torch.Generator) -> tuple[float, float]:
        """One step. Returns the mean reward, and the entropy as a fraction of its largest."""
        samples = [self.policy.sample(generator) for _ in range(self.options.aggregate)]
        rewards = [self.reward(task, sample.architecture, next(batches)) for sample in samples]
        log_p, entropy = self.policy.log_probabilities([sample.drawn for sample in samples])
        entropy = entropy.detach()
        worth = torch.tensor(rewards, dtype=torch.float64) + self.options.entropy_weight * entropy
        advantages = torch.stack([self._advantage(value) for value in worth])
        if self.policy.decisions:
            loss = -(advantages * log_p).mean()
            self.adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.adam.step()
        undecided = sum(
            float(h) / max(sum(math.log(d.count) for d in self.policy.domain.active(sample.drawn)), 1e-9)
            for h, sample in zip(entropy, samples, strict=True)
        )
        return sum(rewards) / len(rewards), undecided / len(samples)

    def derive(self, task: Task, batch: Batch, generator: torch.Generator) -> Architecture:
        """Of some samples the best on one validation batch."""
        drawn = [self.policy.sample(generator).architecture for _ in range(self.options.samples)]
        return max(drawn, key=lambda path: self.reward(task, path, batch))

    def _advantage(self, reward: Tensor) -> Tensor:
        """By how much the reward is above the baseline, which has taken it in."""
        decay = self.options.baseline_decay
        self.baseline.mul_(decay).add_((1 - decay) * torch.stack([reward, torch.ones_like(reward)]))
        return reward - self.baseline[0] / self.baseline[1]


def again_and_again(task: Task) -> Iterator[Batch]:
    """The validation data, from its beginning on, without an end."""
    while True:
        yield from task.valid_batches()
