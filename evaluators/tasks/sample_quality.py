"""How good and how various what a generator makes is, by features of real and of made examples, as many of each.

Heusel et al. 2017 (`frechet`), equation 6. Bińkowski, Sutherland, Arbel, Gretton 2018, "Demystifying MMD GANs", ICLR,
section 3 (`kernel`, which is unbiased). Salimans et al. 2016, "Improved Techniques for Training GANs", NeurIPS, section
4 (`inception`). Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models",
NeurIPS, equations 1 and 2 (`precision`, `recall`; k = 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

NEIGHBOURS = 3
SHARE = 0.1
"""A mode is covered where it has at least this part of what would be its even share."""
WITHIN = 3.0
"""Standard deviations from its centre at which a point still is of a Gaussian."""


def compared(real: Tensor, made: Tensor) -> dict[str, float]:
    """The distances and shares that need features alone, (N, features) each."""
    precision, recall = precision_and_recall(real, made)
    found = {"frechet": frechet(real, made), "kernel": kernel(real, made)}
    return {**found, "precision": precision, "recall": recall}


class Given(nn.Module):
    """What torchmetrics is told to read features by, where they are there already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet(real: Tensor, made: Tensor) -> float:
    """The Fréchet distance of the two Gaussians with the features' means and covariances. Biased in N: compare only
    what was measured at the same."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(feature=Given(real.shape[1])).set_dtype(torch.float64).to(real.device)
    distance.update(real.double(), real=True)
    distance.update(made.double(), real=False)
    return max(0.0, float(distance.compute()))


def kernel(real: Tensor, made: Tensor) -> float:
    """The squared maximum mean discrepancy with the kernel (x·y/features + 1)³; it may be a little below 0.

    Of all examples at once: torchmetrics' metric takes means over subsets, which it draws from the global generator.
    """
    from torchmetrics.image.kid import poly_mmd

    return float(poly_mmd(real.double(), made.double()))


def fourier(points: Tensor, widths: tuple[float, float] = (0.1, 0.4)) -> Tensor:
    """Random Fourier features of points, (N, 2) → (N, 64), the same each time: cosines of random waves.

    Means and covariances of the points themselves cannot tell eight Gaussians on a ring from the ring. Rahimi, Recht
    2007, "Random Features for Large-Scale Kernel Machines", NeurIPS, algorithm 1; of Gaussian kernels of two widths.
    """
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(2, 64, generator=generator) / torch.tensor(widths).repeat_interleave(32)
    phases = 2 * torch.pi * torch.rand(64, generator=generator)
    return torch.cos(points @ waves.to(points) + phases.to(points))


def inception(probabilities: Tensor) -> float:
    """exp of the mean divergence of p(class | example) from p(class): from 1 to the number of classes. Torchmetrics'
    draws from the global generator, too."""
    mean = probabilities.mean(0, keepdim=True)
    divergence = torch.xlogy(probabilities, probabilities / mean.clamp_min(1e-30)).sum(1)
    return float(divergence.mean().exp())


def precision_and_recall(real: Tensor, made: Tensor) -> tuple[float, float]:
    """The share of made examples that are no further from some real one than its third neighbour; and the other way."""

    def share(of: Tensor, among: Tensor) -> float:
        radii = torch.cdist(among, among).kthvalue(NEIGHBOURS + 1, dim=1).values  # the first is the example itself
        return float((torch.cdist(of, among) <= radii).any(1).float().mean())

    return share(made, real), share(real, made)


def covered(counts: Tensor, examples: int) -> int:
    """How many of the modes are, by the number of examples in each."""
    return int((counts >= SHARE * examples / len(counts)).sum())


def near_centres(points: Tensor, centres: Tensor, deviation: float) -> Mapping[str, float]:
    """`modes` that are covered, and the share `near` one of them."""
    distance, nearest = torch.cdist(points, centres).min(1)
    near = distance <= WITHIN * deviation
    counts = torch.bincount(nearest[near], minlength=len(centres))
    return {"modes": float(covered(counts, len(points))), "near": float(near.float().mean())}
