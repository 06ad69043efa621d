"""SDARTS: DARTS whose w learns at perturbed architecture weights, so that the loss is smooth around them.

Chen and Hsieh 2020, "Stabilizing Differentiable Architecture Search via Perturbation-based Regularization", ICML:
equations 5 (random smoothing) and 6 (adversarial training), algorithm 1; projections as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasengine import Context, Supernet, Task

from .bilevel import Bilevel, Step, gradients
from .relaxation import Relaxation


class Perturbed(Relaxation):
    """DARTS's relaxation, and the same with weights moved by up to ε each."""

    def __init__(self, supernet: Supernet, context: Context, epsilon_min: float, epsilon_max: float) -> None:
        super().__init__(supernet, context)
        self.epsilon_min, self.epsilon_max = epsilon_min, epsilon_max
        self.epsilon = epsilon_min

    def begin(self, progress: float) -> None:
        self.epsilon = self.epsilon_min + (self.epsilon_max - self.epsilon_min) * progress

    def expected(self) -> Tensor:
        """The probabilities of all decisions' options in one vector, of α's shape."""
        with torch.no_grad():
            return torch.cat([self.probabilities(name) for name in self.slices])

    def noise(self) -> Tensor:
        """Uniform in [−ε, ε], of α's shape."""
        drawn = torch.rand(self.alpha.shape, generator=self.generator)
        return self.epsilon * (2 * drawn - 1).to(self.alpha)

    def projected(self, vector: Tensor) -> Tensor:
        """Each decision's part clipped to [0, 1] and divided by its sum."""
        parts = [vector[part].clamp(0, 1) for part in self.slices.values()]
        return torch.cat([part / part.sum().clamp_min(1e-12) for part in parts])

    def set(self, vector: Tensor) -> None:
        """Sets every gate to its part of the vector."""
        for name, part in self.slices.items():
            self.gates[name].set(self.kept(name) * vector[part])


@dataclass(kw_only=True, eq=False)
class SDARTS(Bilevel):
    """Smooth DARTS: w learns at perturbed weights of the architecture (Chen and Hsieh 2020).

    Options:
        perturbation: `random` within ε (SDARTS-RS), or `adversarial`: the worst within ε, found by as many steps of
            projected gradient ascent on the training loss, each of which costs as much as a step of w (SDARTS-ADV).
        epsilon_min, epsilon_max: ε in the first and in the last epoch, growing linearly.
        steps: of the adversary.
    """

    perturbation: str = "random"
    epsilon_min: float = 0.03
    epsilon_max: float = 0.3
    steps: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.perturbation not in ("random", "adversarial"):
            raise self.refused(f"has perturbation = {self.perturbation!r}; expected random or adversarial")
        if min(self.epsilon_min, self.epsilon_max) < 0 or self.steps < 1:
            raise self.refused("expects epsilon_min and epsilon_max of at least 0, and at least one of steps")

    def relax(self, supernet: Supernet, task: Task, context: Context) -> Relaxation:
        return Perturbed(supernet, context, self.epsilon_min, self.epsilon_max)

    def weights_loss(self, step: Step) -> Tensor:
        relaxation = step.relaxation
        if not isinstance(relaxation, Perturbed):  # a subclass's
            return super().weights_loss(step)
        expected = relaxation.expected()
        moved = relaxation.projected(expected + relaxation.noise())
        if self.perturbation == "adversarial":
            moved = self.worst(step, relaxation, expected, moved)
        relaxation.set(moved)
        return step.loss(step.train_batch)

    def worst(self, step: Step, relaxation: Perturbed, expected: Tensor, moved: Tensor) -> Tensor:
        """Projected gradient ascent within ε of the expected weights, from `moved` on, in evaluation mode."""
        epsilon = relaxation.epsilon
        step.supernet.eval()
        for _ in range(self.steps):
            at = moved.requires_grad_()

            def loss(at: Tensor = at) -> Tensor:
                relaxation.set(at)
                return step.loss(step.train_batch)

            _, (gradient,) = gradients(loss, [at])
            change = (at.detach() + 2 * epsilon / self.steps * gradient.sign() - expected).clamp(-epsilon, epsilon)
            moved = relaxation.projected(expected + change)
        step.supernet.train()
        return moved
