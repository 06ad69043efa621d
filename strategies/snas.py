"""SNAS: architectures are drawn from a relaxed distribution, which learns with w from one loss.

Xie, Zheng, Liu, Lin 2019, "SNAS: Stochastic Neural Architecture Search", ICLR: section 2.2, equations 4–6 (concrete
distribution), algorithm of section 2.1 (single level). The temperatures are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasengine import Context, Supernet, Task

from .bilevel import Bilevel, Step, gradients
from .relaxation import Relaxation


class Concrete(Relaxation):
    """Weights drawn from the concrete distribution: softmax((α + Gumbel noise) / τ), τ falling from epoch to epoch."""

    def __init__(self, supernet: Supernet, context: Context, tau_max: float, tau_min: float) -> None:
        super().__init__(supernet, context)
        self.tau_max, self.tau_min = tau_max, tau_min
        self.tau = tau_max

    def begin(self, progress: float) -> None:
        self.tau = self.tau_max + (self.tau_min - self.tau_max) * progress

    def drawn(self) -> Tensor:
        """(α + Gumbel noise) / τ, of α's shape: the softmax over a decision's part is a draw."""
        return (self.alpha + gumbel(self.alpha, self.generator)) / self.tau

    def apply(self) -> None:
        drawn = self.drawn()
        for name, part in self.slices.items():
            self.gates[name].set(self.kept(name) * drawn[part].softmax(0))


def gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of a tensor's shape and place, from a generator of the CPU."""
    exponential = torch.empty(like.shape, dtype=like.dtype).exponential_(generator=generator)
    return -exponential.log().to(like.device)


@dataclass(kw_only=True, eq=False)
class SNAS(Bilevel):
    """Stochastic neural architecture search (Xie et al. 2019): w and α learn at once, from one loss on all of the
    training data, in a supernet whose weights are drawn anew for each batch and become one-hot as τ falls.

    Its guard looks at the training loss, there being no validation half. The paper's cost of resources is left out.

    Options:
        tau_max, tau_min: the temperature in the first and in the last epoch, falling linearly (150 epochs).
    """

    tau_max: float = 1.0
    tau_min: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.tau_max, self.tau_min) <= 0:
            raise self.refused(f"has tau_max = {self.tau_max} and tau_min = {self.tau_min}; expected more than 0")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        return Concrete(supernet, context, self.tau_max, self.tau_min)

    def batches(self, task: Task, context: Context) -> Iterator[tuple[Any, Any]]:
        return ((batch, batch) for batch in task.train_batches(self.batch_size, context.generator))

    def advance(self, step: Step, alpha_learns: bool) -> dict[str, Tensor]:
        alpha = step.relaxation.alpha
        loss, (alpha.grad, *found) = gradients(step.train_loss, [alpha, *step.weights])
        if alpha_learns:
            step.alpha_step.step()
        self.fit(step, found)
        return {"train_loss": loss}
