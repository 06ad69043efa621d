"""What the players of a generative adversarial network lose: discriminator and generator, by the game that they play.

Goodfellow et al. 2014, "Generative Adversarial Nets", NeurIPS, equation 1 (minimax) and section 3 (non-saturating).
Mao et al. 2017, "Least Squares Generative Adversarial Networks", ICCV, equation 9. Lim, Ye 2017, "Geometric GAN", and
Miyato et al. 2018, equations 16–17 (hinge). Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", NeurIPS,
equation 3 and algorithm 1. Mescheder, Geiger, Nowozin 2018, "Which Training Methods for GANs do actually Converge?",
ICML, equation 9 (R1). Ghosh et al. 2018, "Multi-Agent Diverse Generative Adversarial Networks", CVPR, section 3
(MAD-GAN). Mordido, Yang, Meinel 2018, "Dropout-GAN", section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import ConfigError

Scores: TypeAlias = Tensor
PENALTY = {"wgan_gp": 10.0, "r1": 10.0}
"""WGAN-GP's λ, and R1's γ, which is halved in its formula."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one pair of scores each, element by element. discriminator: (real, made). generator: of made."""

    discriminator: Callable[[Scores, Scores], Tensor]
    generator: Callable[[Scores], Tensor]


def _cross_entropy(real: Scores, made: Scores) -> Tensor:
    return functional.softplus(-real) + functional.softplus(made)


LOSSES = {
    "minimax": Losses(_cross_entropy, lambda made: -functional.softplus(made)),
    "non_saturating": Losses(_cross_entropy, lambda made: functional.softplus(-made)),
    "least_squares": Losses(lambda real, made: ((real - 1) ** 2 + made**2) / 2, lambda made: (made - 1) ** 2 / 2),
    "hinge": Losses(
        lambda real, made: functional.relu(1 - real) + functional.relu(1 + made), lambda made: -made
    ),
    "wgan_gp": Losses(lambda real, made: made - real, lambda made: -made),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adam:
    """How a game is trained, where it has settings of its own. rate: of both players, by the recipe's (2e-4, DCGAN's).
    betas: None for the recipe's (0.5 and 0.999, DCGAN's). critic: how many steps the discriminator takes for one of the
    generator's."""

    rate: float = 1.0
    betas: tuple[float, float] | None = None
    critic: int = 1


ADAM = {"wgan_gp": Adam(0.5, (0.0, 0.9), 5)}
"""Where a loss has settings of its own: WGAN-GP's, algorithm 1."""


class Players:
    """A model's players: what its parts are, and what they lose.

    The model, or what a supernet holds, has a `generator`, called with latents; a `discriminator`, called with examples
    and one-hot labels (or None); and may have a `game`, whose attributes say what is played (see the space `gan`);
    without one it is the non-saturating game of two. Raises ConfigError where the players are not there.
    """

    def __init__(self, model: nn.Module) -> None:
        whole: Any = model if hasattr(model, "generator") else getattr(model, "module", model)
        parts = ("generator", "discriminator")
        missing = [name for name in parts if not isinstance(getattr(whole, name, None), nn.Module)]
        if missing:
            raise ConfigError(
                f"the task 'generation' trains two players, and the model ({type(whole).__name__}) has no module "
                f"{' and no '.join(missing)}; take a space of the family GAN"
            )
        self.generator: Any = whole.generator
        self.discriminator: Any = whole.discriminator
        game = getattr(whole, "game", None)
        self.loss: str = getattr(game, "loss", "non_saturating")
        self.regulariser: str = getattr(game, "regulariser", "none")
        self.several: int = getattr(game, "generators", 1)
        self.dropout: float = getattr(game, "feedback_dropout", 0.0)
        if self.loss not in LOSSES:
            raise ConfigError(f"the game's loss is {self.loss!r}; expected one of {', '.join(LOSSES)}")

    @property
    def adam(self) -> Adam:
        return ADAM.get(self.loss, Adam())

    def make(self, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What is made of latents while the players learn, and its labels: each of several generators makes a whole
        batch, (generators × N, …)."""
        if self.several == 1:
            return self.generator(latents), labels
        return self.generator.each(latents), None if labels is None else labels.repeat(self.several, 1)

    def discriminator_loss(self, real: Scores, made: Scores) -> Tensor:
        """The mean over the batch, the sum over discriminators. Of MAD-GAN the entropy of naming the generator, or,
        behind all of them, the real data."""
        if self.several > 1:
            last = torch.full((len(real),), self.several, device=real.device)
            names = torch.arange(self.several, device=made.device).repeat_interleave(len(made) // self.several)
            return functional.cross_entropy(real, last) + functional.cross_entropy(made, names)
        return LOSSES[self.loss].discriminator(real, made).mean(0).sum()

    def generator_loss(self, made: Scores) -> Tensor:
        """The mean over the batch, and over the discriminators that are heard: at least one. The sum over several
        generators, for each loses what is its own."""
        if self.several > 1:
            last = torch.full((len(made),), self.several, device=made.device)
            return self.several * functional.cross_entropy(made, last)
        each = LOSSES[self.loss].generator(made).mean(0)
        if not (self.dropout and self.discriminator.training):
            return each.mean()
        draws = torch.rand(len(each), device=each.device)
        heard = (draws >= self.dropout) | (draws == draws.max())
        return (each * heard).sum() / heard.sum()

    def penalty(self, real: Tensor, made: Tensor, labels: Tensor | None) -> Tensor:
        """On the gradient of the discriminator's scores in its input; 0 where the game has none."""
        if self.loss == "wgan_gp":
            share = torch.rand([len(real), *[1] * (real.dim() - 1)], device=real.device)
            between = (share * real + (1 - share) * made).detach()
            norms: Tensor = torch.linalg.vector_norm(self._gradients(between, labels).flatten(1), dim=1)
            return PENALTY["wgan_gp"] * (norms - 1).square().mean()
        if self.regulariser == "r1":
            return PENALTY["r1"] / 2 * self._gradients(real, labels).flatten(1).square().sum(1).mean()
        return torch.zeros((), device=real.device)

    def _gradients(self, examples: Tensor, labels: Tensor | None) -> Tensor:
        given = examples.detach().requires_grad_()
        scores = self.discriminator(given, labels)
        (found,) = torch.autograd.grad(scores.sum(), given, create_graph=True)
        return found

    def joint_loss(self, real: Tensor, latents: Tensor, labels: Tensor | None) -> Tensor:
        """One scalar, the sum of what both lose, along whose gradient both players descend at once: each player's
        weights, and the gates of its part of a supernet, get the gradient of its own loss alone.

        The generator's loss goes back through the discriminator as far as the examples, by a gradient of its own; from
        there on it is a constant that the generator's output is multiplied with. So it never reaches the
        discriminator's weights and gates, whatever these are. Of second derivatives that way has only those of the
        discriminator's loss.
        """
        made, labels_of_made = self.make(latents, labels)
        given = made.detach().requires_grad_(torch.is_grad_enabled())
        judged = self.discriminator(given, labels_of_made)
        loss = self.discriminator_loss(self.discriminator(real, labels), judged)
        of_generator = self.generator_loss(judged)
        if not torch.is_grad_enabled():
            return loss + of_generator
        loss = loss + self.penalty(real, given, labels)
        (gradient,) = torch.autograd.grad(of_generator, given, retain_graph=True)
        followed = (made * gradient).sum()
        return loss + of_generator.detach() + followed - followed.detach()
