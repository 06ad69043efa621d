"""One generator and MAD-GAN on a ring of eight Gaussians in plain torch, without nasengine: what the number of modes
depends on. Several seeds learn at once, as batched matrix products.

Ghosh, Kulharia, Namboodiri, Torr, Dokania 2018, "Multi-Agent Diverse Generative Adversarial Networks", CVPR. Players
have two layers of 128 ReLU units, Adam (1e-3 unless asked, 0.5, 0.999), batches of 128, 32 latents; the generator is
judged by its moving average. A mode is covered where a tenth of its even share of 2,500 points lies within three
standard deviations.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from report import machine, mean, parser, print_head, print_table, versions
from torch import Tensor
from torch.nn import functional

UNITS, LATENTS, BATCH, JUDGED = 128, 32, 128, 2_500
ANGLES = torch.arange(8) * (2 * math.pi / 8)
CENTRES = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)


@dataclass(frozen=True)
class Setting:
    """What is different. shared: whether generators share a batch out among them, or have one each. cut: whether each
    has a part of the first latent's values only. weight: of each generator in the discriminator's loss, the data's
    being 1; by default that of all together is 1. norm: whether the generators have batch normalisation. zero: whether
    the discriminator's biases begin at zero."""

    name: str
    generators: int = 4
    shared: bool = False
    cut: bool = False
    weight: float | None = None
    norm: bool = True
    saturating: bool = False
    zero: bool = False


SETTINGS = (
    Setting("one generator", 1),
    Setting("MAD-GAN of four"),
    Setting("four, a batch shared", shared=True),
    Setting("four, latents cut", cut=True),
    Setting("four, a batch shared and latents cut", shared=True, cut=True),
    Setting("four, each weighs as the data (the paper)", weight=1.0),
    Setting("one, minimax loss", 1, saturating=True),
    Setting("one, no normalisation", 1, norm=False),
    Setting("four, no normalisation", norm=False),
    Setting("one, biases from zero on", 1, zero=True),
    Setting("four, biases from zero on", zero=True),
)


class Layers:
    """Perceptrons of all seeds, and of several generators: (seeds, networks, examples, numbers)."""

    def __init__(self, chances: Sequence[torch.Generator], networks: int, before: int, after: int, norm: bool) -> None:
        def drawn(bound: float, *shape: int) -> Tensor:
            each = [torch.empty(networks, *shape).uniform_(-bound, bound, generator=chance) for chance in chances]
            return torch.stack(each).requires_grad_()

        sizes = [before, UNITS, UNITS, after]
        self.layers = [(drawn(1 / math.sqrt(a), a, b), drawn(1 / math.sqrt(a), 1, b)) for a, b in pairwise(sizes)]
        shape = (len(chances), networks, 1, UNITS)
        self.scales = [torch.ones(shape, requires_grad=True) for _ in range(2 * norm)]
        self.shifts = [torch.zeros(shape, requires_grad=True) for _ in range(2 * norm)]
        self.means = [torch.zeros(shape) for _ in self.scales]
        self.variances = [torch.ones(shape) for _ in self.scales]

    @property
    def weights(self) -> list[Tensor]:
        return [*(weight for layer in self.layers for weight in layer), *self.scales, *self.shifts]

    @property
    def state(self) -> list[Tensor]:
        return [*self.weights, *self.means, *self.variances]

    def __call__(self, x: Tensor, learning: bool = True) -> Tensor:
        for index, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if index < len(self.scales):
                x = self._normalised(index, x, learning)
            x = functional.relu(x) if index < 2 else x
        return x

    def _normalised(self, index: int, x: Tensor, learning: bool) -> Tensor:
        middle, variance = self.means[index], self.variances[index]
        if learning:
            middle, variance = x.mean(2, keepdim=True), x.var(2, keepdim=True, unbiased=False)
            with torch.no_grad():
                self.means[index].lerp_(middle, 0.1)
                self.variances[index].lerp_(variance, 0.1)
        return (x - middle) / (variance + 1e-5).sqrt() * self.scales[index] + self.shifts[index]


class Learning:
    """The two players of one setting, with several seeds at once."""

    def __init__(self, setting: Setting, deviation: float, seeds: range, rate: float) -> None:
        self.setting, self.deviation, self.k = setting, deviation, setting.generators
        self.chances = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.generators = Layers(self.chances, self.k, LATENTS, 2, setting.norm)
        self.discriminator = Layers(self.chances, 1, 2, 1 if self.k == 1 else self.k + 1, False)
        with torch.no_grad():
            for _, bias in self.discriminator.layers:
                bias.mul_(float(not setting.zero))
        self.painter, self.critic = (
            torch.optim.Adam(player.weights, rate, betas=(0.5, 0.999))
            for player in (self.generators, self.discriminator)
        )
        self.average = [tensor.detach().clone() for tensor in self.generators.state]
        self.each = BATCH // self.k if setting.shared else BATCH

    def drawn(self, what: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([what(chance) for chance in self.chances])

    def latents(self, count: int) -> Tensor:
        z = self.drawn(lambda chance: torch.randn(self.k, count, LATENTS, generator=chance))
        if self.setting.cut and self.k > 1:
            normal, number = torch.distributions.Normal(0.0, 1.0), torch.arange(self.k).view(1, self.k, 1)
            share = (normal.cdf(z[..., 0]) + number) / self.k  # type: ignore[no-untyped-call]
            z[..., 0] = normal.icdf(share.clamp(1e-6, 1 - 1e-6))  # type: ignore[no-untyped-call]
        return z

    def real(self) -> Tensor:
        modes = self.drawn(lambda chance: torch.randint(8, (BATCH,), generator=chance))
        return CENTRES[modes] + self.deviation * self.drawn(lambda chance: torch.randn(BATCH, 2, generator=chance))

    def judged(self, made: Tensor) -> Tensor:
        """The discriminator's scores of what each generator made: (seeds, generators, examples, scores)."""
        scores = self.discriminator(made.flatten(1, 2).unsqueeze(1))
        return scores.view(*made.shape[:3], -1)

    def step(self, number: int) -> None:
        made = self.generators(self.latents(self.each))
        self._descend(
            self.critic, self.critics_loss(self.discriminator(self.real().unsqueeze(1)), self.judged(made.detach()))
        )
        self._descend(self.painter, self.painters_loss(self.judged(made)))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.generators.state, 1 - min(0.99, (1 + number) / (10 + number)))

    def critics_loss(self, real: Tensor, made: Tensor) -> Tensor:
        if self.k == 1:
            return (functional.softplus(-real) + functional.softplus(made)).mean((1, 2, 3)).sum()
        names = torch.arange(self.k).view(1, self.k, 1, 1).expand(*made.shape[:3], 1)
        of_made = -made.log_softmax(-1).gather(-1, names).mean((2, 3)).sum(1)
        of_real = -real.log_softmax(-1)[..., self.k].mean((1, 2))
        return (of_real + of_made * (self.setting.weight or 1 / self.k)).sum()

    def painters_loss(self, made: Tensor) -> Tensor:
        if self.k > 1:
            return -made.log_softmax(-1)[..., self.k].mean(2).sum()
        signs = functional.softplus(-made) if not self.setting.saturating else -functional.softplus(made)
        return signs.mean((1, 2, 3)).sum()

    def _descend(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()

    @torch.no_grad()
    def found(self) -> list[tuple[float, float]]:
        """For each seed the share of points near a mode, and the modes covered, by the averaged generators."""
        learnt = [tensor.detach().clone() for tensor in self.generators.state]
        for tensor, averaged in zip(self.generators.state, self.average, strict=True):
            tensor.copy_(averaged)
        points = self.generators(self.latents(JUDGED // self.k), learning=False).flatten(1, 2)
        for tensor, before in zip(self.generators.state, learnt, strict=True):
            tensor.copy_(before)
        rows = []
        for of_seed in points:
            distance, mode = torch.cdist(of_seed, CENTRES).min(1)
            near = distance <= 3 * self.deviation
            counts = torch.bincount(mode[near], minlength=8)
            rows.append((float(near.float().mean()), float((counts >= 0.1 * len(of_seed) / 8).sum())))
        return rows


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--deviations", nargs="+", type=float, default=[0.01, 0.05], help="of each Gaussian")
    options.add_argument("--steps", type=int, default=1_344, help="default: 1344")
    options.add_argument("--seeds", type=int, default=3, help="from 100 on (default: 3)")
    options.add_argument("--learning-rate", type=float, default=1e-3, help="of both players (default: 0.001)")
    options.add_argument("--only", type=int, nargs="+", default=list(range(len(SETTINGS))), help="rows, from 0")
    given = options.parse_args()
    if given.quick:
        given.steps, given.seeds = 3, 2
    torch.set_num_threads(1)
    facts = {
        "machine": machine(), "versions": versions(),
        "asked": f"{given.steps:,} steps at {given.learning_rate:g}; 1 thread",
        "seeds": f"100 to {99 + given.seeds}",
        "repetitions": "as many as seeds; near: mean ± standard deviation, modes: mean (least–most)",
    }  # fmt: skip
    print_head("A ring of Gaussians in plain torch", facts, given.markdown)
    rows = []
    for setting in (SETTINGS[index] for index in given.only):
        row = [setting.name]
        for deviation in given.deviations:
            learning = Learning(setting, deviation, range(100, 100 + given.seeds), given.learning_rate)
            for number in range(1, given.steps + 1):
                learning.step(number)
            near, modes = zip(*learning.found(), strict=True)
            row += [mean(near, 2), f"{statistics.fmean(modes):.1f} ({min(modes):.0f}–{max(modes):.0f})"]
        print(" | ".join(row), file=sys.stderr)
        rows.append(row)
    columns = [f"{what}, {deviation:g}" for deviation in given.deviations for what in ("near", "modes")]
    print_table(["setting", *columns], rows, given.markdown)


if __name__ == "__main__":
    main()
