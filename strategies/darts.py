"""DARTS: architecture weights α learnt by gradient descent, in a supernet whose weights w learn at the same time.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: algorithm 1; equations 2 (relaxation),
3–4 (bilevel problem), 5–7 (approximate gradient) and 8 (finite differences); section 2.4 (derivation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Decision,
    Derivation,
    Domain,
    OneShotStrategy,
    Pick,
    Supernet,
    Task,
    TrainingDiverged,
)  # fmt: skip


class DARTS(OneShotStrategy):
    """Differentiable architecture search, first or second order (Liu et al. 2019).

    Options:
        order: 1 takes α's gradient at the weights as they are, 2 after one virtual step of theirs (equation 7).
        epochs: of the search; by default as the task's recipe says (50 in the paper, for CIFAR-10).
        batch_size: of the search, for w and for α.
        learning_rate, learning_rate_min: of w, falling from one to the other by a cosine.
        momentum, weight_decay, gradient_clip: of w's SGD; a gradient_clip of 0 clips nothing.
        alpha_learning_rate, alpha_weight_decay: of α's Adam; its betas are (0.5, 0.999).
        restarts: independent searches, from different seeds; the best derived architecture is kept.
    """

    def __init__(
        self,
        *,
        order: int = 1,
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 0.025,
        learning_rate_min: float = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        gradient_clip: float = 5.0,
        alpha_learning_rate: float = 3e-4,
        alpha_weight_decay: float = 1e-3,
        restarts: int = 1,
    ) -> None:
        if order not in (1, 2):
            raise ConfigError(f"the strategy 'darts' has order = {order}; expected 1 or 2")
        if min(epochs or 1, batch_size, restarts) < 1 or epochs == 0:
            raise ConfigError("the strategy 'darts' expects epochs, batch_size and restarts of at least 1")
        self.order, self.epochs, self.batch_size, self.restarts = order, epochs, batch_size, restarts
        self.learning_rate, self.learning_rate_min = learning_rate, learning_rate_min
        self.momentum, self.weight_decay, self.gradient_clip = momentum, weight_decay, gradient_clip
        self.alpha_learning_rate, self.alpha_weight_decay = alpha_learning_rate, alpha_weight_decay

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        supernet.freeze_affine()
        epochs = self.epochs or task.recipe.search_epochs
        weights = [weight for weight in supernet.parameters() if weight.requires_grad]
        relaxation = Relaxation(supernet, context)
        alpha = relaxation.alpha
        w_step = torch.optim.SGD(weights, self.learning_rate, self.momentum, weight_decay=self.weight_decay, fused=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(w_step, epochs, self.learning_rate_min)
        alpha_step = torch.optim.Adam(
            [alpha], self.alpha_learning_rate, betas=(0.5, 0.999), weight_decay=self.alpha_weight_decay
        )
        context.keep(supernet=supernet, alpha=alpha, w_step=w_step, cosine=cosine, alpha_step=alpha_step)
        for epoch in context.epochs(epochs):
            supernet.train()
            rate = w_step.param_groups[0]["lr"]
            train = task.train_batches(self.batch_size, context.generator, part=(0.0, 0.5))
            valid = task.train_batches(self.batch_size, context.generator, part=(0.5, 1.0))
            losses = []
            for train_batch, valid_batch in zip(train, valid, strict=False):

                def train_loss(batch: object = train_batch) -> Tensor:
                    relaxation.apply()
                    return task.loss(supernet, batch)

                def valid_loss(batch: object = valid_batch) -> Tensor:
                    relaxation.apply()
                    return task.loss(supernet, batch)

                if self.order == 1:
                    loss, (alpha.grad,) = gradients(valid_loss, [alpha])
                else:
                    buffers = [w_step.state[w].get("momentum_buffer") for w in weights]
                    loss, alpha.grad = unrolled_gradient(
                        train_loss, valid_loss, weights, alpha, buffers, rate, self.momentum, self.weight_decay
                    )
                alpha_step.step()
                fitted, grads = gradients(train_loss, weights)
                for weight, grad in zip(weights, grads, strict=True):
                    weight.grad = grad
                if self.gradient_clip:
                    nn.utils.clip_grad_norm_(weights, self.gradient_clip)
                w_step.step()
                losses.append(torch.stack([loss.detach(), fitted.detach()]))
            cosine.step()
            valid_mean, train_mean = torch.stack(losses).mean(0).tolist()
            if not torch.isfinite(alpha).all() or not torch.isfinite(torch.tensor([valid_mean, train_mean])).all():
                raise TrainingDiverged(f"the supernet's loss is {train_mean} in epoch {epoch + 1}")
            metrics = {"train_loss": train_mean, "valid_loss": valid_mean, "entropy": relaxation.entropy()}
            yield Derivation(relaxation.derive(), metrics)


class Relaxation:
    """The continuous relaxation of a supernet's choices (equation 2): α, and the gates that it sets.

    alpha: all decisions' architecture weights in one vector, initialised with 1e-3 · N(0, 1). A k-of-n choice whose
    options hold choices of their own has no weights: as in the paper, all its options stay open, and their strength is
    that of what they hold.
    """

    def __init__(self, supernet: Supernet, context: Context) -> None:
        self.gates = supernet.gates
        self.domain = supernet.domain
        decisions = self.domain.decisions.values()
        self.inner = {d.name: inner_decisions(self.domain, d) for d in decisions if d.kind == "some"}
        relaxed = [d for d in decisions if d.count > 1 and not all(self.inner.get(d.name, {}).values() or [False])]
        sizes = [len(decision.options) for decision in relaxed]
        values = 1e-3 * torch.randn(sum(sizes), generator=context.generator)
        self.alpha = values.to(context.device).requires_grad_()
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self.slices = {d.name: slice(a, b) for d, a, b in zip(relaxed, ends, ends[1:], strict=False)}

    def weights(self, name: str) -> Tensor:
        """The softmax over a decision's options, shape (options,); k times that for a k-of-n choice."""
        return self.domain.decisions[name].k * self.alpha[self.slices[name]].softmax(0)

    def apply(self) -> None:
        """Sets every gate to the present weights."""
        for name in self.slices:
            self.gates[name].set(self.weights(name))

    def entropy(self) -> float:
        """The mean over decisions of the softmax's entropy, as a fraction of its largest: 1 is undecided, 0 decided."""
        total = 0.0
        for name in self.slices:
            p = self.alpha.detach()[self.slices[name]].softmax(0)
            total += float(torch.special.entr(p).sum()) / math.log(len(p))
        return total / max(len(self.slices), 1)

    def derive(self) -> Architecture:
        """Section 2.4: of every decision the strongest option; of a k-of-n choice the k strongest, an option's
        strength being the largest weight inside it, `none` left aside."""
        with torch.no_grad():
            weights = {name: self.weights(name).tolist() for name in self.slices}
        picks: dict[str, str | int | float | tuple[str, ...]] = {}
        optional = {inner.name for options in self.inner.values() for found in options.values() for inner in found}
        for name, decision in self.domain.decisions.items():
            if decision.kind != "some":
                without = "none" if name in optional else None
                picks[name] = decision.options[strongest(decision, weights.get(name), without)]
                continue
            strengths = weights.get(name) or [
                max(
                    (max(w for w, o in zip(weights[i.name], i.options, strict=True) if o != "none") for i in inner),
                    default=0.0,  # nothing inside and nothing learnt: all n of n are kept
                )
                for inner in self.inner[name].values()
            ]
            order = sorted(range(len(strengths)), key=lambda index: -strengths[index])
            picks[name] = decision.ordered(order[: decision.k])

        def lost(decision: Decision, before: Pick, after: Pick) -> float:
            """By how much the other pick is weaker, where the one that is wanted is not allowed."""
            w = weights.get(decision.name)
            return (
                0.0
                if w is None
                else sum(w[i] for i in decision.indices(before)) - sum(w[i] for i in decision.indices(after))
            )

        return self.domain.complete(picks, lost)


def inner_decisions(domain: Domain, some: Decision) -> dict[str | int | float, list[Decision]]:
    """For each option of a k-of-n choice, the one-of-n choices that are met directly inside it."""
    return {
        option: [
            inner
            for inner in domain.decisions.values()
            if inner.kind == "one" and inner.count > 1 and any(p and p[-1] == (some.name, option) for p in inner.when)
        ]
        for option in some.options
    }


def strongest(decision: Decision, weights: Sequence[float] | None, without: str | None) -> int:
    """The index of the largest weight; the first option where nothing was learnt."""
    allowed = [index for index, option in enumerate(decision.options) if option != without]
    return max(allowed, key=lambda index: weights[index]) if weights else allowed[0]


def gradients(loss: Callable[[], Tensor], wanted: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss and its gradient in `wanted` alone: nothing is computed for tensors that the step does not use."""
    value = loss()
    found = torch.autograd.grad(value, wanted, allow_unused=True)
    return value, [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


def unrolled_gradient(
    train_loss: Callable[[], Tensor],
    valid_loss: Callable[[], Tensor],
    weights: Sequence[Tensor],
    alpha: Tensor,
    buffers: Sequence[Tensor | None],
    rate: float,
    momentum: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """∇α L_val(w′, α) with w′ = w − ξ(momentum · buffer + ∇w L_train(w, α) + weight decay · w): equations 6 to 8.

    The second term of equation 7 is a Hessian-vector product, taken by central differences of ∇α L_train at
    w ± ε∇w′ L_val(w′, α), with ε = 0.01 / ‖∇w′ L_val(w′, α)‖. Leaves the weights as they were.

    Returns the validation loss at w′ and the gradient, of α's shape.
    """
    before = [weight.detach().clone() for weight in weights]
    _, grads = gradients(train_loss, weights)
    with torch.no_grad():
        for weight, grad, buffer in zip(weights, grads, buffers, strict=True):
            inertia = momentum * buffer if buffer is not None else 0.0
            weight -= rate * (inertia + grad + weight_decay * weight)
    loss, (direct, *vector) = gradients(valid_loss, [alpha, *weights])

    epsilon = 0.01 / torch.cat([v.flatten() for v in vector]).norm().clamp_min(1e-15)
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, old, v in zip(weights, before, vector, strict=True):
                weight.copy_(old + sign * epsilon * v)
        sides.append(gradients(train_loss, [alpha])[1][0])
    with torch.no_grad():
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
    return loss, direct - rate * (sides[0] - sides[1]) / (2 * epsilon)
