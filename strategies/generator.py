"""A generator of architectures that learns to draw good ones, and a surrogate that says which of them are the best.

G(z; θ) turns a random z into an architecture: what z and the picks so far mean (encode), what follows from both
(interact), and the chances of the options of the decision at hand (decode); a decision that the picks do not leave open
is not met, so whatever is drawn is an architecture. Surrogate and generator are trained in turns, each while the other
stands still. The constants are those of AG-Net: Lukasik, Jung, Keuper 2022, "Learning Where To Look: Generative NAS is
Surprisingly Efficient", ECCV, section 3 (weighted retraining, after Tripp et al. 2020), and the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nasengine import Architecture, ArchitectureError, ConfigError

from .rounds import InRounds, ranked
from .sequence import NEVER, Language, Text

LEARNT = 500
"""Only so many of the best results are learnt from: the ranks' weights leave little to the others."""
MOST_BATCHES = 12
"""Of an epoch: from 192 results on, an epoch does not see all of them, and a round takes no longer."""
DRAWS, DRAWS_AMONG_FEW = 9, 1
"""How often more architectures are drawn, first as many as are wanted, then twice as many, and so on, until enough of
them are new; the second under a rule or a constraint, where to look at one is dear."""
RANGE = 3.0
"""z is uniform on [−3, 3]."""


class Generator(InRounds):
    """A generator of architectures and a surrogate of the evaluation, trained in turns (after AG-Net, Lukasik et al.
    2022).

    Unlike AG-Net's, the generator works in any space: it makes the space's decisions one after the other, in place of a
    graph's nodes and edges, and does not have to be trained to make valid ones. The surrogate sees real architectures,
    and how they rank instead of their scores, which outliers do not bend.

    A round learns from the 500 best results at most, so the time that it takes stops growing.

    Options:
        initial: how many networks are random; k, or a quarter of the run's trials where these are few, unless you say.
        k: how many are asked for in a round.
        samples: how many new ones the generator draws, for the surrogate to find the best k of.
        alpha: the surrogate's share in the generator's loss: α · (its prediction for what is generated − the target)²
            + (1 − α) · the negative log-likelihood of what was judged good.
        weight_factor: results are drawn for training with weights 1 / (factor · N + rank), the best has rank 0; the
            smaller, the more of the training goes to the best.
        epochs, surrogate_epochs: of a round's training of the generator and of the surrogate.
        batch_size, learning_rate: of both; their Adam has the betas (0.5, 0.999).
        latent: the length of z.
        hidden: the units of a hidden layer, of both.
    """

    def __init__(
        self,
        *,
        initial: int | None = None,
        k: int = 16,
        samples: int = 100,
        alpha: float = 0.9,
        weight_factor: float = 0.01,
        epochs: int = 30,
        surrogate_epochs: int = 100,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        latent: int = 32,
        hidden: int = 128,
    ) -> None:
        sizes = {"batch_size": batch_size, "latent": latent, "hidden": hidden, "samples": samples}
        super().__init__("generator", k, initial, **sizes, epochs=epochs, surrogate_epochs=surrogate_epochs)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"the strategy 'generator' has alpha = {alpha}; expected 0 to 1")
        if not weight_factor > 0:
            raise ConfigError(f"the strategy 'generator' has weight_factor = {weight_factor}; expected more than 0")
        self.samples, self.alpha, self.weight_factor = samples, alpha, weight_factor
        self.epochs, self.surrogate_epochs, self.batch_size = epochs, surrogate_epochs, batch_size
        self.learning_rate, self.latent, self.hidden = learning_rate, latent, hidden

    def prepare(self) -> None:
        super().prepare()
        self.language, self.torch_rng = Language(self.domain), self.generator()
        width, hidden = self.language.width, self.hidden
        self.network = _layers(self.torch_rng, self.latent + width, hidden, hidden, width)
        self.surrogate = _layers(self.torch_rng, width, hidden, hidden, hidden, 1)
        self._optimizers = [
            torch.optim.Adam(module.parameters(), self.learning_rate, betas=(0.5, 0.999), fused=True)
            for module in (self.network, self.surrogate)
        ]

    def propose(self, count: int) -> list[Architecture]:
        judged, scores = self.results(LEARNT)
        networks = [self.domain.canonical(architecture) for architecture in judged]
        targets, weights = normal_scores(scores), rank_weights(len(scores), self.weight_factor)
        self.fit_surrogate(self.encoded(networks), targets, weights)
        self.fit_generator(self.language.text(networks), targets, weights)
        candidates = self.candidates()
        if not candidates:
            return []
        with torch.no_grad():
            predicted = self.surrogate(self.encoded(candidates))[:, 0]
        return [candidates[index] for index in predicted.argsort(descending=True, stable=True)[:count].tolist()]

    def encoded(self, architectures: Sequence[Architecture]) -> Tensor:
        return torch.from_numpy(np.stack([self.domain.encode(self.domain.canonical(a)) for a in architectures]))

    def fit_surrogate(self, encoded: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Towards the targets of what was judged."""
        for _ in range(self.surrogate_epochs * self._batches(targets)):
            batch = self._chosen(weights)
            loss = functional.mse_loss(self.surrogate(encoded[batch])[:, 0], targets[batch])
            self._optimizers[1].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizers[1].step()

    def fit_generator(self, text: Text, targets: Tensor, weights: Tensor) -> None:
        """Towards what was judged good: by its likelihood, and by what the surrogate expects of what is generated."""
        self.surrogate.requires_grad_(False)
        for _ in range(self.epochs * self._batches(targets)):
            batch = self._chosen(weights)
            log_likelihood, soft = self.generated(text[batch])
            error = (self.surrogate(soft)[:, 0] - targets[batch]).square()
            loss = (self.alpha * error - (1 - self.alpha) * log_likelihood).mean()
            self._optimizers[0].zero_grad()
            loss.backward()
            self._optimizers[0].step()
        self.surrogate.requires_grad_(True)

    def generated(self, text: Text) -> tuple[Tensor, Tensor]:
        """For a z each: the log-likelihood of a pick of the text's, on average, given those before it; and the chances
        of all options, put together as `Domain.encode` puts picks. Shapes (architectures,) and (architectures, width).
        """
        architectures, length = text.tokens.shape
        z = self._latent(architectures)[:, None, :].expand(-1, length, -1)
        picked = functional.one_hot(text.tokens, self.language.width) * text.there[:, :, None]
        before = picked.cumsum(1) - picked
        logits = self.network(torch.cat([z, before], 2)).masked_fill(text.closed, NEVER)
        log_p = functional.log_softmax(logits, 2)
        taken = log_p.gather(2, text.tokens[:, :, None])[:, :, 0] * text.there
        return taken.sum(1) / text.there.sum(1), (logits.softmax(2) * text.there[:, :, None]).sum(1)

    def candidates(self) -> list[Architecture]:
        """At most `samples` networks that are new, drawn by the generator."""
        found: dict[str, Architecture] = {}
        for number in range(1, 1 + (DRAWS if self.domain.violation is None else DRAWS_AMONG_FEW)):
            for drawn in self.draw(number * self.samples):
                with suppress(ArchitectureError):  # none that is allowed is near
                    allowed = drawn if self.domain.allows(drawn) else self.domain.complete(drawn.picks)
                    if self.new(allowed):
                        found.setdefault(self.domain.canonical(allowed).id, allowed)
            if len(found) >= self.samples:
                break
        return list(found.values())[: self.samples]

    @torch.no_grad()
    def draw(self, count: int) -> list[Architecture]:
        z, picked = self._latent(count), torch.zeros(count, self.language.width)

        def logits(rows: list[int], last: Tensor | None) -> Tensor:
            if last is not None:
                picked[rows, last] = 1
            return self.network(torch.cat([z[rows], picked[rows]], 1))  # type: ignore[no-any-return]

        def pick(logits: Tensor) -> Tensor:
            return torch.multinomial(logits.softmax(1), 1, generator=self.torch_rng)[:, 0]

        return self.language.compose(count, logits, pick)

    def _latent(self, count: int) -> Tensor:
        return RANGE * (2 * torch.rand(count, self.latent, generator=self.torch_rng) - 1)

    def _chosen(self, weights: Tensor) -> Tensor:
        return torch.multinomial(weights, self.batch_size, replacement=True, generator=self.torch_rng)

    def _batches(self, targets: Tensor) -> int:
        return min(MOST_BATCHES, math.ceil(len(targets) / self.batch_size))


def rank_weights(count: int, factor: float) -> Tensor:
    """1 / (factor · count + rank) for the ranks from 0 on. Shape (count,)."""
    return 1 / (factor * count + torch.arange(count, dtype=torch.float32))


def normal_scores(scores: NDArray[np.float64]) -> Tensor:
    """As far from the middle as so many draws from a normal distribution would be, in the scores' order."""
    count = len(scores)
    shares = (ranked(scores).astype(float) * (count - 1) + 0.5) / count
    return torch.tensor([NormalDist().inv_cdf(share) for share in shares], dtype=torch.float32)


def _layers(generator: torch.Generator, *sizes: int) -> nn.Sequential:
    """Fully connected, with ReLUs between them; weights as by Glorot and Bengio 2010, biases zero."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
