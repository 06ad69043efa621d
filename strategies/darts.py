"""DARTS: architecture weights α learnt by gradient descent, in a supernet whose weights w learn at the same time.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: algorithm 1; equations 2 (relaxation),
3–4 (bilevel problem), 5–7 (approximate gradient) and 8 (finite differences); section 2.4 (derivation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bilevel import Bilevel, Step, gradients


@dataclass(kw_only=True, eq=False)
class DARTS(Bilevel):
    """Differentiable architecture search, first or second order (Liu et al. 2019).

    Options:
        order: 1 takes α's gradient at the weights as they are, 2 after one virtual step of theirs (equation 7); 2 needs
            precision=float32, for its differences are smaller than what bfloat16 tells apart.
    """

    order: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2):
            raise self.refused(f"has order = {self.order}; expected 1 or 2")
        if self.order == 2 and self.precision != "float32":
            raise self.refused(
                f"has order = 2 and precision = {self.precision!r}; order 2 takes small differences, and needs float32"
            )

    def alpha_gradient(self, step: Step) -> tuple[Tensor, Tensor]:
        if self.order == 1:
            return super().alpha_gradient(step)
        buffers = [step.w_step.state[w].get("momentum_buffer") for w in step.weights]
        group = step.w_step.param_groups[0]  # of Adam's the virtual step has the rate and the weight decay alone
        return unrolled_gradient(
            step.train_loss, step.valid_loss, step.weights, step.relaxation.alpha, buffers, group["lr"],
            group.get("momentum", 0.0), group["weight_decay"],
        )  # fmt: skip


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
