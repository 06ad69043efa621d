"""How good and how various what a generator makes is, by features of real and of made examples, as many of each.

Heusel et al. 2017 (`frechet`), equation 6. Bińkowski, Sutherland, Arbel, Gretton 2018, "Demystifying MMD GANs", ICLR,
section 3 (`kernel`, which is unbiased). Salimans et al. 2016, "Improved Techniques for Training GANs", NeurIPS, section
4 (`inception`). Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models",
NeurIPS, equations 1 and 2 (`precision`, `recall`; k = 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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


def frechet(real: Tensor, made: Tensor) -> float:
    """The Fréchet distance of the two Gaussians with the features' means and covariances. Biased in N: compare only
    what was measured at the same. Not torchmetrics', which takes seconds to import; a test compares them."""
    real, made = real.double(), made.double()
    root = _root(torch.cov(real.T))
    covariance = torch.cov(made.T)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp_min(0).sqrt().sum()
    apart = (real.mean(0) - made.mean(0)).square().sum()
    return max(0.0, float(apart + torch.cov(real.T).trace() + covariance.trace() - 2 * cross))


def _root(covariance: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def kernel(real: Tensor, made: Tensor) -> float:
    """The squared maximum mean discrepancy with the kernel (x·y/features + 1)³; it may be a little below 0."""

    def values(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1) ** 3

    def within(of: Tensor) -> Tensor:
        whole = values(of, of)
        return (whole.sum() - whole.trace()) / (len(of) * (len(of) - 1))

    real, made = real.double(), made.double()
    return float(within(real) + within(made) - 2 * values(real, made).mean())


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
    """exp of the mean divergence of p(class | example) from p(class): from 1 to the number of classes."""
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
