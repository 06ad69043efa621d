"""The loop that gradient-based one-shot strategies share: architecture weights α and weights w learn in turns.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: algorithm 1 and equations 3–4 (bilevel
problem). Each strategy's file says what it does otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasengine import (
    ConfigError,
    Context,
    Derivation,
    OneShotStrategy,
    Recipe,
    Supernet,
    Task,
    TrainingDiverged,
    optimizer_of,
    supernet_recipe,
)  # fmt: skip

from .guard import Guard
from .relaxation import Relaxation


@dataclass(slots=True, eq=False)
class Step:
    """What one step has at hand: a batch of each half of the training data, and what learns from them.

    precision: `float32`, or `bf16`: then the losses are computed in mixed precision, as in the training of a model.
    gradient_clip: the largest norm of w's gradient, 0 for none.
    """

    task: Task
    supernet: Supernet
    relaxation: Relaxation
    weights: list[nn.Parameter]
    w_step: torch.optim.Optimizer
    alpha_step: torch.optim.Optimizer
    train_batch: Any = None
    valid_batch: Any = None
    precision: str = "float32"
    gradient_clip: float = 0.0

    def loss(self, batch: Any) -> Tensor:
        """Of a batch, at the gates as they are."""
        with torch.autocast(self.relaxation.alpha.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.task.loss(self.supernet, batch)

    def train_loss(self) -> Tensor:
        """Of w: at the gates that the relaxation sets for it."""
        self.relaxation.apply_for_weights()
        return self.loss(self.train_batch)

    def valid_loss(self) -> Tensor:
        """Of α: at the gates that the relaxation sets for it."""
        self.relaxation.apply()
        return self.loss(self.valid_batch)


@dataclass(kw_only=True, eq=False)
class Bilevel(OneShotStrategy):
    """Gradient-based search in a supernet: for each pair of batches a step of α on one, then a step of w on the other.

    Options:
        epochs: of the search; by default as the task's recipe says (50 in the paper of DARTS, for CIFAR-10).
        batch_size: of the search, for w and for α.
        optimizer: of w: `sgd`, `adam` or `adamw`; by default SGD as in the paper, but what the task's recipe says where
            its models learn by another one.
        learning_rate, momentum, weight_decay, gradient_clip: of w's optimiser, whose paper or recipe they are of unless
            you say; a gradient_clip of 0 clips nothing. In the paper of DARTS 0.025, 0.9, 3e-4 and 5.
        learning_rate_min: to which w's learning rate falls by a cosine; by default 0.001 with SGD, else 0.
        alpha_learning_rate, alpha_weight_decay: of α's Adam.
        warmup: the share of the epochs, at the beginning, in which w learns alone.
        restarts: independent searches, from different seeds; the best derived architecture is kept.
        guard: what is done where the search is about to collapse: `warn` says so, `stop` also ends the learning and
            goes back to what was derived before (R-DARTS: where the eigenvalue's mean over 5 epochs is more than 1.3
            times that of 4 epochs before), `off` does neither.
        hessian: whether the dominant eigenvalue of the validation loss's Hessian in α is measured after each epoch, on
            one batch: about seven forward and backward passes of the whole supernet, in two to three times the memory
            of a step of DARTS. Always in float32.
        precision: `float32`, or `bf16` for mixed precision: what is computed for w and for α is rounded to bfloat16
            where torch's autocast holds that to be safe. For GPUs; α, w and their steps stay in float32.
    """

    epochs: int | None = None
    batch_size: int = 64
    optimizer: str | None = None
    learning_rate: float | None = None
    learning_rate_min: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    gradient_clip: float | None = None
    alpha_learning_rate: float = 3e-4
    alpha_weight_decay: float = 1e-3
    warmup: float = 0.0
    restarts: int = 1
    guard: str = "warn"
    hessian: bool = True
    precision: str = "float32"

    paper: ClassVar[Recipe] = Recipe(learning_rate=0.025, weight_decay=3e-4)
    """How w learns in the strategy's paper."""
    alpha_betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    nesterov: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.epochs or 1, self.batch_size, self.restarts) < 1 or self.epochs == 0:
            raise self.refused("expects epochs, batch_size and restarts of at least 1")
        if not 0 <= self.warmup < 1:
            raise self.refused(
                f"has warmup = {self.warmup}; expected a share of the epochs, at least 0 and less than 1"
            )

        if self.guard not in ("warn", "stop", "off"):
            raise self.refused(f"has guard = {self.guard!r}; expected warn, stop or off")
        if self.precision not in ("float32", "bf16"):
            raise self.refused(f"has precision = {self.precision!r}; expected float32 or bf16")
        if self.guard == "stop" and not self.hessian:
            raise self.refused("has guard = 'stop' and hessian = False; it stops by the Hessian's eigenvalue")
        self.paper.changed(self.asked)  # raises now rather than later

    @property
    def asked(self) -> dict[str, Any]:
        """What is said of how w learns."""
        names = ("optimizer", "learning_rate", "momentum", "weight_decay", "gradient_clip")
        return {name: getattr(self, name) for name in names}

    def refused(self, why: str) -> ConfigError:
        """The error for options that cannot be; the strategy is named as its file is."""
        return ConfigError(f"the strategy {type(self).__module__.rpartition('.')[2]!r} {why}")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        """α, and how it sets the gates."""
        return Relaxation(supernet, context)

    def batches(self, task: Task, context: Context) -> Iterator[tuple[Any, Any]]:
        """An epoch's pairs of batches: what w learns from, what α learns from."""
        train = task.train_batches(self.batch_size, context.generator, part=(0.0, 0.5))
        valid = task.train_batches(self.batch_size, context.generator, part=(0.5, 1.0))
        return zip(train, valid, strict=False)

    def alpha_gradient(self, step: Step) -> tuple[Tensor, Tensor]:
        """The validation loss and its gradient in α."""
        loss, (gradient,) = gradients(step.valid_loss, [step.relaxation.alpha])
        return loss, gradient

    def weights_loss(self, step: Step) -> Tensor:
        """What w is fitted to."""
        return step.train_loss()

    def advance(self, step: Step, alpha_learns: bool) -> dict[str, Tensor]:
        """One step of α, where it learns yet, and one of w. The losses before them, by name."""
        losses = {}
        if alpha_learns:
            losses["valid_loss"], step.relaxation.alpha.grad = self.alpha_gradient(step)
            step.alpha_step.step()
            step.relaxation.stepped()
        losses["train_loss"], found = gradients(lambda: self.weights_loss(step), step.weights)
        self.fit(step, found)
        return losses

    def fit(self, step: Step, found: Sequence[Tensor]) -> None:
        """One step of w along its gradients."""
        for weight, gradient in zip(step.weights, found, strict=True):
            weight.grad = gradient
        if step.gradient_clip:
            nn.utils.clip_grad_norm_(step.weights, step.gradient_clip)
        step.w_step.step()

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        supernet.freeze_affine()
        epochs = self.epochs or task.recipe.search_epochs
        relaxation = self.relax(supernet, task, context)
        alpha = relaxation.alpha
        weights = [weight for weight in supernet.parameters() if weight.requires_grad]
        recipe = supernet_recipe(self.paper, task, self.asked)
        w_step = optimizer_of(weights, recipe, self.nesterov)
        lowest = 0.001 if recipe.optimizer == "sgd" else 0.0
        lowest = lowest if self.learning_rate_min is None else self.learning_rate_min
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(w_step, epochs, lowest)
        alpha_step = torch.optim.Adam(
            [alpha], self.alpha_learning_rate, betas=self.alpha_betas, weight_decay=self.alpha_weight_decay
        )
        step = Step(
            task, supernet, relaxation, weights, w_step, alpha_step, gradient_clip=recipe.gradient_clip,
            precision=self.precision,
        )  # fmt: skip
        warmup = round(self.warmup * epochs)
        guard = Guard.of(self.guard, self.hessian, task, relaxation, supernet, context, epochs, warmup)
        context.keep(supernet=supernet, alpha=alpha, w_step=w_step, cosine=cosine, alpha_step=alpha_step, guard=guard)
        for epoch in context.epochs(epochs):
            if guard.stopped:  # before the process that went on was killed
                return
            relaxation.begin(epoch / max(epochs - 1, 1))
            alpha_learns = epoch >= warmup
            supernet.train()
            losses: list[dict[str, Tensor]] = []
            for step.train_batch, step.valid_batch in self.batches(task, context):
                if not losses:
                    looked_at = step.valid_batch
                found = self.advance(step, alpha_learns)
                losses.append({name: loss.detach() for name, loss in found.items()})
            cosine.step()
            metrics = {name: float(torch.stack([found[name] for found in losses]).mean()) for name in sorted(losses[0])}
            if not torch.isfinite(alpha).all() or not torch.isfinite(torch.tensor([*metrics.values()])).all():
                raise TrainingDiverged(f"the supernet's loss is {metrics['train_loss']} in epoch {epoch + 1}")
            seen = guard.look(epoch, relaxation.derive(), looked_at)
            notes = [note for note in (relaxation.note if epoch == 0 else None, seen.note) if note]
            metrics |= {"entropy": relaxation.entropy(), **seen.metrics}
            yield replace(seen, metrics=metrics, note="; ".join(notes) or None)
            if guard.stopped:
                return


def gradients(loss: Callable[[], Tensor], wanted: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss and its gradient in `wanted` alone: nothing is computed for tensors that the step does not use."""
    value = loss()
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    # detached: what the graph holds would otherwise stay in memory during the next pass
    return value.detach(), [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]
